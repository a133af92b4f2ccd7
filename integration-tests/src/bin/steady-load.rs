//! A steady load on a cluster that runs elsewhere, until SIGTERM: what came of it is told as one line of JSON.
//!
//! Usage: `steady-load HOST:PORT NAME SHARDS [CERTIFICATES]`, with the address of a gate's HTTP server, a name that no
//! other load has, the cluster's number of shards, and a folder with ca.crt, tls.crt and tls.key if the gate speaks TLS.
//! Each of 64 objects, each in a shard of its own, is called about ten times a second.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use steading::tls::{Tls, TlsFiles};
use steading_integration_tests::load::{Called, Load};
use steading_integration_tests::tunnel::Tunnel;
use tokio::signal::unix::{SignalKind, signal};

/// How many objects are called.
const OBJECTS: u32 = 64;

/// The name that the certificates of the manifests carry.
const TLS_NAME: &str = "steading";

/// How long each of the callers pauses after each call. There are 16, so each object waits for three others.
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name| {
        arguments
            .next()
            .with_context(|| format!("{name} is missing"))
    };
    let (address, name, shards) = (next("HOST:PORT")?, next("NAME")?, next("SHARDS")?);
    let certificates = next("CERTIFICATES").ok();
    let shards: u32 = shards.parse().context("SHARDS is a number")?;
    ensure!(shards >= OBJECTS, "there are fewer shards than objects");
    let mut terminated = signal(SignalKind::terminate())?;
    let each = (0..OBJECTS).map(|object| object * (shards / OBJECTS));
    let tunnel = match &certificates {
        Some(folder) => Some(tunnel(address.clone(), Path::new(folder)).await?),
        None => None,
    };
    let address = tunnel.as_ref().map_or(address, Tunnel::address);
    let load = Load::begin_at(&address, &name, each, PAUSE).await;
    tell(&json!({ "begun": true }).to_string());
    terminated.recv().await;
    let called = load.end().await;
    tell(&summary(&called).to_string());
    Ok(ExitCode::SUCCESS)
}

async fn tunnel(address: String, folder: &Path) -> anyhow::Result<Tunnel> {
    let [ca, cert, key] = ["ca.crt", "tls.crt", "tls.key"].map(|file| folder.join(file));
    let tls = Tls::load(TlsFiles::new(ca, cert, key).name(TLS_NAME))?;
    Ok(Tunnel::start(address, tls).await)
}

/// What came of all calls together. (A wrong answer has ended the program before.)
fn summary(called: &[Called]) -> serde_json::Value {
    let failed: Vec<&String> = called.iter().flat_map(|called| &called.failed).collect();
    let longest = called.iter().map(|called| called.longest).max();
    json!({
        "answered": called.iter().map(|called| called.answered).sum::<u64>(),
        "failed": failed.len(),
        "objects_failed": called.iter().filter(|called| !called.failed.is_empty()).count(),
        "objects_begun_anew": called.iter().filter(|called| called.lives > 1).count(),
        "longest_ms": longest.unwrap_or_default().as_millis(),
        "first_failures": failed.iter().take(5).collect::<Vec<_>>(),
    })
}

#[allow(clippy::print_stdout, reason = "a program for scripts")]
fn tell(line: &str) {
    println!("{line}");
}
