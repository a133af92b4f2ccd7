//! The Inspector in a real Chromium, beside real nodes over a real etcd.
//!
//! `STEADING_WRITE_DOCS=1` also writes the pictures of `docs/inspector/`.

mod acting;
mod looking;

use std::path::PathBuf;

use steading_integration_tests::browser::Browser;
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::inspector::{Inspector, TOKEN};
use tokio::sync::OnceCell;

/// Returns a cluster on the etcd that all tests share.
async fn cluster(name: &str) -> Cluster {
    static ETCD: OnceCell<Etcd> = OnceCell::const_new();
    Cluster::new(ETCD.get_or_init(Etcd::start).await, name)
}

/// Opens a page, and waits until it shows the cluster.
async fn open(browser: &Browser, inspector: &Inspector, hash: &str) {
    browser.open(&inspector.page(hash)).await;
    browser
        .waits_for(
            "the page is live",
            "document.querySelector('[data-live=yes]')",
        )
        .await;
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

/// Calls some objects through a node, so that there is something to see.
async fn some_calls(node: &Node, count: usize) {
    for number in 0..count {
        node.add_one(&format!("object-{number}"))
            .await
            .expect("it answers");
    }
}

/// Where a picture goes: into the documentation if that is wished, else beside other output.
fn picture(name: &str) -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = if std::env::var_os("STEADING_WRITE_DOCS").is_some() {
        here.join("../docs/inspector")
    } else {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("inspector")
    };
    folder.join(format!("{name}.png"))
}
