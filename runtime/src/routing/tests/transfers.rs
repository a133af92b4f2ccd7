//! State on its way to other nodes, some of which do not take it.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::super::testing::{World, begin, call, node, shard};
use super::super::{Router, TransferError, Transferred};
use crate::ids::{Incarnation, Revision};
use crate::placement::{Owner, Parcel};

const SECOND: Duration = Duration::from_secs(1);

/// A world in which `b` has closed shards 3 and 4, each with an object whose state can travel to `c` and `d`.
async fn closed() -> World {
    let world = World::owned(&["c", "d", "b"]).await;
    for number in [3, 4] {
        let id = format!("shard#{number}/x");
        let object = ("Ledger", id.as_str());
        let noted = call(
            &world.at("b").router,
            object,
            "note",
            &json!({ "n": 1 }),
            SECOND,
        );
        noted.await.expect("it is here");
        world.at("b").close(number).await;
    }
    world
}

/// Sends the state of a shard from `b`, which owns it. Begins when it is first polled.
fn transfer(
    world: &World,
    number: u32,
    to: &str,
) -> BoxFuture<'static, Result<Transferred, TransferError>> {
    let router = world.at("b").router.clone();
    transfer_as(router, world, parcel(world, number), number, to)
}

/// Sends the state that `b` has of a shard, by another router or under another name.
fn transfer_as(
    router: Arc<Router>,
    world: &World,
    parcel: Parcel,
    number: u32,
    to: &str,
) -> BoxFuture<'static, Result<Transferred, TransferError>> {
    let life = Owner {
        node: node(to),
        incarnation: Incarnation::new(1),
    };
    let packing = world.at("b").host.pack(shard(number));
    async move {
        let sent = router.transfer(shard(number), &life, parcel, packing);
        sent.await
    }
    .boxed()
}

/// Names the state of a shard as its owner would.
fn parcel(world: &World, number: u32) -> Parcel {
    Parcel {
        revision: world.view.view().owners.get(shard(number)).revision,
        attempt: 2,
    }
}

/// Anybody who reaches the port can say that it is some node. What it sends takes up no room unless
/// it knows who owns the shard and since when, and is never taken in: it cannot know the name.
#[tokio::test(start_paused = true)]
async fn only_the_owner_may_send_state_ahead() {
    let world = closed().await;
    let own = parcel(&world, 3);
    let refused = |sent: Result<Transferred, TransferError>| {
        matches!(sent, Err(TransferError::Refused(_, _)))
    };
    let stranger = world.at("d").router.clone();
    let sent = transfer_as(stranger, &world, own, 3, "c").await;
    assert!(refused(sent), "d does not own it");
    for revision in [own.revision.get() - 1, (1 << 48) - 1, u64::MAX] {
        let revision = Revision::new(revision);
        let wrong = Parcel { revision, ..own };
        let owner = world.at("b").router.clone();
        let sent = timeout(2 * SECOND, transfer_as(owner, &world, wrong, 3, "c")).await;
        assert!(refused(sent.expect("bounded")), "{revision}");
    }
    let sent = transfer(&world, 3, "c").await;
    assert!(matches!(sent, Ok(Transferred::Staged(_))), "{sent:?}");
}

/// There is nothing to send, so nothing but this question shows that nobody answers there.
#[tokio::test(start_paused = true)]
async fn empty_shards_go_only_to_nodes_that_answer() {
    let world = closed().await;
    world.at("b").close(5).await;
    assert_eq!(transfer(&world, 5, "d").await, Ok(Transferred::Nothing));
    world.network.partition("b", "c");
    world.network.refuse("d", true);
    let began = Instant::now();
    let sent = timeout(2 * SECOND, transfer(&world, 5, "c")).await;
    let sent = sent.expect("bounded");
    assert!(
        matches!(sent, Err(TransferError::Unreachable(_, _))),
        "{sent:?}"
    );
    assert!(began.elapsed() <= SECOND, "{:?}", began.elapsed());
    sleep(2 * SECOND).await;
    world.network.heal("b", "c");
    assert_eq!(transfer(&world, 5, "c").await, Ok(Transferred::Nothing));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_lags_waits_for_the_sender_to_own() {
    let mut world = closed().await;
    world.view.owner(3, "b", 1);
    world.publish_to("b").await;
    let mut sending = transfer(&world, 3, "c");
    begin(&mut sending);
    sleep(SECOND / 2).await;
    begin(&mut sending);
    world.publish_to("c").await;
    let sent = sending.await;
    assert!(matches!(sent, Ok(Transferred::Staged(_))), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sending_to_a_node_that_hangs_ends_when_its_life_does() {
    let mut world = closed().await;
    let staged = transfer(&world, 4, "c").await;
    assert!(matches!(staged, Ok(Transferred::Staged(_))), "{staged:?}");
    // Its connection stays open, takes everything and brings nothing back.
    world.network.partition("b", "c");
    let mut sending = transfer(&world, 3, "c");
    begin(&mut sending);
    sleep(2 * SECOND).await;
    begin(&mut sending);
    world.view.gone("c");
    world.publish_to("b").await;
    let ended = Instant::now();
    assert_eq!(sending.await, Err(TransferError::Gone(node("c"))));
    assert_eq!(ended.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_node_out_of_reach_holds_up_no_sending_to_another() {
    let world = closed().await;
    world.network.partition("b", "c");
    let mut hanging = transfer(&world, 3, "c");
    begin(&mut hanging);
    sleep(SECOND / 10).await;
    begin(&mut hanging);
    let staged = timeout(SECOND, transfer(&world, 4, "d")).await;
    assert!(
        matches!(staged, Ok(Ok(Transferred::Staged(_)))),
        "{staged:?}"
    );
    world.network.heal("b", "c");
    let staged = hanging.await;
    assert!(matches!(staged, Ok(Transferred::Staged(_))), "{staged:?}");
}
