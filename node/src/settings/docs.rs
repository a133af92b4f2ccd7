//! The page `docs/configuration.md`, made from the definition of the settings.

use std::fmt::Write;

use clap::{Arg, Args, Command};

use super::Settings;

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from `node/src/settings.rs` by `make docs`; do not edit. -->

Every setting has one name in three forms, from weak to strong: a key in the TOML file that
`--config` names, a variable, and a flag. A bad value stops the start and names the setting; so
does a key of the file that is no setting.

Durations are written like `5s`, `300ms` or `1m 30s`. In the file a list may be an array of
texts, and `labels` a table.

| key | variable | flag | default | |
|---|---|---|---|---|
";

const AFTER: &str = "
`steading status`, `nodes`, `shards`, `objects`, `explain` and `call` ask a running node: the flag
`--address` or the variable `STEADING_ADDRESS` names its HTTP server
(default `http://127.0.0.1:7480`).

## Exit codes

| code | means |
|---|---|
";

/// Returns the text of `docs/configuration.md`.
pub fn configuration_page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let settings = Settings::augment_args(Command::new("settings"));
    for arg in settings.get_arguments().filter(|arg| !arg.is_hide_set()) {
        row(&mut page, arg);
    }
    page.push_str(AFTER);
    for (code, meaning) in crate::exit::CODES {
        writeln!(page, "| {code} | {meaning} |").expect("writing to a string succeeds");
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
