//! Every view opens, shows what is so, and says when it does not know.

use futures::future::{Either, select};
use steading_integration_tests::browser::Browser;
use steading_integration_tests::cluster::Node;
use steading_integration_tests::inspector::Inspector;

use super::{cluster, open, picture, some_calls};

/// Each view: its name, its address, and what is true once it shows the cluster.
const VIEWS: [(&str, &str, &str); 8] = [
    (
        "overview",
        "#/",
        "document.querySelectorAll('.stat').length >= 8 && document.querySelector('canvas.base').width > 0",
    ),
    (
        "map",
        "#/map",
        "steading.map.layout.groups.length === 3 && document.querySelector('canvas.base').width > 0",
    ),
    (
        "heat",
        "#/map?group=id&colour=objects",
        "steading.map.mode.heat",
    ),
    (
        "nodes",
        "#/nodes",
        "document.querySelectorAll('tbody tr[data-node]').length === 3 && document.querySelectorAll('.peer').length === 3",
    ),
    (
        "shard",
        "#/map?shard=17",
        "document.querySelector('[data-owner]')",
    ),
    (
        "shards",
        "#/shard?state=owned",
        "document.querySelectorAll('tbody tr').length === 200",
    ),
    (
        "objects",
        "#/objects?prefix=object-1",
        "document.querySelectorAll('tbody tr').length > 10",
    ),
    (
        "plans",
        "#/plans",
        "document.querySelector('[data-plan]') && document.querySelector('.lanes')",
    ),
];

#[tokio::test]
async fn every_view_opens_without_an_error_and_shows_the_cluster() {
    let cluster = cluster("views").await.shard_count(8192);
    let nodes = cluster.ready(["node-0", "node-1", "node-2"]).await;
    nodes[0].is_settled(["node-0", "node-1", "node-2"]).await;
    some_calls(&nodes[0], 300).await;
    let inspector = Inspector::start(&cluster).await;
    let browser = Browser::start(1280, 800).await;
    let visits = Box::pin(visit_all(&browser, &inspector));
    // There is traffic while the pictures are taken.
    match select(visits, Box::pin(keep_calling(&nodes))).await {
        Either::Left(((), _)) => {}
        Either::Right((never, _)) => match never {},
    }
    assert_eq!(browser.errors().await, Vec::<String>::new());
}

async fn visit_all(browser: &Browser, inspector: &Inspector) {
    browser.screen(1280, 860).await;
    for (name, hash, shown) in VIEWS {
        open(browser, inspector, hash).await;
        browser.waits_for(name, shown).await;
        let figures = "steading.cluster.figures?.cluster.calls_per_second > 0";
        browser.waits_for("there is traffic", figures).await;
        browser.screenshot(&picture(name)).await;
    }
    browser.dark(true).await;
    for (name, hash, shown) in [VIEWS[0], VIEWS[4]] {
        open(browser, inspector, hash).await;
        browser.waits_for(name, shown).await;
        browser.screenshot(&picture(&format!("{name}-dark"))).await;
    }
    browser.dark(false).await;
    browser.screen(390, 844).await;
    open(browser, inspector, "#/").await;
    browser.waits_for("overview", VIEWS[0].2).await;
    let narrow = "document.documentElement.scrollWidth <= innerWidth";
    browser
        .waits_for("nothing is cut off on a phone", narrow)
        .await;
    browser.screenshot(&picture("phone")).await;
}

async fn keep_calling(nodes: &[Node]) -> std::convert::Infallible {
    let mut number = 0;
    loop {
        let node = &nodes[number % nodes.len()];
        // A page is being looked at; whether every call answers is tested elsewhere.
        drop(node.add_one(&format!("object-{}", number % 300)).await);
        number += 1;
    }
}

#[tokio::test]
async fn i_1_a_killed_node_and_a_restarted_inspector_are_seen_on_an_open_page() {
    let cluster = cluster("killed-seen").await;
    let [a, b, c] = cluster.ready(["a", "b", "c"]).await;
    a.is_settled(["a", "b", "c"]).await;
    let inspector = Inspector::start(&cluster).await;
    let browser = Browser::start(1280, 800).await;
    open(&browser, &inspector, "#/").await;
    browser
        .waits_for(
            "all is well",
            "document.querySelector('[data-health=note]')",
        )
        .await;

    let killed = tokio::time::Instant::now();
    c.kill();
    browser
        .waits_for(
            "c is said to be gone",
            "document.querySelector('.findings').innerText.includes('c is gone')",
        )
        .await;
    eprintln!(
        "shown {:?} after the kill, the lease is {:?}",
        killed.elapsed(),
        cluster.lease_ttl()
    );
    browser
        .waits_for("its shards are with others", "Array.from(steading.cluster.owners).every(owner => ['a', 'b'].includes(steading.cluster.names[owner]))")
        .await;

    let address = inspector.address().to_owned();
    inspector.kill();
    browser
        .waits_for(
            "the page says that it is stale",
            "document.querySelector('[data-live=stale]')",
        )
        .await;
    b.kill();
    let inspector = Inspector::start_at(&cluster, &address).await;
    browser
        .waits_for(
            "the page is live again",
            "document.querySelector('[data-live=yes]')",
        )
        .await;
    browser
        .waits_for(
            "and knows what happened meanwhile",
            "steading.cluster.nodes.map(node => node.id).join() === 'a'",
        )
        .await;
    drop(inspector);
}
