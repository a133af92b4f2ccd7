//! A running `steading dev`, and its HTTP servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use steading::text::is_visible_text;

use crate::{check, run, steading};

/// A `steading dev` that is killed when this is dropped.
pub(crate) struct Dev {
    process: Child,
    http: String,
    /// Where its Inspector is.
    pub(crate) inspector: String,
    /// Each node's HTTP server.
    pub(crate) servers: Vec<String>,
}

impl Dev {
    /// Starts two nodes of 64 shards, and waits until each owns its half.
    pub(crate) fn start() -> Self {
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
        let all = || owned().then_some(());
        let done = looked_for(Duration::from_secs(30), all);
        assert!(done.is_some(), "the shards are never owned");
    }

    /// Runs a command against it with `--json`; returns its exit code and its output.
    pub(crate) fn ask(&self, arguments: &[&str]) -> (i32, Value) {
        let output = run(&[arguments, &["--json", "--address", &self.http]].concat());
        let value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().expect("not killed"), value)
    }

    /// Runs a command against it; panics unless it ends like this and says that.
    #[track_caller]
    pub(crate) fn check(&self, arguments: &[&str], code: i32, says: &str) {
        check(
            &[arguments, &["--address", &self.http]].concat(),
            code,
            says,
        );
    }

    /// Runs a command against it; returns all that it printed, each line of which is plainly visible.
    #[track_caller]
    pub(crate) fn text(&self, arguments: &[&str], code: i32) -> String {
        let output = run(&[arguments, &["--address", &self.http]].concat());
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("UTF-8");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.lines().all(is_visible_text), "{arguments:?}: {text:?}");
        text
    }

    /// Asks it to end, and returns its exit code once it has.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::TERM).expect("it runs");
        let ended = || self.process.try_wait().expect("it is our child");
        let status = looked_for(Duration::from_secs(10), ended);
        status.expect("it ends").code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns what a server answers to a plain GET of `URL/` or of a path after it.
pub(crate) fn fetch(url: &str) -> String {
    let rest = url.strip_prefix("http://").expect("plain HTTP");
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// Returns a metric of a server that has no labels.
pub(crate) fn metric(server: &str, name: &str) -> u64 {
    let text = fetch(&format!("{server}/metrics"));
    let prefix = format!("steading_{name} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
    value
        .expect("the metric is there")
        .trim()
        .parse()
        .expect("a number")
}

/// Looks again and again, until there is what is looked for or the time is over: the only way to
/// learn of another process's state.
fn looked_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let pauses = limit.as_millis() / 50;
    (0..pauses).find_map(|_| {
        look().or_else(|| {
            let _ = Command::new("sleep").arg("0.05").status();
            None
        })
    })
}
