//! Watches tell everything once and in order, or say that they cannot.

use futures::StreamExt;
use steading::coordination::store::{Event, Op, StoreError};

use crate::subject::{Subject, after, events_until, next, revision_of};

pub(super) async fn a_watch_tells_the_past_and_what_follows(subject: Subject) {
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

pub(super) async fn a_watch_sees_its_prefix_only_and_nothing_before_its_start(subject: Subject) {
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

pub(super) async fn a_watch_never_splits_a_revision(subject: Subject) {
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

pub(super) async fn m14_a_broken_watch_resumes_without_loss(subject: Subject) {
    let first = subject.write(vec![subject.put("a", "1")]).await;
    let mut stream = subject.watch(first).await;
    let mut seen = events_until(&mut stream, first).await;
    subject.break_streams().await;
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

pub(super) async fn a_compacted_watch_asks_for_a_new_list(subject: Subject) {
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

pub(super) async fn a_compaction_beside_a_watch_does_not_harm_it(subject: Subject) {
    let first = subject.write(vec![subject.put("a", "1")]).await;
    let mut stream = subject.watch(first).await;
    events_until(&mut stream, first).await;
    let last = subject.write(vec![subject.put("a", "2")]).await;
    events_until(&mut stream, last).await;
    subject.compact(last).await;
    let new = subject.write(vec![subject.put("a", "3")]).await;
    assert_eq!(events_until(&mut stream, new).await.len(), 1);
}
