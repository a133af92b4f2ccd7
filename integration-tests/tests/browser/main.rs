//! The Inspector in a real Chromium, beside real nodes over a real etcd.
//!
//! `STEADING_WRITE_DOCS=1` also writes the pictures of `docs/inspector/`, and `make bench-inspector`
//! the Inspector's figures into `docs/benchmarks.md`.

mod acting;
mod foreign;
mod looking;
mod measuring;

use std::path::PathBuf;

use steading_integration_tests::browser::Browser;
use steading_integration_tests::cluster::Cluster;
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::inspector::{Inspector, TOKEN};
use tokio::sync::OnceCell;

/// The program of the nodes: the stock one, with more objects.
const PROGRAM: &str = env!("CARGO_BIN_EXE_test-node");

/// Returns a cluster on the etcd that all tests share.
async fn cluster(name: &str) -> Cluster {
    stock_cluster(name).await.program(PROGRAM)
}

/// The same, of nodes that run the stock program.
async fn stock_cluster(name: &str) -> Cluster {
    static ETCD: OnceCell<Etcd> = OnceCell::const_new();
    Cluster::new(ETCD.get_or_init(Etcd::start).await, name)
}

/// Opens a page, and waits until it shows the cluster.
async fn open(browser: &Browser, inspector: &Inspector, hash: &str) {
    browser.open(&inspector.page(hash)).await;
    is_live(browser).await;
}

async fn is_live(browser: &Browser) {
    let live = "document.querySelector('[data-live=yes]')";
    browser.waits_for("the page is live", live).await;
}

/// Unlocks actions on the page as an operator does.
async fn unlock(browser: &Browser) {
    browser.press("Unlock actions").await;
    browser.type_into("input[name=operator]", "Ada").await;
    browser.type_into("input[name=token]", TOKEN).await;
    browser.press("Unlock").await;
    let gone = "!document.querySelector('dialog') && sessionStorage.length > 0";
    browser.waits_for("actions are unlocked", gone).await;
}

/// Whether the pictures of the documentation are made.
fn is_for_docs() -> bool {
    std::env::var_os("STEADING_WRITE_DOCS").is_some()
}

/// Where a picture goes: into the documentation if that is wished, else beside other output.
fn picture(name: &str) -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = if is_for_docs() {
        here.join("../docs/inspector")
    } else {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("inspector")
    };
    folder.join(format!("{name}.png"))
}
