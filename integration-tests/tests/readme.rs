//! The commands of the README and of the guides, run as they are written, but for ports and folders.
//!
//! `sh` blocks of a page are one script. `console` blocks show commands with what they print, and must
//! show just that; a line `…` stands for any number of lines. No guide has a block of another kind
//! that looks like a command.

use std::fmt::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// How long the commands of one page may take together; far above what they need.
const LIMIT: Duration = Duration::from_mins(5);

/// Pages whose `console` blocks are compared with what their commands print.
const PAGES_WITH_OUTPUT: &[&str] = &["docs/choosing-ids.md", "docs/sizing.md"];

/// Every page whose blocks are run or compared here.
const GUIDES: &[&str] = &[
    "docs/getting-started.md",
    "docs/choosing-ids.md",
    "docs/sizing.md",
    "docs/upgrading.md",
    "docs/when-not-to-use.md",
    "docs/migrating.md",
];

/// So many ports in a row has every server of a page: `dev` counts them up.
const IN_A_ROW: u16 = 4;

#[test]
fn the_three_processes_of_the_readme_work_line_by_line() {
    let readme = page("README.md");
    let section = section(&readme, "## Three processes on a real etcd");
    let stdout = run(&blocks(section, "sh").join("\n"));
    assert!(
        stdout.contains("510"),
        "two calls answered 5 and 10: {stdout}"
    );
    assert!(
        stdout.contains("/steading/nodes/n2"),
        "etcd shows the nodes: {stdout}"
    );
}

#[test]
fn s0_43_getting_started_works_line_by_line() {
    let guide = page("docs/getting-started.md");
    let stdout = run(&blocks(&guide, "sh").join("\n"));
    let after = |text: &str| {
        let rest = stdout.split_once(text);
        rest.unwrap_or_else(|| panic!("{text}: {stdout}"))
            .1
            .to_owned()
    };
    let names = |count: usize, names: &[&str]| {
        let lines: Vec<String> = names.iter().map(|name| format!("  \"{name}\"")).collect();
        let text = format!("[\n{}\n]", lines.join(",\n"));
        assert_eq!(stdout.matches(&text).count(), count, "{text}: {stdout}");
    };
    names(1, &["Ada", "Grace", "Edsger"]);
    after("guest 2 of mill");
    names(1, &["Barbara", "Frances"]);
    // The node that held the book was killed.
    assert!(after("\"Frances\"\n]").contains("\n[]\n"), "{stdout}");
}

#[test]
fn getting_started_shows_the_example_as_it_is() {
    let folder = root().join("examples/guestbook/src");
    let sources = ["lib.rs", "main.rs", "bin/sign.rs"].map(|file| {
        let text = std::fs::read_to_string(folder.join(file)).expect("a source file");
        text.replace("//! ", "")
    });
    for block in blocks(&page("docs/getting-started.md"), "rust") {
        let is_there = sources.iter().any(|source| source.contains(block));
        assert!(is_there, "no file of the example has:\n{block}");
    }
}

/// A package outside of the workspace, as the guide describes it.
#[test]
fn s0_43_a_package_of_ones_own_builds_and_runs_with_the_dependencies_of_getting_started() {
    let (guide, work) = (page("docs/getting-started.md"), tempfile::tempdir());
    let work = work.expect("a folder");
    let dependencies: String = blocks(&guide, "toml").concat();
    let clone = root().display().to_string();
    let dependencies = dependencies.replace("../steading", &clone);
    let package = "[package]\nname = \"own-guestbook\"\nedition = \"2024\"\n[workspace]\n";
    write(
        &work.path().join("Cargo.toml"),
        &format!("{package}{dependencies}"),
    );
    let [object, program, ..] = blocks(&guide, "rust")[..] else {
        panic!("the guide shows an object and a program");
    };
    let import = "use steading_example_guestbook::Guestbook;\n";
    assert!(program.contains(import), "{program}");
    let program = format!("{object}{}", program.replace(import, ""));
    write(&work.path().join("src/main.rs"), &program);
    // The same versions and profile as here, so that what is built already is used again.
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("it is there");
    write(&work.path().join("Cargo.lock"), &lock);
    let programs = programs();
    let target = programs.parent().expect("target/PROFILE");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--offline", "--quiet", "--target-dir"])
        .arg(target)
        .args(["--config", "profile.dev.debug=false"])
        .current_dir(work.path())
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");

    let program = target.join("debug/own-guestbook").display().to_string();
    let stdout = run(&format!(
        "{program} dev --nodes 1 --storage memory & dev=$!\n\
         curl -s -o /dev/null --retry 30 --retry-delay 1 --retry-all-errors --fail \
         http://127.0.0.1:7480/ready\n\
         {program} call Guestbook mill sign name=Ada\n\
         {program} call Guestbook mill names\n\
         kill $dev; wait $dev"
    ));
    assert!(stdout.contains("\"Ada\""), "{stdout}");
}

#[test]
fn s0_44_migrating_works_line_by_line() {
    let stdout = run(&blocks(&page("docs/migrating.md"), "sh").join("\n"));
    assert!(stdout.contains("0 differ"), "{stdout}");
    assert!(stdout.contains("1 differ"), "{stdout}");
}

#[test]
fn s0_37_s0_40_guides_show_what_the_simulator_prints() {
    for name in PAGES_WITH_OUTPUT {
        let page = page(name);
        let examples = blocks(&page, "console");
        assert!(!examples.is_empty(), "{name} shows nothing");
        for example in examples {
            for part in example.split("$ ").filter(|part| !part.trim().is_empty()) {
                let (command, shown) = part.split_once('\n').unwrap_or((part, ""));
                let output = shell(command);
                let printed = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success(), "{name}: {command}: {output:?}");
                assert!(
                    is_shown(shown, &printed),
                    "{name} shows other than what is printed by\n{command}\n{printed}"
                );
            }
        }
    }
}

#[test]
fn no_guide_has_commands_that_are_not_run() {
    let run = |name: &str, kind: &str| match kind {
        "sh" => ["docs/getting-started.md", "docs/migrating.md"].contains(&name),
        "console" => PAGES_WITH_OUTPUT.contains(&name),
        "rust" | "toml" | "text" => true,
        _ => false,
    };
    for name in GUIDES {
        let page = page(name);
        // Fences come in pairs: one that opens, with the kind behind it, and one that closes.
        let fences = page.lines().filter_map(|line| line.strip_prefix("```"));
        for kind in fences.step_by(2) {
            assert!(run(name, kind), "{name}: a block of the kind `{kind}`");
        }
    }
}

#[test]
fn shown_output_may_leave_lines_out_only_where_it_says_so() {
    assert!(is_shown("a\n…\nd\n", "a\nb  \nc\nd\n"));
    assert!(is_shown("a\n…", "a\n"));
    assert!(!is_shown("a\nd\n", "a\nb\nd\n"));
    assert!(!is_shown("a\n…\nd\n", "a\nb\n"));
    assert!(!is_shown("a\n", "a\nb\n"));
}

/// Whether the printed lines are those shown, but for blanks at their ends.
fn is_shown(shown: &str, printed: &str) -> bool {
    let lines = |text: &str| -> Vec<String> {
        let text = text.trim_end();
        text.lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    };
    let (shown, printed) = (lines(shown), lines(printed));
    let parts: Vec<&[String]> = shown.split(|line| line == "…").collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return parts.first().is_none_or(|all| **all == printed[..]);
    };
    let Some(mut rest) = printed.strip_prefix(*first) else {
        return false;
    };
    for part in middle {
        let place = (0..=rest.len()).find(|place| rest[*place..].starts_with(part));
        let Some(place) = place else {
            return false;
        };
        rest = &rest[place + part.len()..];
    }
    rest.ends_with(last)
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the workspace").to_owned()
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).expect("the page is there")
}

/// Returns what stands between a heading and the next one of its rank.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let section = page.split_once(heading).expect("the section is there").1;
    section.split("\n## ").next().expect("one part at least")
}

/// Returns what stands in all blocks of one kind.
fn blocks<'a>(page: &'a str, kind: &str) -> Vec<&'a str> {
    let begin = format!("```{kind}\n");
    let blocks = page.split(begin.as_str()).skip(1);
    blocks
        .map(|block| block.split("```").next().expect("it is closed"))
        .collect()
}

/// Runs the commands of a page and returns what they print.
#[track_caller]
fn run(commands: &str) -> String {
    let work = tempfile::tempdir().expect("a folder");
    let script = script(commands, work.path());
    let output = shell(&script);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{}\n{stdout}\n{stderr}\n{script}",
        output.status
    );
    stdout.into_owned()
}

/// Runs a script in the project's root, for a limited time.
fn shell(script: &str) -> Output {
    Command::new("timeout")
        .args([
            "--kill-after=10",
            &LIMIT.as_secs().to_string(),
            "bash",
            "-c",
            script,
        ])
        .current_dir(root())
        .env("PATH", path_with_programs())
        .stdin(Stdio::null())
        .output()
        .expect("bash runs")
}

/// Makes a script of the commands that uses free ports and a folder of its own, and that leaves
/// no process behind.
fn script(commands: &str, work: &Path) -> String {
    let mut script =
        String::from("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n");
    let (http, grpc) = (free_ports(), free_ports());
    // What `dev` and commands do if nothing is said.
    for (name, value) in [
        ("STEADING_ADDRESS", format!("http://127.0.0.1:{http}")),
        ("STEADING_HTTP_LISTEN", format!("127.0.0.1:{http}")),
        ("STEADING_GRPC_LISTEN", format!("127.0.0.1:{grpc}")),
        ("STEADING_INSPECTOR_LISTEN", "127.0.0.1:0".to_owned()),
    ] {
        if commands.contains(" dev ") {
            writeln!(script, "export {name}={value}").expect("a text takes all");
        }
    }
    let skipped = ["cargo build", "export PATH", "make setup"];
    for line in commands.lines() {
        if line.starts_with("etcd ") {
            script.push_str(&etcd(work));
        } else if !skipped.iter().any(|skipped| line.starts_with(skipped)) {
            script.push_str(line);
        }
        script.push('\n');
    }
    with_free_ports(script, http, grpc)
}

/// Starts an etcd that leaves nothing behind, in place of the one that a page starts.
fn etcd(work: &Path) -> String {
    let peer = free_ports();
    format!(
        "etcd --data-dir {} --listen-client-urls http://127.0.0.1:2379 \
         --advertise-client-urls http://127.0.0.1:2379 \
         --listen-peer-urls http://127.0.0.1:{peer} \
         --initial-advertise-peer-urls http://127.0.0.1:{peer} \
         --initial-cluster default=http://127.0.0.1:{peer} 2>/dev/null &\n\
         etcd=$!\n\
         export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=http://127.0.0.1:2379",
        work.join("etcd").display()
    )
}

/// Replaces the ports that pages name, by way of marks: a free port may contain the digits of
/// another.
fn with_free_ports(mut script: String, http: u16, grpc: u16) -> String {
    let one = |port: u16| (port, free_ports());
    let several = |first: u16, free: u16| (0..IN_A_ROW).map(move |n| (first + n, free + n));
    let ports = several(7480, http).chain(several(7400, grpc));
    let ports: Vec<(u16, u16)> = ports.chain([one(2379), one(7490)]).collect();
    for (port, _) in &ports {
        script = script.replace(&format!(":{port}"), &format!(":@{port}@"));
        script = script.replace(&format!(" {port}"), &format!(" @{port}@"));
    }
    for (port, free) in &ports {
        script = script.replace(&format!("@{port}@"), &free.to_string());
    }
    script
}

/// Returns the first of [`IN_A_ROW`] ports that were free a moment ago.
fn free_ports() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first = std::iter::repeat_with(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it is bound").port()
    });
    let mut good = first.filter(|first| {
        let last = first.checked_add(IN_A_ROW - 1);
        last.is_some_and(|last| (*first..=last).all(is_free))
    });
    good.next().expect("it goes on for ever")
}

fn path_with_programs() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", programs().display())
}

/// Returns the folder with what was built beside this test.
fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("this program");
    let programs = test.ancestors().nth(2);
    programs.expect("target/PROFILE/deps/test").into()
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder");
    std::fs::write(path, text).expect("it can be written");
}
