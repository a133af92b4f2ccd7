//! How fast the Inspector's page is, and what it costs: `make bench-inspector` writes it down.

mod calls;
mod loaded;
mod processes;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use steading_integration_tests::browser::Browser;
use steading_integration_tests::inspector::Inspector;
use tokio::time::{Instant, sleep};

use self::loaded::CALLERS;
use self::processes::cpu_times;
use super::{cluster, open};

/// How long frames and CPU time are counted.
const COUNTED: Duration = Duration::from_secs(10);

/// How many times a node is killed.
const KILLS: usize = 2;

/// The lease of the nodes that are killed: the default.
const LEASE: Duration = Duration::from_secs(5);

/// Where the section begins in `docs/benchmarks.md`; it goes to the end of the page.
const HEADING: &str = "## The Inspector";

/// Lets 64 shards move at once, each for 0.3 s, told as the Inspector tells it: each 50 ms what
/// changed since, in JSON.
const SHARDS_MOVE: &str = "
    const {cluster, tell} = steading, moving = new Map();
    const names = cluster.nodes.map(node => node.id);
    let next = 0;
    const wave = () => {
        const now = Date.now(), shards = [];
        for (const [shard, {to, since}] of moving) {
            if (now - since < 300) break;
            moving.delete(shard);
            shards.push([shard, to, to, 0, now]);
        }
        while (moving.size < 64) {
            next = (next + 127) % cluster.shardCount;
            if (moving.has(next)) continue;
            const from = cluster.names[cluster.owners[next]];
            const to = names[(names.indexOf(from) + 1) % names.length];
            moving.set(next, {to, since: now});
            shards.push([next, from, to, 0, now]);
        }
        tell(JSON.stringify({revision: cluster.revision, at: now, shards}));
    };
    clearInterval(globalThis.waves);
    globalThis.waves = setInterval(wave, 50);";

#[tokio::test]
#[ignore = "measures, for seven minutes and alone: `make bench-inspector`"]
async fn the_inspectors_figures_are_written_down() {
    // Before this process is kept to one of them.
    let cores = std::thread::available_parallelism().expect("it is known");
    let mut rows = Vec::new();
    for shards in [8192, 65_536] {
        rows.extend(of_the_map(shards).await);
    }
    rows.push(of_a_kill().await);
    rows.extend(calls::measured().await);
    publish(&rows, cores);
}

/// A figure: what, how much, and the goal.
struct Row {
    what: String,
    value: String,
    goal: Option<(String, bool)>,
}

impl Row {
    fn new(what: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            value: value.into(),
            goal: None,
        }
    }

    fn goal(self, text: &str, is_met: bool) -> Self {
        let goal = Some((text.to_owned(), is_met));
        Self { goal, ..self }
    }
}

async fn of_the_map(shards: u32) -> Vec<Row> {
    let cluster = cluster(&format!("map-{shards}")).await.shard_count(shards);
    let nodes = cluster.ready(["node-0", "node-1", "node-2"]).await;
    nodes[0].is_settled(["node-0", "node-1", "node-2"]).await;
    let inspector = Inspector::start(&cluster).await;
    let browser = Browser::start(1280, 860).await;
    open(&browser, &inspector, "#/nodes").await; // The files are loaded and compiled once.
    let url = format!("http://{}/api/view", inspector.address());
    let snapshot = reqwest::get(&url).await.expect("it answers");
    let snapshot = snapshot.bytes().await.expect("a body").len();
    browser.open("about:blank").await;
    open(&browser, &inspector, "#/map").await;
    let drawn = "steading.map.drawnAt > 0";
    browser.waits_for("the map is drawn", drawn).await;
    let first = number(&browser, "steading.map.drawnAt").await;
    let whole = "(() => { const began = performance.now(); for (let i = 0; i < 20; i += 1) steading.map.draw(); return (performance.now() - began) / 20; })()";
    let whole = number(&browser, whole).await;
    let mut rows = while_shards_move(&browser, shards).await;
    let named =
        |what: &str, value: String| Row::new(format!("map, {shards} shards: {what}"), value);
    rows.extend([
        named("opened until first drawn", format!("{first:.0} ms")),
        named(
            "drawing all of them anew, as zooming does",
            format!("{whole:.1} ms"),
        ),
        named("snapshot", format!("{} KiB", snapshot.div_ceil(1024))),
    ]);
    rows
}

async fn while_shards_move(browser: &Browser, shards: u32) -> Vec<Row> {
    browser.run(SHARDS_MOVE).await;
    sleep(Duration::from_secs(2)).await;
    let frames = number(browser, "steading.map.frames").await;
    let (before, began) = (cpu_times(browser.pid()), Instant::now());
    sleep(COUNTED).await;
    let seconds = began.elapsed().as_secs_f64();
    let frames = (number(browser, "steading.map.frames").await - frames) / seconds;
    let after = cpu_times(browser.pid());
    let share = |kind: &str| {
        let of = |times: &BTreeMap<String, f64>| times.get(kind).copied().unwrap_or_default();
        100.0 * (of(&after) - of(&before)) / seconds
    };
    let (page, gpu) = (share("renderer"), share("gpu-process"));
    let named = |what: &str, value: String| {
        let name = format!("map, {shards} shards, 64 moves in flight: {what}");
        Row::new(name, value)
    };
    let mut frames_row = named("frames/s", format!("{frames:.0}"));
    let mut page_row = named(
        "CPU of the page's process",
        format!("{page:.0} % of a core"),
    );
    if shards == 8192 {
        frames_row = frames_row.goal("≥ 50", frames >= 49.5);
        page_row = page_row.goal("< 30 %", page < 30.0);
    }
    let gpu = format!("{gpu:.0} % of a core");
    vec![
        frames_row,
        page_row,
        named("CPU of the browser's drawing process", gpu),
    ]
}

async fn number(browser: &Browser, expression: &str) -> f64 {
    let value = browser.run(&format!("return {expression}")).await;
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{expression}: {value}"))
}

async fn of_a_kill() -> Row {
    let cluster = cluster("bench-kill").await.with_lease_ttl(LEASE);
    let [a, _b] = cluster.ready(["a", "b"]).await;
    let inspector = Inspector::start(&cluster).await;
    let browser = Browser::start(1280, 860).await;
    open(&browser, &inspector, "#/").await;
    let mut took = Vec::new();
    for kill in 0..KILLS {
        let name = format!("victim-{kill}");
        let [victim] = cluster.ready([name.as_str()]).await;
        let there = format!("steading.cluster.nodes.some(node => node.id === '{name}')");
        browser.waits_for("it is there", &there).await;
        a.sees("it is there", |seen| seen.to_string().contains(&name))
            .await;
        // At any time since the lease was last renewed.
        sleep(Duration::from_millis(400 * (kill as u64 + 1))).await;
        let killed = Instant::now();
        victim.kill();
        // Those that went shortly before are named in the same line.
        let findings = "document.querySelector('.findings').innerText";
        let told = format!("/(is|are) gone/.test({findings}) && {findings}.includes('{name}')");
        browser.waits_for("it is gone", &told).await;
        took.push(killed.elapsed().as_secs_f64());
    }
    let most = took.iter().copied().fold(0.0, f64::max);
    let limit = LEASE.as_secs_f64() + 1.0;
    Row::new(
        format!(
            "SIGKILL of a node (lease {LEASE:?}) until the page says so, the longest of {KILLS}"
        ),
        format!("{most:.2} s"),
    )
    .goal(&format!("≤ {limit} s"), most <= limit)
}

/// Writes the section, and leaves the rest of the page as it is.
fn publish(rows: &[Row], cores: NonZeroUsize) {
    let mut text = format!(
        "{HEADING}\n\n\
         Measured by `make bench-inspector` on {cores} cores, {}, in headless Chromium that draws in software, \
         window 1280 × 860. Frames are those in which the map drew; the moves are told to the page as the \
         Inspector tells them, each 50 ms, and last 0.3 s each. Calls are those of {CALLERS} callers; the cluster, its callers and \
         another such cluster, at which nobody looks, have one core, all else has the other. Between rounds the Inspector and the \
         browser are stopped and let go on, with all their pages. Calls for each second of CPU time are told beside those of the \
         other cluster, for what a core does in a second changes on a shared machine, by the half and more; by the clock nothing \
         is made even. By the clock alone counts what a busy core takes from the other of the same machine.\n\n\
         | figure | measured | goal | |\n|---|---|---|---|\n",
        today(),
    );
    for Row { what, value, goal } in rows {
        let (goal, met) = match goal {
            None => ("-", ""),
            Some((goal, true)) => (goal.as_str(), "reached"),
            Some((goal, false)) => (goal.as_str(), "**missed**"),
        };
        writeln!(text, "| {what} | {value} | {goal} | {met} |").expect("a string takes it");
    }
    eprintln!("{text}");
    if std::env::var_os("STEADING_WRITE_DOCS").is_some() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
        let before = fs::read_to_string(&page).expect("it is there");
        let rest = before.split(HEADING).next().unwrap_or_default().trim_end();
        fs::write(&page, format!("{rest}\n\n{text}")).expect("it can be written");
    }
}

fn today() -> String {
    let date = Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])
        .output();
    let date = date.expect("date is there").stdout;
    String::from_utf8_lossy(&date).trim().to_owned()
}
