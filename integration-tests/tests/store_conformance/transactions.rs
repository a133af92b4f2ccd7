//! What a transaction proves, reads and writes.

use futures::StreamExt;
use futures::future::join_all;
use steading::coordination::store::{Compare, Entry, Op, StoreError, Txn, TxnReply};
use steading::ids::Revision;

use crate::subject::{Subject, events_until};

/// The revision at which a key that does not exist was created and modified.
const NEVER: Revision = Revision::new(0);

pub(super) async fn lists_a_prefix_in_order(subject: Subject) {
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
        lease: None,
    };
    let expected = [entry("a", "1"), entry("b", "2"), entry("ä/ü", "3")];
    assert_eq!(listing.entries, expected);
}

pub(super) async fn an_absent_key_was_created_and_modified_at_zero(subject: Subject) {
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

pub(super) async fn p16_compares_hold_at_their_revision_only(subject: Subject) {
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

pub(super) async fn writes_of_a_transaction_share_its_revision(subject: Subject) {
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

pub(super) async fn what_changes_nothing_makes_no_revision(subject: Subject) {
    let revision = subject.write(vec![subject.put("a", "1")]).await;
    let absent = vec![Op::Delete(subject.key("absent"))];
    let read = vec![Op::Get(subject.key("a"))];
    assert_eq!(subject.write(absent).await, revision);
    assert_eq!(subject.write(read).await, revision);
}

pub(super) async fn a_key_made_again_has_a_new_create_revision(subject: Subject) {
    let first = subject.write(vec![subject.put("a", "1")]).await;
    subject.write(vec![Op::Delete(subject.key("a"))]).await;
    let second = subject.write(vec![subject.put("a", "1")]).await;
    assert!(second > first);
    assert_eq!(subject.entries().await[0].create_revision, second);
}

pub(super) async fn a_key_written_twice_in_a_transaction_is_refused(subject: Subject) {
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

pub(super) async fn a_transaction_takes_128_operations_and_no_more(subject: Subject) {
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

pub(super) async fn m8_of_many_racing_clients_one_creates_the_key(subject: Subject) {
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

pub(super) async fn every_shard_can_be_claimed_in_batches(subject: Subject) {
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

pub(super) async fn an_answer_may_be_large(subject: Subject) {
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
