//! One suite for every implementation of the store: what the rest of the runtime relies on.
//!
//! Each test runs against the memory store and against a real etcd, through a proxy that can
//! break the connection. What only etcd has (members, users, TLS, restarts) is in `etcd_only`.

mod etcd_only;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use steading::coordination::store::{
    Compare, Entry, Event, Op, Store, StoreError, Txn, TxnReply, WatchBatch, WatchStream,
};
use steading::coordination::{EtcdSettings, EtcdStore, MemoryStore};
use steading::ids::{LeaseId, Revision};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::proxy::{Path, Proxy};
use steading_integration_tests::{LIMIT, until};
use tokio::sync::OnceCell;
use tokio::time::{Instant, interval, timeout};

const NEVER: Revision = Revision::new(0);
const TTL: Duration = Duration::from_secs(2);

/// A store under test.
struct Subject {
    /// Two clients of the same store.
    store: Arc<dyn Store>,
    other: Arc<dyn Store>,
    /// Begins every key of this test: some tests share an etcd.
    prefix: &'static str,
    kind: Kind,
    /// An etcd that no other test uses.
    own: Option<Etcd>,
}

enum Kind {
    Memory(MemoryStore),
    /// With the proxy between the first client and etcd.
    Etcd(Proxy),
}

impl Subject {
    fn memory(prefix: &'static str) -> Self {
        let memory = MemoryStore::new();
        Self {
            store: Arc::new(memory.clone()),
            other: Arc::new(memory.client()),
            prefix,
            kind: Kind::Memory(memory),
            own: None,
        }
    }

    async fn etcd(prefix: &'static str) -> Self {
        static SHARED: OnceCell<Etcd> = OnceCell::const_new();
        Self::on(SHARED.get_or_init(Etcd::start).await, prefix).await
    }

    /// On an etcd of its own, which the test may spoil for others.
    async fn own_etcd(prefix: &'static str) -> Self {
        let etcd = Etcd::start().await;
        let subject = Self::on(&etcd, prefix).await;
        Self {
            own: Some(etcd),
            ..subject
        }
    }

    async fn on(etcd: &Etcd, prefix: &'static str) -> Self {
        let proxy = Proxy::start(etcd.address()).await;
        let proxied = format!("http://{}", proxy.address());
        Self {
            store: Arc::new(connect(EtcdSettings::new([proxied])).await),
            other: Arc::new(connect(EtcdSettings::new([etcd.endpoint()])).await),
            prefix,
            kind: Kind::Etcd(proxy),
            own: None,
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// Breaks every stream that the first client has open.
    fn break_streams(&self) {
        match &self.kind {
            Kind::Memory(memory) => memory.faults().break_watches(),
            Kind::Etcd(proxy) => {
                proxy.set(Path::Broken);
                proxy.set(Path::Open);
            }
        }
    }

    async fn compact(&self, revision: Revision) {
        match &self.kind {
            Kind::Memory(memory) => memory.compact(revision),
            Kind::Etcd(_) => {
                let mut client = self.own.as_ref().expect("an own etcd").client().await;
                let revision = revision.get().try_into().expect("small");
                client.compact(revision, None).await.expect("etcd runs");
            }
        }
    }

    fn put(&self, name: &str, value: &str) -> Op {
        self.put_under(name, value, None)
    }

    fn put_under(&self, name: &str, value: &str, lease: Option<LeaseId>) -> Op {
        Op::Put {
            key: self.key(name),
            value: value.into(),
            lease,
        }
    }

    async fn write(&self, then: Vec<Op>) -> Revision {
        self.commit(vec![], then, vec![]).await.revision
    }

    async fn commit(&self, compares: Vec<Compare>, then: Vec<Op>, otherwise: Vec<Op>) -> TxnReply {
        let txn = Txn {
            compares,
            then,
            otherwise,
        };
        self.store.commit(txn).await.expect("a good transaction")
    }

    async fn entries(&self) -> Vec<Entry> {
        let listing = self.store.list(&self.key("")).await;
        listing.expect("the store runs").entries
    }

    async fn names(&self) -> Vec<String> {
        let entries = self.entries().await;
        let name = |entry: Entry| entry.key[self.prefix.len() + 1..].to_owned();
        entries.into_iter().map(name).collect()
    }

    async fn watch(&self, from: Revision) -> WatchStream {
        let watch = self.store.watch(&self.key(""), from).await;
        watch.expect("the store runs")
    }
}

async fn connect(settings: EtcdSettings) -> EtcdStore {
    EtcdStore::connect(settings).await.expect("etcd runs")
}

async fn next(stream: &mut WatchStream) -> Result<WatchBatch, StoreError> {
    let next = timeout(LIMIT, stream.next()).await.expect("in time");
    next.expect("a watch ends only after an error")
}

/// Reads a watch until it has brought everything up to `revision`.
async fn events_until(stream: &mut WatchStream, revision: Revision) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let batch = next(stream).await.expect("the watch goes on");
        let newest = batch.events.iter().map(revision_of).max();
        assert!(newest <= Some(batch.revision), "{batch:?}");
        events.extend(batch.events);
        if batch.revision >= revision {
            return events;
        }
    }
}

fn revision_of(event: &Event) -> Revision {
    match event {
        Event::Put(entry) => entry.mod_revision,
        Event::Delete { revision, .. } => *revision,
    }
}

fn after(revision: Revision) -> Revision {
    Revision::new(revision.get() + 1)
}

async fn lists_a_prefix_in_order(subject: Subject) {
    let written = subject
        .write(vec![
            subject.put("b", "2"),
            subject.put("ä/ü", "3"),
            subject.put("a", "1"),
        ])
        .await;
    let mut past = subject.key("").into_bytes();
    *past.last_mut().expect("a slash") += 1;
    let neighbour = String::from_utf8(past).expect("ASCII");
    let op = Op::Put {
        key: neighbour,
        value: vec![],
        lease: None,
    };
    subject.write(vec![op]).await;
    let listing = subject.store.list(&subject.key("")).await.expect("runs");
    assert!(listing.revision > written);
    let entry = |name: &str, value: &str| Entry {
        key: subject.key(name),
        value: value.into(),
        create_revision: written,
        mod_revision: written,
    };
    let expected = [entry("a", "1"), entry("b", "2"), entry("ä/ü", "3")];
    assert_eq!(listing.entries, expected);
}

async fn an_absent_key_was_created_and_modified_at_zero(subject: Subject) {
    let key = subject.key("k");
    for compare in [
        Compare::Created(key.clone(), NEVER),
        Compare::Modified(key.clone(), NEVER),
    ] {
        let then = vec![subject.put("k", "v")];
        let otherwise = vec![Op::Get(key.clone())];
        let first = subject
            .commit(vec![compare.clone()], then.clone(), otherwise.clone())
            .await;
        assert!(first.succeeded && first.reads.is_empty(), "{first:?}");
        let second = subject.commit(vec![compare], then, otherwise).await;
        assert!(!second.succeeded, "{second:?}");
        let read = second.reads[0].as_ref().expect("it exists");
        assert_eq!(
            (read.value.as_slice(), read.mod_revision),
            (&b"v"[..], first.revision)
        );
        subject.write(vec![Op::Delete(key.clone())]).await;
    }
}

async fn p16_compares_hold_at_their_revision_only(subject: Subject) {
    let key = subject.key("k");
    let created = subject.write(vec![subject.put("k", "1")]).await;
    let modified = subject.write(vec![subject.put("k", "2")]).await;
    let succeeds = async |compares: Vec<Compare>| {
        let reply = subject.commit(compares, vec![], vec![]).await;
        assert_eq!(reply.revision, modified, "nothing was written");
        reply.succeeded
    };
    let at = |created, modified| {
        vec![
            Compare::Created(key.clone(), created),
            Compare::Modified(key.clone(), modified),
        ]
    };
    assert!(succeeds(at(created, modified)).await);
    assert!(!succeeds(at(created, created)).await, "all must hold");
    assert!(!succeeds(at(modified, modified)).await, "all must hold");
    assert!(!succeeds(at(NEVER, modified)).await, "all must hold");
}

async fn writes_of_a_transaction_share_its_revision(subject: Subject) {
    subject.write(vec![subject.put("old", "1")]).await;
    let reply = subject
        .commit(
            vec![],
            vec![
                subject.put("a", "1"),
                Op::Delete(subject.key("old")),
                Op::Get(subject.key("a")),
                Op::Get(subject.key("old")),
                subject.put("b", "1"),
            ],
            vec![],
        )
        .await;
    assert_eq!(reply.reads.len(), 2);
    assert_eq!(
        reply.reads[0].as_ref().map(|a| a.mod_revision),
        Some(reply.revision)
    );
    assert_eq!(reply.reads[1], None);
    let entries = subject.entries().await;
    assert!(
        entries
            .iter()
            .all(|entry| entry.mod_revision == reply.revision)
    );
}

async fn what_changes_nothing_makes_no_revision(subject: Subject) {
    let revision = subject.write(vec![subject.put("a", "1")]).await;
    let absent = vec![Op::Delete(subject.key("absent"))];
    let read = vec![Op::Get(subject.key("a"))];
    assert_eq!(subject.write(absent).await, revision);
    assert_eq!(subject.write(read).await, revision);
}

async fn a_key_made_again_has_a_new_create_revision(subject: Subject) {
    let first = subject.write(vec![subject.put("a", "1")]).await;
    subject.write(vec![Op::Delete(subject.key("a"))]).await;
    let second = subject.write(vec![subject.put("a", "1")]).await;
    assert!(second > first);
    assert_eq!(subject.entries().await[0].create_revision, second);
}

async fn a_key_written_twice_in_a_transaction_is_refused(subject: Subject) {
    for again in [subject.put("a", "2"), Op::Delete(subject.key("a"))] {
        let txn = Txn {
            then: vec![subject.put("a", "1"), again],
            ..Txn::default()
        };
        let error = subject.store.commit(txn).await.expect_err("twice");
        assert!(matches!(error, StoreError::Protocol(_)), "{error}");
    }
    assert!(subject.entries().await.is_empty());
}

async fn a_transaction_takes_128_operations_and_no_more(subject: Subject) {
    let absent = |i| Compare::Created(subject.key(&format!("{i:03}")), NEVER);
    let put = |i| subject.put(&format!("{i:03}"), "1");
    let txn = |compares, ops| Txn {
        compares: (0..compares).map(absent).collect(),
        then: (0..ops).map(put).collect(),
        otherwise: vec![],
    };
    for too_large in [txn(129, 1), txn(1, 129)] {
        let error = subject
            .store
            .commit(too_large)
            .await
            .expect_err("too large");
        let told = matches!(error, StoreError::TooManyOperations { operations: 129 });
        assert!(told, "{error}");
    }
    assert!(subject.entries().await.is_empty());
    let full = subject.store.commit(txn(128, 128)).await.expect("fits");
    assert!(full.succeeded);
    assert_eq!(subject.entries().await.len(), 128);
}

async fn m8_of_many_racing_clients_one_creates_the_key(subject: Subject) {
    let race = (0..32).map(|i| {
        let store = [&subject.store, &subject.other][i % 2];
        store.commit(Txn {
            compares: vec![Compare::Created(subject.key("leader"), NEVER)],
            then: vec![subject.put("leader", &i.to_string())],
            otherwise: vec![],
        })
    });
    let replies = join_all(race).await;
    let won = |reply: &Result<TxnReply, StoreError>| reply.as_ref().expect("runs").succeeded;
    assert_eq!(replies.iter().filter(|reply| won(reply)).count(), 1);
    let winner = replies.iter().position(won).expect("one won");
    assert_eq!(
        subject.entries().await[0].value,
        winner.to_string().into_bytes()
    );
}

async fn every_shard_can_be_claimed_in_batches(subject: Subject) {
    let batches = (0..64).map(|block| {
        let key = |i: usize| format!("owner/{:05}", block * 128 + i);
        subject.store.commit(Txn {
            compares: (0..128)
                .map(|i| Compare::Created(subject.key(&key(i)), NEVER))
                .collect(),
            then: (0..128)
                .map(|i| subject.put(&key(i), "{\"node\":\"n1\"}"))
                .collect(),
            otherwise: vec![],
        })
    });
    let replies = futures::stream::iter(batches)
        .buffered(16)
        .collect::<Vec<_>>()
        .await;
    assert!(
        replies
            .iter()
            .all(|reply| reply.as_ref().expect("runs").succeeded)
    );
    assert_eq!(subject.entries().await.len(), 8192);
}

async fn an_answer_may_be_large(subject: Subject) {
    let megabyte = "x".repeat(1 << 20);
    for i in 0..6 {
        subject
            .write(vec![subject.put(&i.to_string(), &megabyte)])
            .await;
    }
    let len: usize = subject
        .entries()
        .await
        .iter()
        .map(|entry| entry.value.len())
        .sum();
    assert_eq!(len, 6 << 20);
    let first = subject.entries().await[0].mod_revision;
    let last = subject.entries().await[5].mod_revision;
    let mut stream = subject.watch(first).await;
    assert_eq!(events_until(&mut stream, last).await.len(), 6);
}

async fn m10_a_lease_ends_with_its_keys_in_one_revision(subject: Subject) {
    let granted = Instant::now();
    let lease = subject.store.grant(TTL).await.expect("runs");
    let put = |name| subject.put_under(name, "1", Some(lease));
    subject
        .write(vec![put("a"), put("b"), put("detached")])
        .await;
    let kept = subject.write(vec![subject.put("detached", "2")]).await;
    let mut stream = subject.watch(after(kept)).await;
    let mut gone = vec![];
    while gone.is_empty() {
        gone = next(&mut stream).await.expect("goes on").events;
    }
    assert!(granted.elapsed() >= TTL);
    let revision = revision_of(&gone[0]);
    let delete = |name| Event::Delete {
        key: subject.key(name),
        revision,
    };
    gone.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(gone, [delete("a"), delete("b")]);
    assert_eq!(subject.names().await, ["detached"]);
}

async fn m11_a_lease_lives_while_it_is_kept_alive(subject: Subject) {
    let lease = subject.store.grant(TTL).await.expect("runs");
    subject
        .write(vec![subject.put_under("a", "1", Some(lease))])
        .await;
    let mut keep_alive = subject.store.keep_alive(lease).await.expect("runs");
    let start = Instant::now();
    let mut ticks = interval(TTL / 5);
    while start.elapsed() < TTL * 2 {
        ticks.tick().await;
        keep_alive.ping().await.expect("alive");
    }
    assert_eq!(subject.names().await, ["a"]);
}

async fn m3_a_revoked_lease_takes_its_keys_at_once(subject: Subject) {
    let lease = subject
        .store
        .grant(Duration::from_mins(1))
        .await
        .expect("runs");
    let put = |name| subject.put_under(name, "1", Some(lease));
    let made = subject.write(vec![put("a"), put("b")]).await;
    let mut open = subject.store.keep_alive(lease).await.expect("alive");
    subject.store.revoke(lease).await.expect("runs");
    subject
        .store
        .revoke(lease)
        .await
        .expect("gone already is fine");
    assert!(subject.entries().await.is_empty());
    let mut stream = subject.watch(after(made)).await;
    let gone = next(&mut stream).await.expect("goes on").events;
    assert_eq!(gone.len(), 2);
    assert_eq!(revision_of(&gone[0]), revision_of(&gone[1]));
    assert_gone(lease, open.ping().await);
    assert_gone(lease, subject.store.keep_alive(lease).await.map(drop));
    let txn = Txn {
        then: vec![put("a")],
        ..Txn::default()
    };
    assert_gone(lease, subject.store.commit(txn).await.map(drop));
    assert!(subject.entries().await.is_empty());
}

fn assert_gone(lease: LeaseId, result: Result<(), StoreError>) {
    let error = result.expect_err("the lease is gone");
    assert!(
        matches!(error, StoreError::LeaseGone(gone) if gone == lease),
        "{error}"
    );
}

async fn a_lease_that_never_was_is_gone(subject: Subject) {
    let lease = LeaseId::new(4711);
    assert_gone(lease, subject.store.keep_alive(lease).await.map(drop));
    subject
        .store
        .revoke(lease)
        .await
        .expect("gone already is fine");
}

async fn a_watch_tells_the_past_and_what_follows(subject: Subject) {
    let first = subject
        .write(vec![subject.put("a", "1"), subject.put("b", "1")])
        .await;
    subject.write(vec![subject.put("a", "2")]).await;
    let mut stream = subject.watch(first).await;
    let deleted = subject.write(vec![Op::Delete(subject.key("a"))]).await;
    let events = events_until(&mut stream, deleted).await;
    let told: Vec<_> = events
        .iter()
        .map(|event| match event {
            Event::Put(entry) => (entry.key.as_str(), Some(entry.value.as_slice())),
            Event::Delete { key, .. } => (key.as_str(), None),
        })
        .collect();
    let (a, b) = (subject.key("a"), subject.key("b"));
    let (one, two) = (Some(&b"1"[..]), Some(&b"2"[..]));
    assert_eq!(told, [(a.as_str(), one), (&b, one), (&a, two), (&a, None)]);
    assert_eq!(revision_of(&events[3]), deleted);
}

async fn a_watch_sees_its_prefix_only_and_nothing_before_its_start(subject: Subject) {
    let early = subject.write(vec![subject.put("in/a", "early")]).await;
    let start = after(after(early)); // In a future of which one revision is still to be skipped.
    let inside = subject.store.watch(&subject.key("in/"), start).await;
    let mut inside = inside.expect("runs");
    let skipped = subject.write(vec![subject.put("in/a", "skipped")]).await;
    subject.write(vec![subject.put("outside", "1")]).await;
    let last = subject.write(vec![subject.put("in/a", "last")]).await;
    let seen = events_until(&mut inside, last).await;
    // Others share the etcd, so that the skipped one may be past the start.
    let expected = if skipped < start { 1 } else { 2 };
    assert_eq!(seen.len(), expected, "{seen:?}");
    assert!(matches!(&seen[expected - 1], Event::Put(entry) if entry.value == b"last"));
}

async fn a_watch_never_splits_a_revision(subject: Subject) {
    let count = 40;
    let first = subject.write(vec![subject.put("000", "start")]).await;
    for round in 0..count {
        let put = |i: usize| subject.put(&format!("{i:03}"), &format!("{round}"));
        subject.write((0..128).map(put).collect()).await;
    }
    let last = subject.entries().await[0].mod_revision;
    let mut stream = subject.watch(after(first)).await;
    let mut rounds = 0;
    while rounds < count {
        let batch = next(&mut stream).await.expect("goes on");
        assert!(batch.revision <= last);
        assert_eq!(batch.events.len() % 128, 0, "a revision is split");
        rounds += batch.events.len() / 128;
    }
}

async fn m14_a_broken_watch_resumes_without_loss(subject: Subject) {
    let first = subject.write(vec![subject.put("a", "1")]).await;
    let mut stream = subject.watch(first).await;
    let mut seen = events_until(&mut stream, first).await;
    subject.break_streams();
    let error = next(&mut stream).await.expect_err("broken");
    assert!(error.is_transient(), "{error}");
    assert!(stream.next().await.is_none(), "the first error is the last");
    let missed = subject.write(vec![subject.put("b", "1")]).await;
    let mut stream = subject.watch(after(first)).await;
    let last = subject.write(vec![subject.put("c", "1")]).await;
    seen.extend(events_until(&mut stream, last).await);
    let revisions: Vec<_> = seen.iter().map(revision_of).collect();
    assert_eq!(revisions, [first, missed, last]);
}

async fn a_compacted_watch_asks_for_a_new_list(subject: Subject) {
    let first = subject.write(vec![subject.put("a", "1")]).await;
    let last = subject.write(vec![subject.put("a", "2")]).await;
    subject.compact(last).await;
    let error = match subject.store.watch(&subject.key(""), first).await {
        Ok(mut stream) => next(&mut stream).await.expect_err("compacted"),
        Err(error) => error,
    };
    let told = matches!(error, StoreError::Compacted(revision) if revision == last);
    assert!(told && !error.is_transient(), "{error:?}");
    let listing = subject.store.list(&subject.key("")).await.expect("runs");
    assert_eq!(listing.entries[0].value, b"2");
    let mut stream = subject.watch(after(listing.revision)).await;
    let new = subject.write(vec![subject.put("a", "3")]).await;
    assert_eq!(events_until(&mut stream, new).await.len(), 1);
}

async fn a_compaction_beside_a_watch_does_not_harm_it(subject: Subject) {
    let first = subject.write(vec![subject.put("a", "1")]).await;
    let mut stream = subject.watch(first).await;
    events_until(&mut stream, first).await;
    let last = subject.write(vec![subject.put("a", "2")]).await;
    events_until(&mut stream, last).await;
    subject.compact(last).await;
    let new = subject.write(vec![subject.put("a", "3")]).await;
    assert_eq!(events_until(&mut stream, new).await.len(), 1);
}

macro_rules! suite {
    ($($etcd:ident { $($test:ident,)* })*) => {
        mod on_memory {
            use super::Subject;
            $($(#[tokio::test(start_paused = true)]
            async fn $test() {
                super::$test(Subject::memory(stringify!($test))).await;
            })*)*
        }

        mod on_etcd {
            use super::Subject;
            $($(#[tokio::test]
            async fn $test() {
                super::$test(Subject::$etcd(stringify!($test)).await).await;
            })*)*
        }
    };
}

suite! {
    etcd {
        lists_a_prefix_in_order,
        an_absent_key_was_created_and_modified_at_zero,
        writes_of_a_transaction_share_its_revision,
        a_key_made_again_has_a_new_create_revision,
        a_key_written_twice_in_a_transaction_is_refused,
        a_transaction_takes_128_operations_and_no_more,
        m8_of_many_racing_clients_one_creates_the_key,
        every_shard_can_be_claimed_in_batches,
        m10_a_lease_ends_with_its_keys_in_one_revision,
        m11_a_lease_lives_while_it_is_kept_alive,
        m3_a_revoked_lease_takes_its_keys_at_once,
        a_lease_that_never_was_is_gone,
        a_watch_tells_the_past_and_what_follows,
        a_watch_sees_its_prefix_only_and_nothing_before_its_start,
        a_watch_never_splits_a_revision,
        m14_a_broken_watch_resumes_without_loss,
    }
    own_etcd {
        p16_compares_hold_at_their_revision_only,
        what_changes_nothing_makes_no_revision,
        an_answer_may_be_large,
        a_compacted_watch_asks_for_a_new_list,
        a_compaction_beside_a_watch_does_not_harm_it,
    }
}
