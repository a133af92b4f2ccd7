//! State on its way to other nodes, some of which do not take it.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::super::testing::{World, begin, call, node, shard};
use super::super::{TransferError, Transferred};
use crate::ids::{Incarnation, Revision};
use crate::placement::{Owner, Parcel};

const SECOND: Duration = Duration::from_secs(1);

const PARCEL: Parcel = Parcel {
    revision: Revision::new(7),
    attempt: 2,
};

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

/// Sends the state of a shard from `b`. Begins when it is first polled.
fn transfer(
    world: &World,
    number: u32,
    to: &str,
) -> BoxFuture<'static, Result<Transferred, TransferError>> {
    let life = Owner {
        node: node(to),
        incarnation: Incarnation::new(1),
    };
    let b = world.at("b");
    let (router, packing) = (b.router.clone(), b.host.pack(shard(number)));
    async move {
        let sent = router.transfer(shard(number), &life, PARCEL, packing);
        sent.await
    }
    .boxed()
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
