//! What operators do on the page happens in the cluster, and nobody else does it.

use std::time::Duration;

use serde_json::{Value, json};
use steading_integration_tests::browser::Browser;
use steading_integration_tests::cluster::Node;
use steading_integration_tests::inspector::Inspector;
use steading_integration_tests::until;

use super::{cluster, open, unlock};

/// Where a shard's cell is in the window, and the middle of another node's block.
async fn cell_and_block(browser: &Browser, shard: u32, node: &str) -> ((i64, i64), (i64, i64)) {
    let script = format!(
        "const map = steading.map, box = map.over.getBoundingClientRect(), layout = map.layout;
         const group = layout.groups.find(group => group.name === '{node}');
         const half = layout.cell / 2;
         return [box.x + layout.x({shard}) + half, box.y + layout.y({shard}) + half,
                 box.x + group.x + group.width / 2, box.y + group.y + group.height / 2].map(Math.round);"
    );
    let places: Vec<i64> = serde_json::from_value(browser.run(&script).await).expect("numbers");
    ((places[0], places[1]), (places[2], places[3]))
}

async fn owner(node: &Node, shard: u32) -> Value {
    let answer = node
        .get(&format!("/v1/shards/{shard}"))
        .await
        .expect("it answers");
    answer.body["owner"].clone()
}

#[tokio::test]
async fn s2_40_a_shard_is_dragged_to_another_node_and_a_pin_outlasts_a_rebalance() {
    let cluster = cluster("acts").await;
    let [a, _b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    let inspector = Inspector::start(&cluster).await;
    let browser = Browser::start(1280, 900).await;

    // Somebody without the token is refused, whatever the page says.
    open(&browser, &inspector, "#/map").await;
    let refused = "const answer = await fetch('api/shards/3/pin', {method: 'POST'}); return [answer.status, (await answer.json()).code];";
    let script = format!("return (async () => {{ {refused} }})()");
    assert_eq!(browser.run(&script).await, json!([403, "bad_token"]));
    browser.press("Unlock actions").await;
    browser
        .type_into("input[name=token]", "a wrong guess")
        .await;
    browser.press("Unlock").await;
    browser
        .waits_for(
            "the guess is refused",
            "document.querySelector('dialog [role=alert]')",
        )
        .await;
    browser.press("Cancel").await;
    unlock(&browser).await;

    // Dragged on the map.
    let from = owner(&a, 3).await;
    let to = if from == "a" { "b" } else { "a" };
    browser.click(".check input").await;
    let (cell, block) = cell_and_block(&browser, 3, to).await;
    browser.drag(cell, block).await;
    browser.click("[data-confirm]").await;
    until("the dragged shard is there", async || {
        match owner(&a, 3).await {
            owner if owner == to => Ok(()),
            owner => Err(owner.to_string()),
        }
    })
    .await;
    browser
        .waits_for(
            "the map shows it",
            &format!("steading.cluster.names[steading.cluster.owners[3]] === '{to}'"),
        )
        .await;

    // Pinned there, in its story, and so heavy a burden that a rebalance would take it back.
    open(&browser, &inspector, "#/shard/3").await;
    browser.press("Pin here …").await;
    browser.click("[data-confirm]").await;
    browser
        .waits_for("it is pinned", "steading.cluster.flags[3] & 1")
        .await;

    // Balancing would mend at once what is made uneven here.
    open(&browser, &inspector, "#/plans").await;
    browser.click("[data-action=pause]").await;
    browser.click("[data-confirm]").await;
    browser
        .waits_for("balancing is paused", "steading.cluster.info.paused")
        .await;
    move_some(&a, to).await;
    browser.click("[data-action=dry-run]").await;
    browser
        .waits_for(
            "a dry run tells moves",
            "Number(document.querySelector('[data-dryrun]').dataset.dryrun) > 0",
        )
        .await;
    browser
        .waits_for(
            "not of the pinned one",
            "steading.cluster.dryRun.moves.every(move => move.shard !== 3)",
        )
        .await;
    browser.click("[data-action=pause]").await;
    browser.click("[data-confirm]").await;
    browser
        .waits_for("balancing goes on", "!steading.cluster.info.paused")
        .await;
    browser.click("[data-action=rebalance]").await;
    browser.click("[data-confirm]").await;
    browser
        .waits_for("both have as many again", "['a', 'b'].every(name => steading.cluster.owners.filter(owner => steading.cluster.names[owner] === name).length === 32)")
        .await;
    assert_eq!(owner(&a, 3).await, to, "the pin outlasts it");
    assert_eq!(
        browser
            .errors()
            .await
            .iter()
            .filter(|error| !error.contains("403"))
            .count(),
        0
    );
    let log = inspector.output();
    assert!(
        log.contains("Ada from 127.0.0.1") && log.contains("pin shard 3 where it is"),
        "{log}"
    );
}

/// Moves ten shards more to a node than its share.
async fn move_some(asked: &Node, to: &str) {
    let shards = asked
        .get("/v1/shards?limit=64")
        .await
        .expect("it answers")
        .body;
    let shards = shards
        .as_array()
        .or(shards["shards"].as_array())
        .expect("a list")
        .clone();
    let others = shards.iter().filter(|shard| shard["owner"] != to);
    let moves: Vec<_> = others
        .take(10)
        .map(|shard| json!({"shard": shard["shard"], "node": to}))
        .collect();
    let answer = asked
        .post("/v1/moves", &json!({"moves": moves}))
        .await
        .expect("it answers");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_plan_that_does_not_get_on_is_aborted() {
    // Long leases: a node that is frozen meanwhile is slow, not dead.
    let cluster = cluster("aborts")
        .await
        .with_lease_ttl(Duration::from_mins(1));
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    let leader = a
        .sees("a leader", |cluster| cluster["leader"].is_string())
        .await;
    let (leader, frozen) = if leader["leader"] == "a" {
        (a, b)
    } else {
        (b, a)
    };
    let inspector = Inspector::start(&cluster).await;
    let browser = Browser::start(1280, 900).await;
    open(&browser, &inspector, "#/plans").await;
    unlock(&browser).await;

    frozen.freeze();
    let moves: Vec<_> = {
        let shards = leader
            .get("/v1/shards?limit=64")
            .await
            .expect("it answers")
            .body;
        let shards = shards
            .as_array()
            .or(shards["shards"].as_array())
            .expect("a list")
            .clone();
        let own = shards.iter().filter(|shard| shard["owner"] == leader.id());
        own.map(|shard| json!({"shard": shard["shard"], "node": frozen.id()}))
            .collect()
    };
    let answer = leader
        .post("/v1/moves", &json!({"moves": moves}))
        .await
        .expect("it answers");
    assert_eq!(answer.status, 200, "{answer:?}");
    // The frozen node is given all at once, for it has only to be handed them; the leader then takes
    // its share back, for which the frozen one would have to act.
    let running =
        "steading.cluster.plans.find(plan => plan.outcome === 'running' && plan.reason === 'join')";
    browser.waits_for("a plan hangs", running).await;
    browser
        .run(&format!("location.hash = '#/plans/' + {running}.id"))
        .await;
    browser.click("[data-action=abort]").await;
    browser.click("[data-confirm]").await;
    browser
        .waits_for(
            "the command is answered",
            "!document.querySelector('dialog')",
        )
        .await;
    frozen.thaw();
    browser
        .waits_for(
            "the plan is aborted",
            "[...document.querySelectorAll('.badge')].some(badge => badge.innerText === 'aborted')",
        )
        .await;
}
