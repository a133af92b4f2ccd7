//! Windows against a note that the tests write.

use futures::FutureExt;
use tokio::time::advance;

use super::*;
use crate::ids::ShardCount;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn a_window_opens_once_the_note_names_its_shard() {
    let probation = Arc::new(Probation::default());
    let mut window = Box::pin(probation.clone().enter(shard(1), Watch::TakenOver));
    assert!((&mut window).now_or_never().is_none());
    assert_eq!(wanted(&probation), [1]);
    write(&probation);
    let window = window.await.expect("written");
    assert_eq!(wanted(&probation), [1], "as long as it is open");
    drop(window);
    assert_eq!(wanted(&probation), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_named_shard_opens_further_windows_at_once() {
    let probation = Arc::new(Probation::default());
    let first = open(&probation, 1, Watch::TakenOver).await;
    drop(first);
    let again = probation.clone().enter(shard(1), Watch::TakenOver);
    assert!(
        again.now_or_never().flatten().is_some(),
        "the note still names it"
    );
    let none = BTreeSet::new();
    probation.writing(&none);
    let late = probation.clone().enter(shard(1), Watch::TakenOver);
    assert!(late.now_or_never().is_none(), "it is being taken out");
}

#[tokio::test(start_paused = true)]
async fn prime_suspects_take_turns() {
    let probation = Arc::new(Probation::default());
    let first = open(&probation, 1, Watch::Prime).await;
    let mut second = Box::pin(probation.clone().enter(shard(2), Watch::Prime));
    assert!((&mut second).now_or_never().is_none());
    let other = open(&probation, 3, Watch::TakenOver).await;
    assert_eq!(wanted(&probation), [1, 3], "others do not wait for it");
    drop(first);
    assert_eq!(wanted(&probation), [2, 3]);
    write(&probation);
    assert!(second.await.is_some());
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn a_slow_prime_suspect_does_not_hold_others_up() {
    let probation = Arc::new(Probation::default());
    let first = open(&probation, 1, Watch::Prime).await;
    let mut second = Box::pin(probation.clone().enter(shard(2), Watch::Prime));
    assert!((&mut second).now_or_never().is_none());
    assert_eq!(
        probation.next_at().map(|at| at - Instant::now()),
        Some(PRIME_WINDOW_MAX)
    );
    advance(PRIME_WINDOW_MAX).await;
    assert_eq!(wanted(&probation), [1, 2]);
    write(&probation);
    assert!(second.await.is_some());
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_opens_nothing() {
    let probation = Arc::new(Probation::default());
    let first = open(&probation, 1, Watch::TakenOver).await;
    drop(first);
    probation.writing(&BTreeSet::new());
    probation.not_written();
    let again = probation.clone().enter(shard(1), Watch::TakenOver);
    assert!(
        again.now_or_never().is_none(),
        "the note may not name it any more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_not_waited_for_does_not_stay() {
    let probation = Arc::new(Probation::default());
    let waiting = probation.clone().enter(shard(1), Watch::TakenOver);
    assert!(waiting.now_or_never().is_none(), "dropped");
    assert_eq!(wanted(&probation), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_expired_incarnation_refuses_windows() {
    let probation = Arc::new(Probation::default());
    let mut window = Box::pin(probation.clone().enter(shard(1), Watch::TakenOver));
    assert!((&mut window).now_or_never().is_none());
    probation.expire();
    assert!(window.await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_suspect_survives_after_its_first_window() {
    let probation = Arc::new(Probation::default());
    probation.begin(shard(1), Watch::Suspect, LIMIT);
    advance(LIMIT * 10).await;
    assert!(probation.wanted().survived.is_empty(), "it did nothing yet");
    drop(open(&probation, 1, Watch::Suspect).await);
    assert_eq!(
        probation.next_at().map(|at| at - Instant::now()),
        Some(LIMIT)
    );
    advance(LIMIT).await;
    assert_eq!(probation.wanted().survived, [shard(1)].into());
    probation.end(shard(1));
    assert!(probation.wanted().survived.is_empty(), "it went elsewhere");
}

#[tokio::test(start_paused = true)]
async fn a_note_has_a_greatest_length() {
    let probation = Arc::new(Probation::default());
    let shards = 0..u32::try_from(RUNNING_MAX).expect("small") + 10;
    let mut waiting: Vec<_> = shards
        .map(|number| Box::pin(probation.clone().enter(shard(number), Watch::TakenOver)))
        .collect();
    for window in &mut waiting {
        assert!(window.now_or_never().is_none());
    }
    assert_eq!(wanted(&probation).len(), RUNNING_MAX);
}

async fn open(probation: &Arc<Probation>, number: u32, watch: Watch) -> Window {
    let mut window = Box::pin(probation.clone().enter(shard(number), watch));
    if let Some(window) = (&mut window).now_or_never() {
        return window.expect("alive");
    }
    write(probation);
    window.await.expect("written")
}

/// Writes the note as it is wanted.
fn write(probation: &Arc<Probation>) {
    let wanted = probation.wanted();
    probation.writing(&wanted.running);
    probation.written(wanted.running);
}

fn wanted(probation: &Probation) -> Vec<u32> {
    let running = probation.wanted().running;
    running.iter().map(|shard| shard.get()).collect()
}

fn shard(number: u32) -> ShardId {
    ShardId::new(number, ShardCount::DEFAULT).expect("in range")
}
