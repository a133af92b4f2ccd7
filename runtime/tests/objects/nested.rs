//! Turns that call other objects of their own shard while it closes: they could not end if those
//! calls waited for the shard to be open again.

use std::time::Duration;

use steading::object::Closing;
use tokio::time::{Instant, sleep};

use crate::world::{Counter, Probe, Saved, World, shard, token};

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn p21_a_running_turn_may_call_objects_of_its_shard_that_is_being_closed() {
    let world = World::new();
    world.object::<Probe>("quiet{x}").order().await.unwrap();
    let (calling, closing) = begin_to_close(&world, &["quiet{x}", "new{x}", "newer{x}"]).await;
    assert_eq!(
        calling.await.unwrap().unwrap(),
        Ok(3),
        "both live and new ones"
    );
    assert_eq!(closing.await.unwrap(), Closing::Closed);
    world.host.end(x(), LIMIT).await;
    assert!(world.live("Probe").is_empty());
}

#[tokio::test(start_paused = true)]
async fn calls_of_others_stay_away_from_a_shard_that_is_being_closed() {
    let world = World::new();
    let (calling, closing) = begin_to_close(&world, &["other{x}"]).await;
    sleep(Duration::from_millis(10)).await;
    let stranger = world.object::<Counter>("c{x}").add(1).await;
    assert!(stranger.is_err(), "{stranger:?}");
    assert_eq!(calling.await.unwrap().unwrap(), Ok(1));
    assert_eq!(closing.await.unwrap(), Closing::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_shard_does_not_end_while_a_turn_runs_whose_caller_has_given_up() {
    let world = World::new();
    // The inner turn goes on for long after the outer one has stopped waiting for it.
    let outer = world.object::<Probe>("outer{x}");
    let outer = outer.with_timeout(Duration::from_millis(100));
    let calling = world
        .tasks
        .spawn_work(async move { outer.later_alone(50, "inner{x}".into(), 400).await });
    sleep(Duration::from_millis(10)).await;
    let began = Instant::now();
    let closed = world.host.close(x(), LIMIT).await;
    assert_eq!(closed, Closing::Closed);
    assert!(
        began.elapsed() >= Duration::from_millis(430),
        "{:?}",
        began.elapsed()
    );
    assert!(calling.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn o4_a_running_turn_may_delete_objects_of_its_shard_that_is_being_closed() {
    let world = World::new();
    world.object::<Saved>("s{x}").add(1).await.unwrap();
    let meddler = world.object::<Probe>("m{x}");
    let meddling = world
        .tasks
        .spawn_work(async move { meddler.later_meddle(50, "s{x}".into()).await });
    sleep(Duration::from_millis(10)).await;
    let closed = world.host.close(x(), LIMIT).await;
    assert_eq!(closed, Closing::Closed);
    assert_eq!(meddling.await.unwrap().unwrap(), Ok(6));
}

#[tokio::test(start_paused = true)]
async fn a_shard_opens_again_for_all_after_an_overdue_closing() {
    let world = World::new();
    let hanging = world.object::<Probe>("hangs{x}");
    world.tasks.spawn_work(async move { hanging.hang().await });
    sleep(Duration::from_millis(10)).await;
    let closed = world.host.close(x(), Duration::from_millis(100)).await;
    assert!(matches!(closed, Closing::Overdue(_)), "{closed:?}");
    assert_eq!(world.object::<Counter>("c{x}").add(1).await.unwrap(), 1);
    world.host.discard(x());
    world.host.open(x(), token(2));
    assert_eq!(world.object::<Counter>("c{x}").add(1).await.unwrap(), 1);
}

type Calling = tokio::task::JoinHandle<Result<Result<usize, String>, steading::CallError>>;

/// Begins a turn that will call these, and then a closing of its shard.
async fn begin_to_close(world: &World, to: &[&str]) -> (Calling, tokio::task::JoinHandle<Closing>) {
    let outer = world.object::<Probe>("outer{x}");
    let to = to.iter().map(ToString::to_string).collect();
    let calling = world
        .tasks
        .spawn_work(async move { outer.later_relay(50, to).await });
    sleep(Duration::from_millis(10)).await;
    let host = world.host.clone();
    let closing = world
        .tasks
        .spawn_work(async move { host.close(x(), LIMIT).await });
    (calling, closing)
}

/// The shard of every `{x}`.
fn x() -> steading::ids::ShardId {
    use steading::ids::{ObjectKey, Place};
    let key = ObjectKey::new("Probe", "{x}").expect("valid");
    match key.place(&crate::world::SHARDS.into()).expect("valid") {
        Place::Shard(number) => shard(number.get()),
        Place::Node(node) => panic!("bound to {node}"),
    }
}
