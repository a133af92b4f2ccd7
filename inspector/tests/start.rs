//! The program from outside: what keeps it from starting.

use std::fs::File;
use std::process::{Command, Output};

/// Prepares a program without settings from the environment.
fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STEADING_")) {
        command.env_remove(name);
    }
    command
}

fn inspector() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_steading-inspector")))
}

fn refused(variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let mut command = inspector();
    command.envs(variables.iter().copied()).args(arguments);
    ended(&command.output().expect("it runs"), 2)
}

/// Asserts that the program ended with this code and did not panic; returns what it said.
#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn what_the_system_refuses_is_named() {
    let program = inspector();
    let mut limited = clean(Command::new("sh"));
    limited.arg("-c").arg("ulimit -n 8; exec \"$0\" \"$@\"");
    limited.arg(program.get_program()).arg("--etcd=a:1");
    let text = ended(&limited.output().expect("it runs"), 4);
    assert!(text.contains("only 8 files can be open"), "{text}");
    for name in ["TOKIO_WORKER_THREADS", "RUST_MIN_STACK"] {
        let text = refused(&[(name, "abc")], &["--etcd=a:1"]);
        assert!(text.contains(&format!("the variable `{name}`")), "{text}");
    }
}

#[test]
fn an_output_without_room_ends_it() {
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("there");
    let mut command = inspector();
    let arguments = ["--etcd=127.0.0.1:1", "--inspector-listen=127.0.0.1:0"];
    let command = command.stdout(full).args(arguments);
    let text = ended(&command.output().expect("it runs"), 4);
    assert!(text.contains("cannot write"), "{text}");
}

#[test]
fn a_variable_that_is_no_setting_is_named() {
    let text = refused(&[("STEADING_PERFIX", "/a/")], &["--etcd=a:1"]);
    assert!(
        text.contains("`STEADING_PERFIX`") && text.contains("`STEADING_PREFIX`"),
        "{text}"
    );
}

#[test]
fn settings_that_do_not_go_together_are_named() {
    for (variables, arguments, setting) in [
        (&[][..], &[][..], "etcd"),
        (&[], &["--etcd=a:1", "--etcd-user=me"], "etcd_password"),
        (
            &[("STEADING_INSPECTOR_TOKEN_FILE", "/does/not/exist")],
            &["--etcd=a:1"],
            "inspector_token_file",
        ),
        (
            &[("STEADING_NODE_ID", "a")], // Known to others, and fine here.
            &["--etcd=a:1", "--allow-actions"],
            "inspector_token",
        ),
    ] {
        let text = refused(variables, arguments);
        assert!(text.contains(&format!("`{setting}`")), "{text}");
    }
}
