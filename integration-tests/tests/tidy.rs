//! House rules that no compiler knows: what each module is for, and which may know which.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each part of the runtime may know of the others, beside itself. Arrows point one way;
/// `node` and `testing`, where the parts meet, may know all and are not listed.
const ARROWS: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("clock", &[]),
    ("error", &[]),
    ("tasks", &[]),
    ("telemetry", &["ids"]),
    ("tls", &["telemetry"]),
    ("memory_budget", &["telemetry"]),
    ("connections", &["telemetry", "memory_budget"]),
    ("fence", &["clock"]),
    ("probation", &["ids"]),
    ("placement", &["ids", "clock"]),
    ("storage", &["ids", "telemetry"]),
    (
        "coordination",
        &[
            "ids",
            "placement",
            "clock",
            "fence",
            "probation",
            "tasks",
            "telemetry",
            "tls",
        ],
    ),
    (
        "object",
        &[
            "ids",
            "placement",
            "clock",
            "error",
            "fence",
            "memory_budget",
            "probation",
            "storage",
            "tasks",
            "telemetry",
        ],
    ),
    (
        "routing",
        &[
            "ids",
            "placement",
            "object",
            "clock",
            "connections",
            "memory_budget",
            "error",
            "fence",
            "tasks",
            "telemetry",
            "tls",
        ],
    ),
];

/// What the pure part must not touch: no runtime, no wire, no store, no clock, no chance.
const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "etcd",
    "rand::",
    "SystemTime",
    "Instant",
    "async ",
    "std::fs",
    "std::env",
];

/// Words that only some places may use, each the one door to something.
const DOORS: &[(&str, &[&str])] = &[
    (
        "etcd_client",
        &[
            "runtime/src/coordination/etcd.rs",
            "runtime/src/coordination/etcd/",
            "integration-tests/src/etcd.rs",
        ],
    ),
    // Wire types stop at the inbound services and the connections.
    (
        "steading_proto",
        &[
            "runtime/src/routing/",
            "runtime/src/node/query.rs",
            "runtime/src/node/operator.rs",
            "runtime/src/node/operator/",
            "node/src/process/grpc.rs",
            // The baselines: plain unary calls.
            "node/src/bench/",
            "runtime/benches/",
            // A client that is no node.
            "integration-tests/tests/telemetry/",
            // A client that poses as a node.
            "integration-tests/tests/processes/memory.rs",
            "integration-tests/tests/tls/roles.rs",
            // Messages that no node sends.
            "integration-tests/tests/malformed/",
        ],
    ),
];

/// What stands above a module that only tests have.
const TEST_ONLY: &str = "#[cfg(test)]";

/// Returns the name in the declaration of a module that has a file of its own.
fn declared(line: &str) -> Option<&str> {
    let (_, name) = line.strip_suffix(';')?.split_once("mod ")?;
    Some(name)
}

/// A source file with its path below the project's root.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Returns the lines of code with their numbers: no comments, nothing of unit tests. A module
    /// of tests in a file of its own is left out by [`sources`], its declaration here is not the
    /// end of the code.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let begins_tests = |pair: &[&str]| pair[0] == TEST_ONLY && declared(pair[1]).is_none();
        let tests = lines.windows(2).position(begins_tests);
        let code = lines.into_iter().take(tests.unwrap_or(usize::MAX));
        (1..)
            .zip(code)
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Returns the files and folders of the modules that it declares for tests alone.
    fn test_modules(&self) -> Vec<String> {
        let lines: Vec<&str> = self.text.lines().collect();
        let folder = self.path.trim_end_matches(".rs").trim_end_matches("/lib");
        let modules = lines.windows(2).filter(|pair| pair[0] == TEST_ONLY);
        let names = modules.filter_map(|pair| declared(pair[1]));
        names
            .flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/")])
            .collect()
    }

    fn is_below(&self, place: &str) -> bool {
        self.path == place || (place.ends_with('/') && self.path.starts_with(place))
    }

    /// Returns which part of the runtime it belongs to.
    fn part(&self) -> Option<&str> {
        let path = self.path.strip_prefix("runtime/src/")?;
        path.split(['/', '.']).next()
    }
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("a member of the workspace").to_owned()
}

/// Returns every source file, but unit tests and the snippets that must not compile.
fn sources() -> Vec<Source> {
    let mut found = all_sources();
    let tests: Vec<String> = found.iter().flat_map(Source::test_modules).collect();
    found.retain(|source| !tests.iter().any(|place| source.is_below(place)));
    found
}

fn all_sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders_of_members() {
        collect(&root().join(folder), &mut found);
    }
    assert!(
        found.len() > 50,
        "the sources are not where they are sought"
    );
    found
}

/// Returns the folders at the root that hold the workspace's members, each once.
fn folders_of_members() -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("UTF-8");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let members = manifest["workspace"]["members"].as_array().expect("a list");
    let paths = members.iter().filter_map(toml::Value::as_str);
    paths
        .filter_map(|path| path.split('/').next())
        .map(str::to_owned)
        .collect()
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !["target", "ui"]
                .iter()
                .any(|skipped| path.ends_with(skipped))
            {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let below = path.strip_prefix(root()).expect("below the root");
            found.push(Source {
                path: below.display().to_string(),
                text: fs::read_to_string(&path).expect("UTF-8"),
            });
        }
    }
}

#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_module_begins_with_what_it_is_for() {
    let silent: Vec<_> = all_sources()
        .into_iter()
        .filter(|source| {
            let mut lines = source.text.lines();
            let first = lines.find(|line| !line.is_empty() && !line.starts_with("#!["));
            !first.is_some_and(|first| first.starts_with("//!"))
        })
        .map(|source| source.path)
        .collect();
    assert_none(&silent);
}

#[test]
fn placement_is_pure() {
    let mut wrong = Vec::new();
    for source in sources() {
        if source.part() != Some("placement") {
            continue;
        }
        for (number, line) in source.code() {
            for word in IMPURE.iter().filter(|word| line.contains(*word)) {
                wrong.push(format!("{}:{number}: `{word}`", source.path));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn arrows_point_one_way() {
    let mut wrong = Vec::new();
    for source in sources() {
        let part = source.part().unwrap_or_default();
        let Some((_, known)) = ARROWS.iter().find(|(name, _)| *name == part) else {
            continue;
        };
        for (number, line) in source.code() {
            for other in parts_named_in(line) {
                if other != part && !known.contains(&other) {
                    wrong.push(format!("{}:{number}: knows `{other}`", source.path));
                }
            }
        }
    }
    assert_none(&wrong);
}

/// Returns the modules after each `crate::`; what the root re-exports under its own name is free.
fn parts_named_in(line: &str) -> impl Iterator<Item = &str> {
    let after = line.split("crate::").skip(1);
    let name = |rest: &'_ str| rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
    after
        .map(move |rest| &rest[..name(rest).unwrap_or(rest.len())])
        .filter(|part| ARROWS.iter().any(|(name, _)| name == part) || *part == "node")
}

#[test]
fn each_door_has_one_place() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (word, places) in DOORS {
            if source.path.ends_with("tests/tidy.rs") || places.iter().any(|p| source.is_below(p)) {
                continue;
            }
            for (number, _) in source.code().filter(|(_, line)| line.contains(word)) {
                wrong.push(format!("{}:{number}: names `{word}`", source.path));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn parts_are_found_in_code() {
    let line = "use crate::object::Host; crate::Tasks; crate::routing";
    assert_eq!(
        parts_named_in(line).collect::<Vec<_>>(),
        ["object", "routing"]
    );
}

/// Pages that name tests, as `name_of_the_test`, or `beginning_of_it_…`.
const PAGES_OF_TESTS: &[&str] = &["docs/coverage.md", "model/README.md"];

#[test]
fn every_test_that_a_page_names_exists() {
    let sources = all_sources();
    let functions: Vec<&str> = sources
        .iter()
        .flat_map(|source| source.text.lines())
        .filter_map(|line| line.split_once("fn ")?.1.split(['(', '<']).next())
        .collect();
    let mut unknown = Vec::new();
    for page in PAGES_OF_TESTS {
        let text = fs::read_to_string(root().join(page)).expect("a page");
        let quoted = text.split('`').skip(1).step_by(2);
        let is_test = |name: &&str| name.contains('_') && !name.contains([' ', '/', '.', '-']);
        for name in quoted.filter(is_test) {
            let exists = match name.strip_suffix('…') {
                Some(start) => functions.iter().any(|function| function.starts_with(start)),
                None => functions.contains(&name),
            };
            if !exists {
                unknown.push(format!("{page}: no test {name}"));
            }
        }
    }
    assert_none(&unknown);
}
