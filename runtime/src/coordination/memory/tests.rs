//! What only the memory store does: faults, and a paused clock. What it has in common with etcd
//! is in the conformance suite.

use futures::FutureExt;
use tokio::time::advance;

use super::*;
use crate::coordination::store::{Compare, Event, Op, WatchBatch};

const TTL: Duration = Duration::from_secs(5);

fn put(key: &str, lease: Option<LeaseId>) -> Txn {
    Txn {
        then: vec![Op::Put {
            key: key.into(),
            value: b"v".to_vec(),
            lease,
        }],
        ..Txn::default()
    }
}

async fn keys(store: &MemoryStore) -> Vec<String> {
    let listing = store.list("").await.expect("connected");
    listing.entries.into_iter().map(|entry| entry.key).collect()
}

async fn next(stream: &mut WatchStream) -> Result<WatchBatch, StoreError> {
    stream.next().await.expect("ends only after an error")
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_on_the_paused_clock_and_wakes_its_watcher() {
    let store = MemoryStore::new();
    let lease = store.grant(TTL).await.unwrap();
    let made = store.commit(put("a", Some(lease))).await.unwrap().revision;
    store.commit(put("b", Some(lease))).await.unwrap();
    let from = Revision::new(made.get() + 2);
    let start = Instant::now();
    let mut stream = store.watch("", from).await.unwrap();
    let batch = next(&mut stream).await.unwrap();
    assert_eq!(start.elapsed(), TTL);
    let gone = |key: &str| Event::Delete {
        key: key.into(),
        revision: from,
    };
    assert_eq!(batch.events, [gone("a"), gone("b")], "in one revision");
}

#[tokio::test(start_paused = true)]
async fn a_kept_lease_lives_and_a_stalled_one_ends() {
    let store = MemoryStore::new();
    let lease = store.grant(TTL).await.unwrap();
    store.commit(put("a", Some(lease))).await.unwrap();
    let mut keep_alive = store.keep_alive(lease).await.unwrap();
    for _ in 0..3 {
        advance(Duration::from_millis(4_999)).await;
        keep_alive.ping().await.unwrap();
    }
    store.faults().stall_keep_alives(true);
    let error = keep_alive.ping().await.expect_err("stalled");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    store.faults().stall_keep_alives(false);
    advance(TTL).await;
    let error = keep_alive.ping().await.expect_err("too late");
    assert!(matches!(error, StoreError::LeaseGone(gone) if gone == lease));
    assert!(keys(&store).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_fails_at_once_and_others_go_on() {
    let store = MemoryStore::new();
    let other = store.client();
    let mut stream = store.watch("", Revision::new(2)).await.unwrap();
    store.faults().cut(Some(Cut::Refused));
    let start = Instant::now();
    for error in [
        store.list("").await.expect_err("cut off"),
        store.commit(put("a", None)).await.expect_err("cut off"),
        next(&mut stream).await.expect_err("cut off"),
    ] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
    assert!(stream.next().await.is_none(), "the first error is the last");
    assert_eq!(start.elapsed(), Duration::ZERO);
    other.commit(put("b", None)).await.unwrap();
    store.faults().cut(None);
    assert_eq!(keys(&store).await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_store_leaves_writes_unknown_and_reads_unavailable() {
    let store = MemoryStore::new();
    let mut stream = store.watch("", Revision::new(2)).await.unwrap();
    store.faults().cut(Some(Cut::Silent));
    store.client().commit(put("b", None)).await.unwrap();
    let start = Instant::now();
    let unseen = next(&mut stream).await.expect_err("nothing comes through");
    assert!(matches!(unseen, StoreError::Unavailable(_)), "{unseen}");
    let read = store.list("").await.expect_err("no answer");
    assert!(matches!(read, StoreError::Unavailable(_)), "{read}");
    let write = store.commit(put("a", None)).await.expect_err("no answer");
    assert!(matches!(write, StoreError::Unknown(_)), "{write}");
    assert_eq!(start.elapsed(), REQUEST_TIMEOUT * 3);
}

#[tokio::test(start_paused = true)]
async fn each_commit_fault_does_what_it_says() {
    let store = MemoryStore::new();
    let late = Duration::from_secs(1);
    store.faults().on_commit(1, CommitFault::Fail);
    store.faults().on_commit(3, CommitFault::LoseReply);
    store.faults().on_commit(4, CommitFault::Delay(late));
    store.faults().on_commit(5, CommitFault::ApplyLater(late));
    let failed = store.commit(put("1", None)).await.expect_err("fails");
    assert!(matches!(failed, StoreError::Unavailable(_)), "{failed}");
    store.commit(put("2", None)).await.unwrap();
    let lost = store.commit(put("3", None)).await.expect_err("reply lost");
    assert!(matches!(lost, StoreError::Unknown(_)), "{lost}");
    let start = Instant::now();
    store.commit(put("4", None)).await.unwrap();
    assert_eq!(start.elapsed(), late);
    let later = store.commit(put("5", None)).await.expect_err("later");
    assert!(matches!(later, StoreError::Unknown(_)), "{later}");
    assert_eq!(keys(&store).await, ["2", "3", "4"]);
    advance(late).await;
    assert_eq!(keys(&store).await, ["2", "3", "4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_transaction_still_has_its_compares_checked() {
    let store = MemoryStore::new();
    let late = Duration::from_secs(1);
    let absent = Compare::Created("a".into(), Revision::default());
    let txn = Txn {
        compares: vec![absent],
        ..put("a", None)
    };
    store.faults().on_commit(1, CommitFault::ApplyLater(late));
    store.commit(txn).await.expect_err("later");
    let first = store.commit(put("a", None)).await.unwrap().revision;
    advance(late).await;
    let listing = store.list("").await.unwrap();
    assert_eq!(listing.entries[0].mod_revision, first);
}

#[tokio::test(start_paused = true)]
async fn broken_watches_end_and_open_again_without_loss() {
    let store = MemoryStore::new();
    let mut stream = store.watch("", Revision::new(2)).await.unwrap();
    store.faults().break_watches();
    next(&mut stream).await.expect_err("broken");
    let put = store.commit(put("a", None)).await.unwrap().revision;
    let mut stream = store.watch("", Revision::new(2)).await.unwrap();
    let batch = next(&mut stream).await.unwrap();
    assert_eq!((batch.revision, batch.events.len()), (put, 1));
    assert!(stream.next().now_or_never().is_none(), "nothing more");
}
