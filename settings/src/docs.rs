//! A table of settings, made from their definition.

use std::fmt::Write;

use clap::{Arg, Args, Command};

/// Returns a row of a Markdown table for each setting: key, variable, flag, default, meaning.
///
/// # Panics
///
/// If a setting has no variable, no flag or no help.
pub fn table<S: Args>() -> String {
    let mut page = String::new();
    let settings = S::augment_args(Command::new("settings"));
    for arg in settings.get_arguments().filter(|arg| !arg.is_hide_set()) {
        row(&mut page, arg);
    }
    page
}

fn row(page: &mut String, arg: &Arg) {
    let name = arg.get_id().as_str();
    let variable = arg
        .get_env()
        .expect("every setting has a variable")
        .to_string_lossy();
    let flag = arg.get_long().expect("every setting has a flag");
    let help = arg
        .get_long_help()
        .or(arg.get_help())
        .expect("every setting has a help");
    let help = help.to_string().replace('|', "\\|").replace('\n', " ");
    let (text, default) = split_default(&help);
    let default = match arg.get_default_values() {
        [] => default.to_owned(),
        values => {
            let values: Vec<_> = values.iter().map(|value| value.to_string_lossy()).collect();
            format!("`{}`", values.join(","))
        }
    };
    writeln!(
        page,
        "| `{name}` | `{variable}` | `--{flag}` | {default} | {text} |"
    )
    .expect("writing to a string succeeds");
}

/// Splits off a default that depends on something: `… [default: the host's name]`.
fn split_default(help: &str) -> (&str, &str) {
    match help.split_once(" [default: ") {
        Some((text, default)) => (
            text.trim_end_matches('.'),
            default.trim_end_matches('.').trim_end_matches(']'),
        ),
        None => (help, "none"),
    }
}
