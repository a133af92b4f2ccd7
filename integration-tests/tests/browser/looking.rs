//! Every view opens, shows what is so, and says when it does not know.

use std::convert::Infallible;

use futures::future::{Either, join_all, select};
use steading_integration_tests::browser::{Browser, ENTER, RIGHT, TAB};
use steading_integration_tests::cluster::Node;
use steading_integration_tests::inspector::Inspector;

use super::{cluster, is_for_docs, is_live, open, picture};

/// A view: its name, its address, and what is true once it shows the cluster.
type View = (&'static str, &'static str, &'static str);

/// The views of a cluster that is well.
const VIEWS: [View; 6] = [
    (
        "plans",
        "#/plans",
        "document.querySelectorAll('[data-plan]').length >= 2 && document.querySelectorAll('.lanes .mark').length > 0",
    ),
    (
        "nodes",
        "#/nodes",
        "document.querySelectorAll('tbody tr[data-node]').length === 4 && document.querySelectorAll('.peer').length === 4
            && parseFloat(getComputedStyle(document.querySelector('.flow .dash')).strokeDashoffset) < -1",
    ),
    (
        "shards",
        "#/shard?state=owned",
        "document.querySelectorAll('tbody tr').length === 200",
    ),
    (
        "objects",
        "#/objects?order=busiest",
        "(rates => rates.length > 10 && rates.at(-1) > 0 && rates[0] > rates.at(-1))
            ([...document.querySelectorAll('[data-rate]')].map(cell => parseFloat(cell.innerText.replace('≈', ''))))
            && document.querySelector('[data-took]').innerText !== '–'",
    ),
    (
        "heat",
        "#/map?group=id&colour=calls",
        "steading.map.mode.heat?.most > 0.05",
    ),
    (
        "overview",
        "#/",
        "document.querySelectorAll('.stat').length === 10 && document.querySelector('canvas.base').width > 0 && document.querySelector('[data-watch]').innerText.includes('p50 / p95 / p99')",
    ),
];

/// The views of shards that move.
const MOVING: [View; 2] = [
    (
        "map",
        "#/map",
        "steading.map.layout.groups.length === 4 && steading.map.moving.size === 6 && steading.map.flights.length === 0",
    ),
    (
        "shard",
        "#/map?shard=17",
        "document.querySelector('[data-owner]') && document.querySelector('.drawer .owners li')",
    ),
];

/// How many shards the cluster has: enough for a test, or for a picture.
fn shards() -> u32 {
    if is_for_docs() { 2048 } else { 1024 }
}

/// How many callers there are, each of which waits for its answer.
const CALLERS: usize = 6;

/// How many objects they call.
const OBJECTS: usize = 2000;

/// How many of them are called far more than the others, as in life.
const BUSY: usize = 40;

/// A lease that the test does not outlive.
const LONG_LEASE: std::time::Duration = std::time::Duration::from_mins(1);

#[tokio::test]
async fn s2_42_every_view_shows_the_cluster_by_mouse_by_keyboard_and_on_a_phone() {
    let cluster = cluster("views").await.shard_count(shards());
    let starts = [("node-0", "west"), ("node-1", "west"), ("node-2", "east")];
    let mut nodes = starts.map(|(id, zone)| cluster.launch(id, &["--zone", zone]));
    for node in &mut nodes {
        node.listens().await;
    }
    nodes[0].is_settled(["node-0", "node-1", "node-2"]).await;
    let inspector = Inspector::start(&cluster).await;
    let browser = Browser::start(1280, 860).await;
    let looked = Box::pin(async {
        open(&browser, &inspector, "#/").await;
        let mut joins = cluster.launch("node-3", &["--zone", "east"]);
        joins.listens().await;
        browser.screen(1280, 860).await;
        for view in VIEWS {
            visit(&browser, &inspector, view).await;
        }
        let [.., overview] = VIEWS;
        in_the_dark(&browser, &inspector, overview).await;
        time_is_stepped_back(&browser, &inspector).await;
        keys_reach_everything(&browser, &inspector).await;
        garbage_in_an_address_shows_a_page(&browser, &inspector).await;
        nodes_are_told_apart(&browser).await;
        some_move(&nodes[0]).await;
        for view in MOVING {
            visit(&browser, &inspector, view).await;
        }
        in_the_dark(&browser, &inspector, MOVING[1]).await;
        a_node_that_stops_is_named_and_then_forgotten(&browser, &inspector, &joins).await;
        joins
    });
    // There is traffic while the pictures are taken.
    match select(looked, Box::pin(keep_calling(&nodes))).await {
        Either::Left((joined, _)) => drop(joined),
        Either::Right((never, _)) => match never {},
    }
}

/// Opens a view on a desk and on a phone.
async fn visit(browser: &Browser, inspector: &Inspector, (name, hash, shown): View) {
    open(browser, inspector, hash).await;
    browser.waits_for(name, shown).await;
    let figures = "steading.cluster.figures?.cluster.calls_per_second > 0";
    browser.waits_for("there is traffic", figures).await;
    browser.screenshot(&picture(name)).await;
    let own = "performance.getEntriesByType('resource').every(file => file.name.startsWith(location.origin))";
    browser.waits_for("nothing comes from elsewhere", own).await;
    let only_by_mouse = "[...document.querySelectorAll('main *')].every(part =>
        getComputedStyle(part).cursor !== 'pointer' || part.closest('a, button, label, select, input'))";
    browser
        .waits_for("nothing is for the mouse alone", only_by_mouse)
        .await;
    browser.screen(390, 844).await;
    let narrow = "innerWidth === 390 && document.documentElement.scrollWidth <= innerWidth";
    browser
        .waits_for("nothing is cut off on a phone", narrow)
        .await;
    browser.screenshot(&picture(&format!("{name}-phone"))).await;
    browser.screen(1280, 860).await;
    assert_eq!(browser.errors().await, Vec::<String>::new(), "{name}");
}

async fn in_the_dark(browser: &Browser, inspector: &Inspector, (name, hash, shown): View) {
    browser.dark(true).await;
    open(browser, inspector, hash).await;
    browser.waits_for(name, shown).await;
    browser.screenshot(&picture(&format!("{name}-dark"))).await;
    browser.dark(false).await;
}

/// The last node joined while the page looked: before that it had nothing.
async fn time_is_stepped_back(browser: &Browser, inspector: &Inspector) {
    let has = |which: &str| {
        format!(
            "Array.from({which}).filter(owner => steading.cluster.names[owner] === 'node-3').length"
        )
    };
    let (past, now) = (
        has("steading.map.mode.past"),
        has("steading.cluster.owners"),
    );
    open(browser, inspector, "#/map").await;
    browser.click("[aria-label='One change back']").await;
    let told = "document.querySelector('.timeline output').innerText.startsWith('as it was')";
    browser.waits_for("the page says that this was", told).await;
    let at = "new URLSearchParams(location.hash.split('?')[1]).get('at')";
    let first = browser.run(&format!("return {at}")).await;
    browser.click("[aria-label='One change back']").await;
    let earlier = format!("Number({at}) < {}", first.as_str().unwrap_or_default());
    browser.waits_for("one change more", &earlier).await;
    let fewer = format!("steading.map.mode.past && {past} < {now}");
    browser.waits_for("node-3 had fewer then", &fewer).await;
    browser
        .run(
            "const slider = document.querySelector('.timeline input');
             slider.value = 0;
             slider.dispatchEvent(new Event('input', {bubbles: true}));",
        )
        .await;
    let none = format!("steading.map.mode.past && {past} === 0 && {now} > 0");
    browser
        .waits_for("at the beginning it had none", &none)
        .await;
    browser.press("Back to now").await;
    browser
        .waits_for("this is now", "!steading.map.mode.past")
        .await;
}

/// Tab goes through the whole page, what it reaches is seen, and the map is walked by arrows.
async fn keys_reach_everything(browser: &Browser, inspector: &Inspector) {
    open(browser, inspector, "#/map").await;
    browser
        .run(
            "globalThis.reached = new Map();
             addEventListener('focusin', ({target}) => reached.set(target, getComputedStyle(target).outlineStyle));",
        )
        .await;
    browser.keys(&[TAB; 40]).await;
    let all = "[...document.querySelectorAll('a[href], button:not(:disabled), input, select, canvas[tabindex]')]
        .every(part => reached.get(part) && reached.get(part) !== 'none')";
    browser
        .waits_for("all is reached, and seen to be", all)
        .await;
    browser
        .run("document.querySelector('canvas.over').focus()")
        .await;
    browser.keys(&[RIGHT, RIGHT, ENTER]).await;
    let story = "document.querySelector('[data-story]') && location.hash.includes('shard=')";
    browser.waits_for("a shard's story is open", story).await;
    browser.run("document.activeElement.blur()").await;
    let put_away = "!document.querySelector('.tip')";
    browser
        .waits_for("what hovers goes with the focus", put_away)
        .await;
}

/// An address may be cut off or mistyped: the page is there all the same, and says what is not.
async fn garbage_in_an_address_shows_a_page(browser: &Browser, inspector: &Inspector) {
    for (hash, says) in [
        ("#/nodes/%E0%A4%A", "No live node has this name"),
        ("#/shard/x", "no shard"),
        ("#/shard?from=x&state=x", "0 shards"),
        ("#/plans/x", "not the number of a plan"),
        ("#/objects?shard=x", "not the number of a shard"),
        ("#/map?group=x&colour=x&shard=x&at=x", "By node"),
        ("#/nothing", "no such page"),
    ] {
        open(browser, inspector, hash).await;
        let told = format!("document.querySelector('main').innerText.includes('{says}')");
        browser.waits_for(hash, &told).await;
    }
    // Two were asked of the server, which refused them.
    let errors = browser.errors().await.into_iter();
    let errors: Vec<_> = errors.filter(|error| !error.contains("400")).collect();
    assert_eq!(errors, Vec::<String>::new());
}

/// By colours that no page gives otherwise, and by names that are cut in their middle.
async fn nodes_are_told_apart(browser: &Browser) {
    let colours = "return (async () => {
        const names = ['a-1', 'b-1', 'c-13'];
        const given = await Promise.all([names, [...names].reverse()].map(async (order, page) => {
            const { giveColours, colourOf } = await import(`/map/colours.js?${page}`);
            giveColours(order);
            return names.map(colourOf).join();
        }));
        return given[0] === given[1] && new Set(given[0].split(',')).size;
    })()";
    assert_eq!(browser.run(colours).await, 3);
    let names = "return (async () => {
        const { brief } = await import('/format.js');
        const long = 'n'.repeat(120);
        return ['node-1', `${long}1`, `${long}2`].map(name => brief(name));
    })()";
    let names: Vec<String> = serde_json::from_value(browser.run(names).await).expect("texts");
    assert_eq!(names[0], "node-1", "it fits");
    assert!(
        names.iter().all(|name| name.chars().count() <= 28),
        "{names:?}"
    );
    assert_ne!(names[1], names[2]);
}

/// Pins some shards, and lets six be on their way as long as turns of theirs do not end.
async fn some_move(node: &Node) {
    node.is_settled(["node-0", "node-1", "node-2", "node-3"])
        .await;
    let own = node.shards_of("node-0").await;
    for shard in own.iter().take(5) {
        let pin = format!("/v1/shards/{shard}/pin");
        node.order(&pin, &serde_json::json!({})).await;
    }
    let held = own
        .iter()
        .skip(own.len() / 4)
        .step_by(own.len() / 9)
        .take(6);
    let held: Vec<u32> = held.copied().collect();
    join_all(held.iter().map(|shard| node.hold(*shard))).await;
    node.move_shards(held.iter().map(|shard| (*shard, "node-1")))
        .await;
}

async fn keep_calling(nodes: &[Node]) -> Infallible {
    let callers = (0..CALLERS).map(|caller| async move {
        for number in (caller..).step_by(CALLERS) {
            let among = if number % 3 == 0 { BUSY } else { OBJECTS };
            let object = number.wrapping_mul(2_654_435_761) % among;
            let node = &nodes[number % nodes.len()];
            // A page is being looked at; whether every call answers is tested elsewhere.
            drop(node.add_one(&format!("object-{object}")).await);
        }
    });
    join_all(callers).await;
    unreachable!("numbers do not end");
}

/// It is asked while its lease ends, and must not be taken for one that is there and silent.
async fn a_node_that_stops_is_named_and_then_forgotten(
    browser: &Browser,
    inspector: &Inspector,
    node: &Node,
) {
    open(browser, inspector, "#/").await;
    node.freeze().await;
    let gone = "document.querySelector('.findings').innerText.includes('node-3 is gone')";
    browser.waits_for("node-3 is said to be gone", gone).await;
    let forgotten = "steading.cluster.figures.cluster.healthy === 1
        && !steading.cluster.figures.nodes['node-3']
        && !document.querySelector('.findings').innerText.includes('does not answer the Inspector')";
    browser.waits_for("nobody is silent", forgotten).await;
    node.thaw().await;
}

#[tokio::test]
async fn i_1_a_killed_node_and_a_restarted_inspector_are_seen_on_an_open_page() {
    let cluster = cluster("killed-seen").await;
    let [a, b, c] = cluster.ready(["a", "b", "c"]).await;
    a.is_settled(["a", "b", "c"]).await;
    let inspector = Inspector::start(&cluster).await;
    let browser = Browser::start(1280, 800).await;
    open(&browser, &inspector, "#/").await;
    let well = "document.querySelector('[data-health=note]')";
    browser.waits_for("all is well", well).await;

    c.kill();
    let told = "document.querySelector('.findings').innerText.includes('c is gone')";
    browser.waits_for("c is said to be gone", told).await;
    let elsewhere = "Array.from(steading.cluster.owners).every(owner => ['a', 'b'].includes(steading.cluster.names[owner]))";
    browser
        .waits_for("its shards are with others", elsewhere)
        .await;

    let address = inspector.address().to_owned();
    inspector.kill();
    let stale =
        "document.querySelector('[data-live=stale]').innerText.startsWith('stale: last heard')";
    browser
        .waits_for("the page says that it is stale", stale)
        .await;
    let old = "document.querySelector('[data-health=stale]').innerText.includes('as it was')
        && document.querySelector('main.old')";
    browser
        .waits_for("what it shows is marked as old", old)
        .await;
    b.kill();
    let inspector = Inspector::start_at(&cluster, &address).await;
    is_live(&browser).await;
    let alone = "steading.cluster.nodes.map(node => node.id).join() === 'a'";
    browser
        .waits_for("the page knows what happened meanwhile", alone)
        .await;
    drop(inspector);
}

#[tokio::test]
async fn a_silent_node_is_the_overviews_verdict() {
    let cluster = cluster("silent-seen").await.with_lease_ttl(LONG_LEASE);
    let [a, b, c] = cluster.ready(["a", "b", "c"]).await;
    a.is_spread(["a", "b", "c"]).await;
    let inspector = Inspector::start(&cluster).await;
    let browser = Browser::start(1280, 800).await;
    open(&browser, &inspector, "#/").await;
    let well =
        "document.querySelector('[data-health=note] h2')?.innerText === 'All shards are served'
        && steading.cluster.figures.nodes.c.memory_bytes > 0";
    browser.waits_for("all is well", well).await;

    c.kill();
    let verdict = "document.querySelector('[data-health=trouble] h2')?.innerText.startsWith('1 node silent: ')
        && document.querySelector('[data-health] .verdict p').innerText.includes(' at risk')";
    browser.waits_for("the verdict names it", verdict).await;
    let dropped = "document.querySelector('[data-state=silent] .figures').innerText.includes('–/s')
        && steading.cluster.figures.nodes.c.memory_bytes === null
        && steading.cluster.figures.cluster.healthy < 0.7";
    browser.waits_for("its figures are gone", dropped).await;
    open(&browser, &inspector, "#/nodes").await;
    let row = "document.querySelector('tr[data-node=c]')?.dataset.state === 'silent'
        && document.querySelector('tr[data-node=c] [data-fence]').innerText === '–'";
    browser.waits_for("its row says so", row).await;
    let registered = "steading.cluster.nodes.some(node => node.id === 'c')";
    browser.waits_for("its lease still lives", registered).await;
    drop((b, c));
}
