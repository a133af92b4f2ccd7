//! How fast the Inspector's page is, and what it costs: `make bench-inspector` writes it down.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures::future::{Either, join_all, select};
use rustix::process::Pid;
use steading::Node;
use steading::ids::NodeId;
use steading::placement::Weight;
use steading_integration_tests::browser::Browser;
use steading_integration_tests::cluster::Cluster;
use steading_integration_tests::inspector::Inspector;
use steading_integration_tests::objects::Tally;
use tokio::time::{Instant, sleep};

use super::{cluster, is_live, open};

/// How long frames and CPU time are counted.
const COUNTED: Duration = Duration::from_secs(10);

/// How long calls are counted in one round, after a pause in which pages open or close.
const ROUND: Duration = Duration::from_secs(3);

/// That pause: longer than the interval at which the Inspector asks nodes while it is looked at.
const PAUSE: Duration = Duration::from_millis(2500);

/// How many rounds there are of each kind.
const ROUNDS: usize = 6;

/// How many times a node is killed.
const KILLS: usize = 2;

/// The lease of the nodes that are killed: the default.
const LEASE: Duration = Duration::from_secs(5);

/// How many callers there are, each with objects of its own.
const CALLERS: usize = 64;

/// Every view.
const VIEWS: [&str; 6] = [
    "#/",
    "#/map",
    "#/nodes",
    "#/shard/17",
    "#/objects",
    "#/plans",
];

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
#[ignore = "measures, for two minutes and alone: `make bench-inspector`"]
async fn the_inspectors_figures_are_written_down() {
    // Before this process is kept to one of them.
    let cores = std::thread::available_parallelism().expect("it is known");
    let mut rows = Vec::new();
    for shards in [8192, 65_536] {
        rows.extend(of_the_map(shards).await);
    }
    rows.push(of_a_kill().await);
    rows.extend(of_the_calls().await);
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

    browser.run(SHARDS_MOVE).await;
    sleep(Duration::from_secs(2)).await;
    let frames = number(&browser, "steading.map.frames").await;
    let (before, began) = (cpu_times(browser.pid()), Instant::now());
    sleep(COUNTED).await;
    let seconds = began.elapsed().as_secs_f64();
    let frames = (number(&browser, "steading.map.frames").await - frames) / seconds;
    let after = cpu_times(browser.pid());
    let share = |kind: &str| {
        let of = |times: &BTreeMap<String, f64>| times.get(kind).copied().unwrap_or_default();
        100.0 * (of(&after) - of(&before)) / seconds
    };
    let (page, gpu) = (share("renderer"), share("gpu-process"));
    let is_usual = shards == 8192;
    let goal = |row: Row, text: &str, is_met| {
        if is_usual {
            row.goal(text, is_met)
        } else {
            row
        }
    };
    let named = |what: &str| format!("map, {shards} shards, 64 moves in flight: {what}");
    vec![
        goal(
            Row::new(named("frames/s"), format!("{frames:.0}")),
            "≥ 50",
            frames >= 49.5,
        ),
        goal(
            Row::new(
                named("CPU of the page's process"),
                format!("{page:.0} % of a core"),
            ),
            "< 30 %",
            page < 30.0,
        ),
        Row::new(
            named("CPU of the browser's drawing process"),
            format!("{gpu:.0} % of a core"),
        ),
        Row::new(
            format!("map, {shards} shards: opened until first drawn"),
            format!("{first:.0} ms"),
        ),
        Row::new(
            format!("map, {shards} shards: drawing all of them anew, as zooming does"),
            format!("{whole:.1} ms"),
        ),
        Row::new(
            format!("map, {shards} shards: snapshot"),
            format!("{} KiB", snapshot.div_ceil(1024)),
        ),
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
        let told =
            format!("document.querySelector('.findings').innerText.includes('{name} is gone')");
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

/// What pages show while calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Nothing: they are blank.
    Nothing,
    /// Another cluster: the browser and an Inspector work as much, and ask nothing of this one.
    Another,
    /// The cluster whose calls are counted.
    This,
}

/// Calls of a cluster that has a core to itself; all else has the other.
async fn of_the_calls() -> [Row; 2] {
    let cluster = cluster("bench-calls").await.shard_count(8192);
    let nodes = cluster.ready(["node-0", "node-1"]).await;
    nodes[0].is_settled(["node-0", "node-1"]).await;
    let elsewhere = super::cluster("bench-other").await.shard_count(8192);
    let others = elsewhere.ready(["node-0", "node-1"]).await;
    others[0].is_settled(["node-0", "node-1"]).await;
    let this_process = std::process::id().cast_signed();
    pin_to("0", Pid::from_raw(this_process).expect("a process"));
    let (inspector, other) = (
        Inspector::start(&cluster).await,
        Inspector::start(&elsewhere).await,
    );
    let browser = Browser::start(1280, 860).await;
    for process in [inspector.pid(), other.pid(), browser.pid()] {
        pin_to("1", process);
    }
    for (core, nodes) in [("0", &nodes), ("1", &others)] {
        for node in nodes {
            pin_to(core, node.pid());
        }
    }
    let gate = gate(&cluster).await;
    let mut windows = Vec::new();
    for _ in VIEWS {
        windows.push(browser.add_window().await);
    }
    let mut rounds = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let mut turns = [Shown::Nothing, Shown::Another, Shown::This];
        // Which comes first takes turns, so that what grows or tires favours none.
        turns.rotate_left(round % 3);
        for shown in turns {
            for (window, view) in windows.iter().zip(VIEWS) {
                browser.look_at(window).await;
                let page = match shown {
                    Shown::Nothing => "about:blank".to_owned(),
                    Shown::Another => other.page(view),
                    Shown::This => inspector.page(view),
                };
                browser.open(&page).await;
                if shown != Shown::Nothing {
                    is_live(&browser).await;
                }
            }
            rounds[shown as usize].push(calls_per_second(&gate).await);
        }
    }
    gate.stop().await;
    let [nothing, another, this] = rounds;
    let beside = |what: &str, base: &[f64]| {
        let ratios = this.iter().zip(base).map(|(with, without)| with / without);
        let fewer = 100.0 * (1.0 - median(ratios.collect()));
        let (with, without) = (median(this.clone()), median(base.to_vec()));
        Row::new(
            format!("calls/s of the cluster with pages open on each of its 6 views, and {what}"),
            format!("{with:.0} and {without:.0}: {fewer:.1} % fewer, the median of {ROUNDS} pairs"),
        )
        .goal("< 2 % fewer", fewer < 2.0)
    };
    [
        beside("with the same pages of another cluster", &another),
        beside("with blank pages", &nothing),
    ]
}

async fn gate(cluster: &Cluster) -> Node {
    let gate = Node::builder()
        .id(NodeId::new("caller").expect("a good name"))
        .etcd([cluster.etcd()])
        .prefix(cluster.prefix())
        .weight(Weight::GATE);
    gate.start().await.expect("it joins")
}

async fn calls_per_second(gate: &Node) -> f64 {
    sleep(PAUSE).await;
    let counts: Vec<std::cell::Cell<u32>> = vec![std::cell::Cell::new(0); CALLERS];
    let callers = counts.iter().enumerate().map(|(caller, count)| async move {
        let object = |number| gate.object::<Tally>(format!("object-{caller}-{number}"));
        let objects: Vec<_> = (0..10).map(object).collect();
        for object in objects.iter().cycle() {
            object.add(1).await.expect("it answers");
            count.set(count.get() + 1);
        }
    });
    let began = Instant::now();
    match select(Box::pin(join_all(callers)), Box::pin(sleep(ROUND))).await {
        Either::Left(_) => unreachable!("objects come round for ever"),
        Either::Right(((), _)) => {}
    }
    let calls: u32 = counts.iter().map(std::cell::Cell::get).sum();
    f64::from(calls) / began.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

/// Lets a process, and all it has started, run on one core alone.
fn pin_to(core: &str, process: Pid) {
    for pid in tree(process) {
        let mut taskset = Command::new("taskset");
        let pinned = taskset.args(["-a", "-c", "-p", core, &pid.to_string()]);
        // Whoever ended meanwhile needs no core.
        drop(pinned.output().expect("taskset is there"));
    }
}

/// Returns a process and all below it.
fn tree(root: Pid) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("it is mounted").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: Vec<(i32, i32)> = numbers
        .filter_map(|pid| Some((pid, stat(pid)?[1].parse().ok()?)))
        .collect();
    let mut found = vec![root.as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// Returns what the kernel tells of a process after its name; none if it has ended.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Returns the CPU seconds of the browser's processes by their kind.
fn cpu_times(browser: Pid) -> BTreeMap<String, f64> {
    /// The unit of the kernel's figures, on every Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let mut times = BTreeMap::new();
    for pid in tree(browser) {
        let (Some(stat), Ok(command)) = (stat(pid), fs::read(format!("/proc/{pid}/cmdline")))
        else {
            continue;
        };
        let command = String::from_utf8_lossy(&command);
        let kind = command
            .split(['\0', ' '])
            .find_map(|part| part.strip_prefix("--type="));
        let ticks: f64 = [11, 12]
            .iter()
            .filter_map(|place| stat.get(*place)?.parse::<f64>().ok())
            .sum();
        *times
            .entry(kind.unwrap_or("browser").to_owned())
            .or_default() += ticks / TICKS_PER_SECOND;
    }
    times
}

/// Writes the section, and leaves the rest of the page as it is.
fn publish(rows: &[Row], cores: NonZeroUsize) {
    let mut text = format!(
        "{HEADING}\n\n\
         Measured by `make bench-inspector` on {cores} cores, {}, in headless Chromium that draws in software, \
         window 1280 × 860. Frames are those in which the map drew; the moves are told to the page as the \
         Inspector tells them, each 50 ms, and last 0.3 s each. Calls are those of {CALLERS} callers; cluster \
         and callers have one core, all else has the other. Blank pages leave that one idle, and what is busy there \
         slows this one too, for both are parts of one machine: the same pages of another cluster are the fair baseline.\n\n\
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
