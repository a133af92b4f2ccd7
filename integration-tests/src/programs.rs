//! The programs that tests start, built from this very source.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns the path of the `steading` binary.
pub fn steading() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| built("steading"))
}

/// The packages of the programs that tests start. Built together, as `make integration` does: each
/// alone would have other features, and build its dependencies anew.
const PACKAGES: [&str; 3] = [
    "steading-node",
    "steading-inspector",
    "steading-example-wordcount",
];

/// Builds a program of the workspace, and returns its path.
pub(crate) fn built(program: &str) -> PathBuf {
    // Tests run from target/PROFILE/deps.
    let test = std::env::current_exe().expect("a test runs");
    let profile = test.ancestors().nth(2).expect("a folder of a profile");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--locked"]);
    // What cargo tells a test of its package would be news to build scripts that ask for the like, and
    // have them, and all that depends on them, built anew.
    let told = std::env::vars_os().map(|(name, _)| name);
    for name in told.filter(|name| is_told_by_cargo(&name.to_string_lossy())) {
        build.env_remove(name);
    }
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    build
        .arg("--target-dir")
        .arg(profile.parent().expect("target"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let built = build.status().expect("cargo runs");
    assert!(built.success(), "{program} does not build");
    profile.join(program)
}

/// Whether an environment variable describes the package whose test runs.
fn is_told_by_cargo(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_EXE_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
