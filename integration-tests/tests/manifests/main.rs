//! The manifests in `k8s/`, as `kubectl kustomize` puts each overlay together: they fit Kubernetes, each other, and
//! the program's own settings, ports and paths.

mod certificates;
mod network;
mod overlay;
mod pods;
mod selectors;
mod settings;

use std::path::PathBuf;
use std::process::Command;

use overlay::{Overlay, each_overlay};

/// The oldest version that the schemas are checked for; the newest is the validator's own default.
const OLDEST: &str = "1.31";

/// Where `scripts/install-missing` puts tools that Debian does not have.
fn tools() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    cache.join("steading-tools")
}

#[test]
fn every_overlay_fits_the_schemas_of_kubernetes() {
    for overlay in each_overlay() {
        for version in [&["--kubernetes-version", OLDEST][..], &[]] {
            let said = validate(&overlay, version);
            assert_eq!(said, Ok(()), "{}, {version:?}", overlay.name);
        }
    }
}

#[test]
fn a_field_that_does_not_exist_is_noticed() {
    let mut overlay = Overlay::read("dev");
    let set = overlay.get_mut("StatefulSet", "steading");
    set["spec"]["podManagmentPolicy"] = "Parallel".into();
    let said = validate(&overlay, &[]).expect_err("a word is misspelled");
    assert!(said.contains("podManagmentPolicy"), "{said}");
}

/// Asks `kubernetes-validate`, which has the schemas of Kubernetes itself and none of operators.
fn validate(overlay: &Overlay, more: &[&str]) -> Result<(), String> {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    let own = overlay.all().filter(|object| !overlay::is_foreign(object));
    let text = own.map(|object| serde_yaml_ng::to_string(object).expect("YAML"));
    let text: Vec<String> = text.collect();
    std::fs::write(file.path(), text.join("---\n")).expect("it is written");
    let mut command = Command::new(tools().join("venv/bin/kubernetes-validate"));
    command.arg("--strict").args(more).arg(file.path());
    let output = command
        .output()
        .expect("`make setup` installs kubernetes-validate");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() && !said.contains("WARN") {
        Ok(())
    } else {
        Err(said.into_owned())
    }
}
