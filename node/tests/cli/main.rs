//! The program from outside: exit codes, output, signals.

mod dev;
mod simulate;
mod start;
mod usage;

use std::process::{Command, Output};

/// Returns the program, with no settings from the environment.
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

/// Runs the program; panics unless it ends with this code, and says this without colours.
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
