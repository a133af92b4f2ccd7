//! Flags and variables, and the exit codes when nothing can be done.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Stdio;

use super::{check, run, steading};

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
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
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

#[test]
fn a_reader_that_has_enough_is_no_fault_and_a_full_disk_is_told() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let full = File::options().write(true).open("/dev/full");
    for arguments in [&["completions", "bash"][..], &["simulate", "--count", "9"]] {
        let enough = writer.try_clone().expect("it can be shared");
        let output = steading().args(arguments).stdout(enough).output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");

        let full = full.as_ref().expect("it is there").try_clone();
        let mut command = steading();
        let command = command.args(arguments).stdout(full.expect("shared"));
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            text.contains("cannot write") && !text.contains("panic"),
            "{text}"
        );
    }
}

#[test]
fn values_out_of_range_are_2_and_say_what_the_range_is() {
    for timeout in ["0s", "1ns", "11m"] {
        let call = ["call", "Counter", "c1", "total", "--timeout", timeout];
        check(&call, 2, "from 1ms to 10m");
    }
    for limit in ["0", "1001"] {
        check(&["objects", "--limit", limit], 2, "1..=1000");
    }
    check(&["rebalance", "--strategy", "even"], 2, "count, load");
    check(&["status", "--address", "ftp://a:1"], 2, "do not speak ftp");
    check(&["node", "--etcd", "etcd:237g"], 2, "is no port");
}

#[test]
fn names_that_operators_read_are_short_and_visible() {
    for (flag, value, says) in [
        ("--zone", "a\u{1b}[2J", "`zone` cannot be used"),
        ("--labels", "rack=a\u{202e}", "`labels` cannot be used"),
        (
            "--grpc-advertise",
            &format!("{}:1", "x".repeat(300)),
            "at most 260",
        ),
    ] {
        let arguments = [
            "node",
            "--etcd=127.0.0.1:1",
            "--grpc-listen=127.0.0.1:0",
            "--http-listen=127.0.0.1:0",
            flag,
            value,
        ];
        check(&arguments, 2, says);
    }
}

#[test]
fn the_port_of_grpc_is_told_from_that_of_http() {
    let settings_of_http2 = b"\0\0\0\x04\0\0\0\0\0";
    let address = listening(settings_of_http2);
    check(
        &["status", "--address", &address],
        3,
        "is that the port of gRPC?",
    );
}

#[test]
fn an_answer_that_takes_long_is_waited_for_with_a_word() {
    let address = listening(b"");
    let mut asking = steading();
    let asking = asking.args(["status", "--address", &address]);
    let mut asking = asking.stderr(Stdio::piped()).spawn().expect("it runs");
    let said = BufReader::new(asking.stderr.take().expect("a pipe"));
    let first = said.lines().next().expect("a line").expect("text");
    assert!(first.contains("waiting for the answer of"), "{first}");
    asking.kill().expect("it runs");
    asking.wait().expect("it ends");
}

/// Listens, takes one connection, says this, and keeps it open. Returns its address.
fn listening(says: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        stream.write_all(says).expect("it can be said");
        // Until they go.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    address
}
