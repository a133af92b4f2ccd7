//! What operators do on the page happens in the cluster, and nobody else does it.

use serde_json::{Value, json};
use steading_integration_tests::browser::Browser;
use steading_integration_tests::cluster::Node;
use steading_integration_tests::inspector::Inspector;
use steading_integration_tests::until;

use super::{cluster, open, unlock};

/// The shard that is moved by hand.
const MOVED: u32 = 3;

#[tokio::test]
async fn s2_40_what_an_operator_does_on_the_page_happens_in_the_cluster() {
    let cluster = cluster("acts").await;
    // A closing that a turn holds up is given up soon.
    let soon = ["--drain-timeout", "5s"];
    let [a, _b, c] = cluster.ready_with(["a", "b", "c"], &soon).await;
    a.is_settled(["a", "b", "c"]).await;
    let inspector = Inspector::start(&cluster).await;
    let browser = Browser::start(1280, 900).await;
    let page = Page {
        browser: &browser,
        inspector: &inspector,
        node: &a,
    };
    page.nobody_acts_without_the_token().await;
    page.a_shard_is_dragged_on_the_map_and_in_its_story().await;
    page.a_shard_is_dragged_in_the_list().await;
    page.a_pin_outlasts_a_rebalance().await;
    page.an_object_is_read_and_deactivated().await;
    page.a_node_is_cordoned_and_takes_shards_again().await;
    page.a_drain_is_taken_back().await;
    page.a_plan_that_does_not_get_on_is_aborted().await;

    // At last a drain goes on to its end.
    page.acts("#/nodes/c", "drain").await;
    c.end().await;
    let gone = "steading.cluster.nodes.map(node => node.id).join() === 'a,b'";
    browser.waits_for("c has left", gone).await;

    let errors = browser.errors().await.into_iter();
    let errors: Vec<_> = errors.filter(|error| !error.contains("403")).collect();
    assert_eq!(errors, Vec::<String>::new());
    let log = inspector.output();
    for what in ["pin shard 3 where it is", "cordon c", "drain c"] {
        assert!(log.contains(what), "{what}: {log}");
    }
    assert!(log.contains("Ada from 127.0.0.1"), "{log}");
}

/// The page, and a node that says what is so.
struct Page<'a> {
    browser: &'a Browser,
    inspector: &'a Inspector,
    node: &'a Node,
}

impl Page<'_> {
    async fn open(&self, hash: &str) {
        open(self.browser, self.inspector, hash).await;
    }

    async fn sees(&self, goal: &str, expression: &str) {
        self.browser.waits_for(goal, expression).await;
    }

    /// Presses a button of a page, and confirms.
    async fn acts(&self, hash: &str, action: &str) {
        self.open(hash).await;
        self.browser.click(&format!("[data-action={action}]")).await;
        self.confirms().await;
    }

    async fn confirms(&self) {
        self.browser.click("[data-confirm]").await;
        self.sees("it is answered", "!document.querySelector('dialog')")
            .await;
    }

    /// Waits until a shard is with a node, and the page knows.
    async fn is_at(&self, shard: u32, to: &str) {
        until("the shard is there", async || {
            match owner(self.node, shard).await {
                owner if owner == to => Ok(()),
                owner => Err(owner.to_string()),
            }
        })
        .await;
        let shown = format!("steading.cluster.names[steading.cluster.owners[{shard}]] === '{to}'");
        self.sees("the page shows it", &shown).await;
    }

    /// Somebody without the token is refused, whatever the page says.
    async fn nobody_acts_without_the_token(&self) {
        self.open("#/map").await;
        let refused = "return (async () => {
            const answer = await fetch('api/shards/3/pin', {
                method: 'POST', headers: {'x-steading-command': '1'},
            });
            return [answer.status, (await answer.json()).code];
        })()";
        let answer = self.browser.run(refused).await;
        assert_eq!(answer, json!([403, "bad_token"]));
        self.browser.press("Unlock actions").await;
        let field = "input[name=token]";
        self.browser.type_into(field, "a wrong guess").await;
        self.browser.press("Unlock").await;
        let told = "document.querySelector('dialog [role=alert]')";
        self.sees("the guess is refused", told).await;
        self.browser.press("Cancel").await;
        unlock(self.browser).await;
    }

    async fn a_shard_is_dragged_on_the_map_and_in_its_story(&self) {
        let to = other_than(&owner(self.node, MOVED).await);
        self.browser.click(".check input").await;
        let (cell, block) = cell_and_block(self.browser, MOVED, to).await;
        self.browser.drag(cell, block).await;
        self.confirms().await;
        self.is_at(MOVED, to).await;

        let to = other_than(&json!(to));
        self.open(&format!("#/shard/{MOVED}")).await;
        let place = format!("[data-drop={to}]");
        let from = middle(self.browser, ".chip").await;
        let target = middle(self.browser, &place).await;
        self.browser.drag(from, target).await;
        self.confirms().await;
        self.is_at(MOVED, to).await;
    }

    async fn a_shard_is_dragged_in_the_list(&self) {
        let to = other_than(&owner(self.node, MOVED).await);
        self.open(&format!("#/shard?from={MOVED}")).await;
        let place = format!(".targets [data-drop={to}]");
        let from = middle(self.browser, "td .chip").await;
        let target = middle(self.browser, &place).await;
        self.browser.drag(from, target).await;
        self.confirms().await;
        self.is_at(MOVED, to).await;
    }

    /// Pinned in its story, and then so heavy a burden that a rebalance would take it away.
    async fn a_pin_outlasts_a_rebalance(&self) {
        let at = owner(self.node, MOVED).await;
        self.open(&format!("#/shard/{MOVED}")).await;
        self.browser.press("Pin here …").await;
        self.confirms().await;
        self.sees("it is pinned", "steading.cluster.flags[3] & 1")
            .await;
        // Balancing would mend at once what is made uneven here.
        self.acts("#/plans", "pause").await;
        self.sees("balancing is paused", "steading.cluster.info.paused")
            .await;
        burden(self.node, at.as_str().expect("a name")).await;
        self.browser.click("[data-action=dry-run]").await;
        let moves = "Number(document.querySelector('[data-dryrun]').dataset.dryrun) > 0";
        self.sees("a dry run tells moves", moves).await;
        let others = "steading.cluster.dryRun.moves.every(move => move.shard !== 3)";
        self.sees("not of the pinned one", others).await;
        self.browser.click("a.button").await;
        let shown = "steading.map.mode.plan.moves.length > 0 && document.querySelector('.banner')";
        self.sees("the map shows them", shown).await;
        self.acts("#/plans", "pause").await;
        self.sees("balancing goes on", "!steading.cluster.info.paused")
            .await;
        self.browser.click("[data-action=rebalance]").await;
        self.confirms().await;
        self.is_even().await;
        assert_eq!(owner(self.node, MOVED).await, at, "the pin outlasts it");
        self.open(&format!("#/shard/{MOVED}")).await;
        self.browser.press("Unpin …").await;
        self.confirms().await;
        self.sees("it is not pinned", "!(steading.cluster.flags[3] & 1)")
            .await;
    }

    async fn is_even(&self) {
        let even = "(() => {
            const counts = steading.cluster.nodes.map(({id}) =>
                Array.from(steading.cluster.owners).filter(owner => steading.cluster.names[owner] === id).length);
            return Math.max(...counts) - Math.min(...counts) <= 1;
        })()";
        self.sees("all have as many", even).await;
    }

    async fn an_object_is_read_and_deactivated(&self) {
        self.node.add_one("seen").await.expect("it answers");
        self.open("#/objects?prefix=seen").await;
        self.browser.press("seen").await;
        let offered = "[...document.querySelectorAll('.call option')].map(it => it.innerText).join() === 'total'";
        self.sees("only what reads is offered", offered).await;
        let kept = "location.hash.includes('object=Counter%2Fseen')";
        self.sees("the choice is in the address", kept).await;
        self.browser.press("Call").await;
        let told = "document.querySelector('[data-answer]').innerText === '1'";
        self.sees("its answer is shown", told).await;
        self.browser.press("Deactivate …").await;
        self.confirms().await;
        let none = "document.querySelectorAll('tbody [data-rate]').length === 0";
        self.sees("it is not live any more", none).await;
    }

    async fn a_node_is_cordoned_and_takes_shards_again(&self) {
        let cordoned = "steading.cluster.nodes.find(node => node.id === 'c').cordoned";
        self.acts("#/nodes/c", "cordon").await;
        self.sees("c is cordoned", cordoned).await;
        self.acts("#/nodes/c", "uncordon").await;
        self.sees("c is not", &format!("!{cordoned}")).await;
    }

    /// While a turn runs the node cannot leave, and its drain can be taken back.
    async fn a_drain_is_taken_back(&self) {
        let shard = self.node.shards_of("c").await[0];
        let held = self.node.hold(shard).await;
        let is = |state: &str| {
            format!("steading.cluster.nodes.find(node => node.id === 'c').state === '{state}'")
        };
        self.acts("#/nodes/c", "drain").await;
        self.sees("c drains", &is("draining")).await;
        self.acts("#/nodes/c", "undrain").await;
        self.sees("c stays", &is("active")).await;
        self.node.let_go(shard).await;
        held.await.expect("the turn ends");
        self.node.is_settled(["a", "b", "c"]).await;
        self.is_even().await;
    }

    async fn a_plan_that_does_not_get_on_is_aborted(&self) {
        let shard = self.node.shards_of("c").await[0];
        let held = self.node.hold(shard).await;
        let plan = self.node.move_shards([(shard, "a")]).await;
        self.acts(&format!("#/plans/{plan}"), "abort").await;
        self.node.let_go(shard).await;
        held.await.expect("the turn ends");
        let aborted =
            "[...document.querySelectorAll('.badge')].some(badge => badge.innerText === 'aborted')";
        self.sees("the plan is aborted", aborted).await;
    }
}

fn other_than(owner: &Value) -> &'static str {
    if owner == "a" { "b" } else { "a" }
}

async fn owner(node: &Node, shard: u32) -> Value {
    let answer = node.get(&format!("/v1/shards/{shard}")).await;
    answer.expect("it answers").body["owner"].clone()
}

/// Moves ten shards more to a node than its share.
async fn burden(node: &Node, to: &str) {
    let owners = (0..).zip(node.owners().await);
    let others = owners.filter(|(_, owner)| owner.as_deref() != Some(to));
    let moves = others.take(10).map(|(shard, _)| (shard, to));
    let plan = node.move_shards(moves).await;
    node.plan_ends(plan).await;
}

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

/// The middle of a part of the page.
async fn middle(browser: &Browser, selector: &str) -> (i64, i64) {
    let there = format!("document.querySelector('{selector}')");
    browser.waits_for(selector, &there).await;
    let script = format!(
        "const box = {there}.getBoundingClientRect();
         return [box.x + box.width / 2, box.y + box.height / 2].map(Math.round);"
    );
    serde_json::from_value(browser.run(&script).await).expect("numbers")
}
