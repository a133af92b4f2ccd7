//! The program from outside: exit codes, output, signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn steading() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steading"));
    let variables = std::env::vars().map(|(name, _)| name);
    for name in variables.filter(|name| name.starts_with("STEADING_")) {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    steading().args(arguments).output().expect("it runs")
}

#[track_caller]
fn check(arguments: &[&str], code: i32, says: &str) {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = text + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(text.contains(says), "{arguments:?}: {text}");
    assert!(
        !text.contains('\u{1b}'),
        "no colours outside a terminal: {text:?}"
    );
}

#[test]
fn v4_wrong_usage_is_2_and_names_what_is_wrong() {
    check(&[], 2, "Usage");
    check(&["fly"], 2, "fly");
    check(&["move", "a", "5-2"], 2, "`5-2` is no shard");
    check(&["move", "a", "0-4000000000"], 2, "at most 1024 shards");
    check(&["node"], 2, "`etcd` is not set");
    check(
        &["node", "--etcd", "a:1", "--lease-ttl", "1h"],
        2,
        "--lease-ttl",
    );
    check(
        &[
            "node",
            "--etcd",
            "a:1",
            "--storage",
            "postgres://me:secret@db",
        ],
        2,
        "`storage`",
    );
    check(
        &["node", "--config", "/does/not/exist"],
        2,
        "/does/not/exist",
    );
    check(&["call", "Counter", "c1", "add", "5"], 2, "NAME=VALUE");
    check(&["status", "--address", "not a url"], 2, "--address");
}

#[test]
fn v4_a_variable_counts_and_a_flag_goes_before_it() {
    let mut bad = steading();
    let output = bad
        .env("STEADING_LEASE_TTL", "1h")
        .args(["node", "--etcd=a:1"])
        .output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lease-ttl"));
    let mut good = steading();
    let arguments = ["node", "--lease-ttl=5s"];
    let output = good
        .env("STEADING_LEASE_TTL", "1h")
        .args(arguments)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("`etcd` is not set"), "{text}");
}

#[test]
fn a_variable_that_is_no_setting_stops_every_command() {
    for arguments in [
        &["node", "--etcd=a:1"][..],
        &["gate", "--etcd=a:1"],
        &["dev"],
        &["status"],
        &["bench", "lookup"],
    ] {
        let mut command = steading();
        let command = command.env("STEADING_LAESE_TTL", "5s").args(arguments);
        let output = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(
            text.contains("`STEADING_LAESE_TTL`") && text.contains("`STEADING_LEASE_TTL`"),
            "{arguments:?}: {text}"
        );
    }
}

#[test]
fn variables_that_kubernetes_adds_for_our_services_stop_nothing() {
    let mut command = steading();
    let command = command
        .env("STEADING_SERVICE_HOST", "10.0.0.1")
        .env("STEADING_ETCD_PORT", "tcp://10.0.0.2:2379")
        .env("STEADING_PORT_7400_TCP_ADDR", "10.0.0.1")
        .args(["node"]);
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("`etcd` is not set"), "{text}");
}

#[test]
fn secrets_are_not_in_the_help() {
    let mut command = steading();
    let command = command
        .env("STEADING_ETCD_PASSWORD", "geheim")
        .env("STEADING_STORAGE", "geheim");
    let output = command.args(["node", "--help"]).output().expect("it runs");
    assert!(output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("geheim"));
}

#[test]
fn help_version_and_completions_are_0() {
    check(&["--help"], 0, "explain");
    check(&["--version"], 0, "steading 0.1");
    check(&["completions", "bash"], 0, "steading");
}

#[test]
fn an_unreachable_node_is_3() {
    for command in [&["status"][..], &["nodes"], &["shards"], &["objects"]] {
        check(
            &[command, &["--address", "127.0.0.1:1"]].concat(),
            3,
            "cannot reach",
        );
    }
}

#[test]
fn v4_a_port_in_use_is_named_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for (flag, setting) in [
        ("--http-listen", "`http_listen`"),
        ("--grpc-listen", "`grpc_listen`"),
    ] {
        let other = if flag == "--http-listen" {
            "--grpc-listen"
        } else {
            "--http-listen"
        };
        let arguments = [
            "node",
            "--etcd=127.0.0.1:1",
            flag,
            &address,
            other,
            "127.0.0.1:0",
        ];
        let output = run(&arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{text}");
        assert!(text.contains(setting) && text.contains(&address), "{text}");
    }
}

/// Runs `simulate` with IDs on its standard input.
fn simulate(ids: &[u8], arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = steading();
    command.args(["simulate", "--keys=-"]).args(arguments);
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = process.stdin.take().expect("piped");
    // It may refuse the first line and end before it has read the rest.
    let _ = stdin.write_all(ids);
    drop(stdin);
    let output = process.wait_with_output().expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn s0_12_simulate_tells_what_would_be_and_needs_no_cluster() {
    check(&["simulate"], 0, "Do nodes of 2 CPUs and 4.0 GiB suffice?");
    check(
        &[
            "simulate",
            "--nodes=10",
            "--zones=a,b",
            "--count=7",
            "--pattern=u{n}",
        ],
        0,
        "zone b is lost",
    );
    check(
        &["simulate", "--node=a,weight=2", "--node=b"],
        0,
        "node joins",
    );
    let json = run(&["simulate", "--json", "--seed=7", "--distribution=zipf:1"]);
    let again = run(&["simulate", "--json", "--seed=7", "--distribution=zipf:1"]);
    assert_eq!(json.stdout, again.stdout, "the same to the byte");
    let report: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(
        report["changes"][0]["moves"],
        report["changes"][0]["fewest"]
    );
    assert_eq!(report["nodes"].as_array().map(Vec::len), Some(3));
}

#[test]
fn s0_37_simulate_reads_ids_line_by_line_and_says_what_is_wrong_with_them() {
    let (code, text) = simulate(b"order:pending\t5\norder:done\n", &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("warning: status-word"), "{text}");
    assert!(!text.contains('\u{1b}'), "no bar and no colours: {text:?}");
    let (code, _) = simulate(b"order:pending\norder:done\n", &["--check"]);
    assert_eq!(code, Some(1), "--check makes it an answer for scripts");
    let good: Vec<String> = (0..2000_u64)
        .map(|n| format!("u{:x}z", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let (code, text) = simulate(good.join("\n").as_bytes(), &["--check"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn simulate_refuses_garbage_with_its_line() {
    for (ids, says) in [
        (&b"a\n\nb\n"[..], "line 2: "),
        (b"a\nb\xff\n", "line 2 is not UTF-8"),
        (b"a\tmuch\n", "line 1: `much` is no number"),
        (b"", "there are no IDs"),
        (&[b'x'; 5_000], "line 1 is longer than"),
    ] {
        let (code, text) = simulate(ids, &[]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(says), "{text}");
    }
    for (arguments, says) in [
        (&["--keys=/does/not/exist"][..], "--keys /does/not/exist"),
        (&["--nodes=0"], "1..=1000"),
        (&["--zones=a,,b"], "a value is required"),
        (&["--pattern=u"], "a place for the number"),
        (
            &["--pattern={n}", "--count=3000000"],
            "more than 2000000 IDs",
        ),
        (&["--pattern={n}", "--count=0"], "makes no IDs"),
        (&["--pattern=shard#{n}/x", "--count=9000"], "no shard 8192"),
        (&["--distribution=steep"], "zipf:S"),
        (&["--node=a", "--node=a"], "twice"),
        (&["--node=a,colour=red"], "`colour=red` is none of"),
        (&["--nodes=2", "--address=localhost"], "cannot be used with"),
        (&["--cpus=0"], "it must be from"),
        (&["--memory=much"], "a number of bytes"),
        (&["--num-shards=100"], "power of two"),
        (&["--type=a/b"], "`a/b` cannot be the name"),
    ] {
        check(&[&["simulate"], arguments].concat(), 2, says);
    }
    check(&["simulate", "--address=127.0.0.1:1"], 3, "cannot reach");
}

/// A `steading dev` that is killed when this is dropped.
struct Dev {
    process: Child,
    http: String,
    inspector: String,
    /// Each node's HTTP server.
    servers: Vec<String>,
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Dev {
    fn start() -> Self {
        let mut command = steading();
        command.args([
            "dev",
            "--nodes=2",
            "--ports=any",
            "--storage=memory",
            "--num-shards=64",
        ]);
        let mut process = command
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let mut event = || -> Value {
            let line = lines.next().expect("a line a node").expect("text");
            serde_json::from_str(&line).expect("a line of JSON")
        };
        let (first, second) = (event(), event());
        for (event, node) in [(&first, "dev-0"), (&second, "dev-1")] {
            assert_eq!(
                (&event["event"], &event["node"]),
                (&"listening".into(), &node.into())
            );
            assert!(
                event["grpc"]
                    .as_str()
                    .is_some_and(|address| address.contains(':'))
            );
        }
        let address = |name: &str| format!("http://{}", first[name].as_str().expect("an address"));
        let servers = [&first, &second].map(|event| {
            let address = event["http"].as_str().expect("an address");
            format!("http://{address}")
        });
        let (http, inspector) = (address("http"), address("inspector"));
        let dev = Self {
            process,
            http,
            inspector,
            servers: servers.to_vec(),
        };
        dev.wait_until_all_are_owned();
        dev
    }

    fn wait_until_all_are_owned(&self) {
        let owned = || {
            let cluster = self.ask(&["status"]).1;
            cluster["nodes"]
                .as_array()
                .is_some_and(|nodes| nodes.len() == 2)
                && cluster["shards"]["owned"] == 64
                && cluster["nodes"][0]["shards_owned"] == 32
        };
        let waits = (0..600).find(|_| {
            // The only way to learn of another process's state is to look again.
            let done = owned();
            if !done {
                let _ = Command::new("sleep").arg("0.05").status();
            }
            done
        });
        assert!(waits.is_some(), "the shards are never owned");
    }

    /// Runs a command against it with `--json`; returns its exit code and its output.
    fn ask(&self, arguments: &[&str]) -> (i32, Value) {
        let output = run(&[arguments, &["--json", "--address", &self.http]].concat());
        let value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().expect("not killed"), value)
    }

    #[track_caller]
    fn check(&self, arguments: &[&str], code: i32, says: &str) {
        check(
            &[arguments, &["--address", &self.http]].concat(),
            code,
            says,
        );
    }
}

#[test]
fn dev_serves_every_command_and_ends_on_a_signal_with_0() {
    let mut dev = Dev::start();
    assert_eq!(
        dev.ask(&["call", "Counter", "c1", "add", "n=5"]),
        (0, 5.into())
    );
    assert_eq!(
        dev.ask(&["call", "Counter", "c1", "add", "[2]"]),
        (0, 7.into())
    );
    assert_eq!(
        dev.ask(&["call", "Word", "a/b ✓", "add", r#"{"n": 2}"#]),
        (0, 2.into())
    );
    let (code, problem) = dev.ask(&["call", "Account", "a", "withdraw", "amount=1"]);
    assert_eq!((code, &problem["code"]), (1, &"method_failed".into()));
    dev.check(&["call", "Counter", "c1", "divide"], 1, "unknown_method");
    dev.check(&["call", "Nothing", "c1", "add"], 1, "unknown_type");
    dev.check(&["call", "Counter", "", "add"], 1, "invalid_id");
    dev.check(&["call", "Counter", "..", "add"], 2, "step in their path");

    dev.check(&["status"], 0, "0 unowned");
    dev.check(&["nodes"], 0, "dev-1");
    dev.check(&["shards", "--limit=3"], 0, "and 61 more");
    dev.check(&["shards", "5"], 0, "owned");
    dev.check(&["shards", "64"], 1, "there is no shard 64");
    dev.check(&["objects"], 0, "a/b ✓");
    dev.check(
        &["explain", "shard", "5"],
        0,
        "nothing: it is where it should be",
    );
    dev.check(&["explain", "object", "Counter/c1"], 0, "lives with shard");
    dev.check(&["explain", "node", "dev-0"], 0, "32 owned, 32 targeted");
    dev.check(&["explain", "node", "nobody"], 1, "no live node");
    dev.check(&["simulate"], 0, "dev-1");
    dev.check(&["simulate", "--pattern=u-{n}"], 0, "100000 in 64 shards");
    operators_commands(&dev);
    let (_, objects) = dev.ask(&["objects", "--type=Counter"]);
    assert_eq!(objects["objects"][0]["id"], "c1");
    let (_, shard) = dev.ask(&["explain", "shard", "5"]);
    assert_eq!(shard["shard"]["state"], "owned");
    assert_eq!(dev.ask(&["nodes"]).1.as_array().map(Vec::len), Some(2));
    let (_, shards) = dev.ask(&["shards", "--limit=0", "--node=dev-0"]);
    assert_eq!(shards.as_array().map(Vec::len), Some(32));
    assert!(fetch(&dev.inspector).contains("<html"));
    let owned: Vec<_> = dev
        .servers
        .iter()
        .map(|server| metric(server, "shards_owned"))
        .collect();
    assert_eq!(owned, [32, 32], "P-20: the gauges are the real ownership");

    let pid = Pid::from_child(&dev.process);
    kill_process(pid, Signal::TERM).expect("it runs");
    assert_eq!(
        ended(&mut dev.process, Duration::from_secs(10)),
        Some(0),
        "V-1"
    );
}

/// Returns what a server answers to a plain GET of `URL/` or of a path after it.
fn fetch(url: &str) -> String {
    let rest = url.strip_prefix("http://").expect("plain HTTP");
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

fn metric(server: &str, name: &str) -> u64 {
    let text = fetch(&format!("{server}/metrics"));
    let prefix = format!("steading_{name} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
    value
        .expect("the metric is there")
        .trim()
        .parse()
        .expect("a number")
}

/// Returns the exit code of a process that ends in time.
fn ended(process: &mut Child, limit: Duration) -> Option<i32> {
    let mut rest = process.stderr.take();
    let pauses = u32::try_from(limit.as_millis() / 50).expect("some seconds");
    for _ in 0..pauses {
        if let Some(status) = process.try_wait().expect("it is our child") {
            return status.code();
        }
        let _ = Command::new("sleep").arg("0.05").status();
    }
    let mut text = String::new();
    let _ = rest.as_mut().map(|stderr| stderr.read_to_string(&mut text));
    panic!("it does not end: {text}");
}
/// Each says what is so now, and changes nothing the second time.
fn operators_commands(dev: &Dev) {
    dev.check(&["explain", "shard", "5"], 0, "because plan");
    dev.check(&["pin", "5"], 0, "shard 5 is pinned to dev-");
    dev.check(&["pin", "5"], 0, "nothing had to change");
    dev.check(&["explain", "shard", "5"], 0, "(pinned)");
    dev.check(&["unpin", "5"], 0, "shard 5 is not pinned");
    dev.check(&["move", "nobody", "5"], 1, "no live node nobody");
    dev.check(&["move", "dev-0", "5-4"], 2, "is no shard");
    dev.check(&["cordon", "dev-1"], 0, "gets no more shards");
    dev.check(&["explain", "node", "dev-1"], 0, "who cordoned it");
    dev.check(&["nodes"], 0, "active, cordoned");
    dev.check(&["uncordon", "dev-1"], 0, "dev-1 gets shards");
    dev.check(&["pause"], 0, "balancing is paused");
    dev.check(&["status"], 0, "paused by an operator");
    dev.check(&["rebalance"], 0, "where they should be");
    dev.check(&["resume"], 0, "balancing goes on");
    dev.check(&["plans"], 0, "an operator gave the command `pin`");
    let (_, plans) = dev.ask(&["plans"]);
    let id = plans[0]["id"].to_string();
    dev.check(&["plan", &id], 0, "100 %");
    dev.check(&["abort", &id], 0, "has ended");
    dev.check(&["abort", "1"], 1, "no plan 1 is kept");
}
