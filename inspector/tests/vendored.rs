//! The libraries of the page: what `make vendor` wrote, whole, and with its licences.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use ring::digest::{SHA256, digest};
use serde::Deserialize;

#[derive(Deserialize)]
struct Versions {
    packages: BTreeMap<String, Package>,
    sha256: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Package {
    version: String,
    license: String,
}

/// Licences that let us pass the libraries on with their notices.
const LICENCES: [&str; 4] = ["MIT", "ISC", "BSD-3-Clause", "Apache-2.0"];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn versions() -> Versions {
    let text = fs::read_to_string(folder("ui/vendor/versions.json")).expect("it is there");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn every_vendored_file_is_as_it_was_written() {
    let known = versions().sha256;
    let there = fs::read_dir(folder("ui/vendor")).expect("a folder");
    let there = there.map(|entry| entry.expect("an entry").file_name());
    let mut there: Vec<_> = there
        .map(|name| name.into_string().expect("UTF-8"))
        .collect();
    there.retain(|name| name != "versions.json");
    there.sort();
    assert_eq!(there, known.keys().cloned().collect::<Vec<_>>());
    for (name, hash) in known {
        let bytes = fs::read(folder("ui/vendor").join(&name)).expect("it is there");
        let found = digest(&SHA256, &bytes);
        let found = found.as_ref().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string succeeds");
            text
        });
        assert_eq!(found, hash, "{name} was changed by hand: run `make vendor`");
    }
}

#[test]
fn every_vendored_package_has_its_licence_and_the_version_that_is_asked_for() {
    let text = fs::read_to_string(folder("vendor/package.json")).expect("it is there");
    let asked: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let packages = versions().packages;
    for (name, version) in asked["dependencies"].as_object().expect("a map") {
        let package = packages
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not vendored"));
        assert_eq!(version, &package.version, "{name}: run `make vendor`");
    }
    for (name, package) in packages {
        assert!(
            LICENCES.contains(&package.license.as_str()),
            "{name}: {}",
            package.license
        );
        let licence = folder("ui/vendor").join(format!("LICENSE-{name}.txt"));
        assert!(licence.exists(), "{name} has no licence text");
    }
}

/// The page asks nobody but the server that it came from: nothing in our own files names another.
#[test]
fn no_file_of_the_page_names_another_place() {
    let mut folders = vec![folder("ui")];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.ends_with("vendor") {
                    folders.push(path);
                }
                continue;
            }
            let text = fs::read_to_string(&path).expect("UTF-8");
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !text.contains("http://") && !text.contains("https://"),
                "{}",
                path.display()
            );
        }
    }
}
