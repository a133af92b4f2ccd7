//! What the system or the environment can refuse at the start: an error and an exit code, no panic.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

use super::steading;

/// A node, several nodes, and a command that asks a node; none of them gets past its start here.
const COMMANDS: [&[&str]; 3] = [
    &["node", "--etcd=127.0.0.1:1", "--http-listen=127.0.0.1:0"],
    &["dev", "--config=/does/not/exist"],
    &["status", "--address=127.0.0.1:1"],
];

/// Asserts that a program ended with this code, said this, and did not panic.
#[track_caller]
fn ended(output: &Output, code: i32, says: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says) && !text.contains("panicked"), "{text}");
}

/// Returns a command under a limit of open files, so that one which starts after all ends at once.
fn with_open_files(limit: u32, arguments: &[&str]) -> Command {
    let program = steading();
    let mut command = Command::new("sh");
    for (name, _) in program.get_envs() {
        command.env_remove(name);
    }
    command
        .arg("-c")
        .arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\""))
        .arg(program.get_program())
        .args(arguments);
    command
}

#[test]
fn a_low_limit_of_open_files_is_named() {
    for limit in [8, 13, 63] {
        for arguments in [COMMANDS[0], COMMANDS[2]] {
            let output = with_open_files(limit, arguments).output();
            let says = format!("only {limit} files can be open");
            ended(&output.expect("it runs"), 4, &says);
        }
    }
    let output = with_open_files(64, COMMANDS[2]).output();
    ended(&output.expect("it runs"), 3, "cannot reach");
}

#[test]
fn bad_variables_of_the_runtime_are_named() {
    for (name, values) in [
        (
            "TOKIO_WORKER_THREADS",
            [&b"0"[..], b"abc", b"", b"-1", b"100000", b"\xff"],
        ),
        (
            "RUST_MIN_STACK",
            [b"0", b"abc", b"", b"1", b"18446744073709551615", b"\xff"],
        ),
    ] {
        for value in values {
            for arguments in [COMMANDS[0], COMMANDS[2]] {
                let mut command = steading();
                let command = command.env(name, std::ffi::OsStr::from_bytes(value));
                let output = command.args(arguments).output().expect("it runs");
                ended(&output, 2, &format!("the variable `{name}`"));
            }
        }
    }
    let mut command = steading();
    let command = command.env("TOKIO_WORKER_THREADS", "1").args(COMMANDS[2]);
    ended(&command.output().expect("it runs"), 3, "cannot reach");
}

#[test]
fn variables_that_are_not_utf8_are_named() {
    for (name, arguments) in [
        ("STEADING_LOG", COMMANDS[0]),
        ("STEADING_LABELS", COMMANDS[0]),
        ("STEADING_ADDRESS", &["status"]),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", COMMANDS[0]),
        ("OTEL_SERVICE_NAME", COMMANDS[0]),
    ] {
        let mut command = steading();
        let command = command.env(name, std::ffi::OsStr::from_bytes(b"a\xff"));
        let output = command.args(arguments).output().expect("it runs");
        ended(&output, 2, &format!("`{name}`"));
    }
}

#[test]
fn a_child_without_a_supervisor_is_named() {
    let (pipe, _writer) = std::io::pipe().expect("a pipe");
    let null = File::open("/dev/null").expect("it is there");
    for stdin in [Stdio::from(pipe), Stdio::from(null)] {
        let mut command = steading();
        let command = command.env("STEADING_SUPERVISED", "1").stdin(stdin);
        let arguments = [COMMANDS[0], &["--grpc-listen=127.0.0.1:0"]].concat();
        let output = command.args(arguments).output().expect("it runs");
        ended(&output, 2, "`STEADING_SUPERVISED`");
    }
}

#[test]
fn closed_and_full_outputs_keep_the_exit_code() {
    let full = || {
        File::options()
            .write(true)
            .open("/dev/full")
            .expect("there")
    };
    for arguments in COMMANDS {
        let code = if arguments[0] == "status" { 3 } else { 2 };
        let bad = if arguments[0] == "node" {
            "--etcd=:"
        } else {
            "--json"
        };
        let run = |command: &mut Command| {
            let status = command.args(arguments).arg(bad).status();
            assert_eq!(status.expect("it runs").code(), Some(code), "{arguments:?}");
        };
        run(steading().stdout(full()).stderr(full()));
        let mut closed = Command::new("sh");
        let closed = closed.arg("-c").arg("exec \"$0\" \"$@\" <&- >&- 2>&-");
        run(closed.arg(steading().get_program()));
    }
}
