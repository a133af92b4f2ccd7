//! The page `docs/configuration.md`, made from the definition of the settings.

use std::fmt::Write;

use super::Settings;

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from `node/src/settings.rs` by `make docs`; do not edit. -->

Every setting has one name in three forms, from weak to strong: a key in the TOML file that
`--config` names, a variable, and a flag. A bad value stops the start and names the setting; so
do settings that contradict each other, a key of the file that is no setting, and a variable that
begins with `STEADING_` and is none. (Variables that Kubernetes adds for services whose names begin
with `steading`, such as `STEADING_SERVICE_HOST` or `STEADING_PORT_7400_TCP`, are passed over.) A
program of your own with `steading_node::App` should begin its own variables in another way.

Each secret can also come from a file, such as a mounted secret: the setting whose name ends with
`_file` takes its path. Setting both is refused.

Durations are written like `5s`, `300ms` or `1m 30s`. In the file a list may be an array of
texts, and `labels` a table.

| key | variable | flag | default | |
|---|---|---|---|---|
";

const AFTER: &str = "
`steading status`, `nodes`, `shards`, `objects`, `explain` and `call` ask a running node: the flag
`--address` or the variable `STEADING_ADDRESS` names its HTTP server
(default `http://127.0.0.1:7480`). For an address `https://…` they take `tls_ca`, `tls_cert`, `tls_key` and
`tls_name` as flags or variables. `steading doctor` takes several addresses, comma-separated, and the
settings of etcd and `prefix`; `steading raise-tokens` takes those settings alone.

`steading-inspector` takes `config`, the settings of etcd and `prefix`, those of TLS, those of the Inspector, and those of the log; a key
of its file that is another setting stops it too.

The variables of the OpenTelemetry standard (`OTEL_*`) say where traces, metrics and logs are sent; nothing is sent
without them. [tracing](tracing.md) lists them.

Variables of the language and its libraries: `TOKIO_WORKER_THREADS` (threads that run tasks, 1 to 1024; default: one per
core) and `RUST_MIN_STACK` (stack size of new threads in bytes, 1 MiB to 1 GiB; default 2 MiB). A bad value of a `STEADING_*` or
`OTEL_*` variable or of one of these ends the program with code 2. The log level is set by `log`; `RUST_LOG` is ignored.

## Exit codes

| code | means |
|---|---|
";

const SIGNALS: &str = "
## Signals

What nodes, gates, `steading dev` and `steading-inspector` do when they receive a signal. A process with `--supervise`
passes signals on to the node, and they have the same effect. A signal that reaches both processes, as Ctrl-C in a
terminal does, counts once.

";

/// Returns the text of `docs/configuration.md`.
pub fn configuration_page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str(&steading_settings::table::<Settings>());
    page.push_str(AFTER);
    for (code, meaning) in crate::exit::CODES {
        writeln!(page, "| {code} | {meaning} |").expect("writing to a string succeeds");
    }
    page.push_str(SIGNALS);
    page.push_str(&steading_signals::table());
    page
}
