//! The README's commands, run as they are written, but for ports and folders.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long the commands may take together; far above what they need.
const LIMIT: Duration = Duration::from_mins(2);

#[test]
fn the_three_processes_of_the_readme_work_line_by_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("there is a README");
    let work = tempfile::tempdir().expect("a folder");
    let script = script(
        &commands(&readme, "## Three processes on a real etcd"),
        work.path(),
    );
    let output = Command::new("timeout")
        .args([
            "--kill-after=10",
            &LIMIT.as_secs().to_string(),
            "bash",
            "-c",
            &script,
        ])
        .current_dir(root)
        .env("PATH", path_with_programs())
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{}\n{stdout}\n{stderr}\n{script}",
        output.status
    );
    let lines: Vec<&str> = stdout.lines().map(str::trim).collect();
    assert!(lines.contains(&"MARK calls"), "{stdout}");
    assert!(
        stdout.contains("510"),
        "two calls answered 5 and 10: {stdout}"
    );
    assert!(
        stdout.contains("/steading/nodes/n2"),
        "etcd shows the nodes: {stdout}"
    );
}

/// Returns the lines of all `sh` blocks in a section.
fn commands(readme: &str, section: &str) -> Vec<String> {
    let section = readme.split_once(section).expect("the section is there").1;
    let section = section
        .split("\n## ")
        .next()
        .expect("split gives one at least");
    let blocks = section.split("```sh\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().expect("it is closed"));
    blocks.flat_map(str::lines).map(Into::into).collect()
}

/// Makes a script of the commands that uses free ports and a folder of its own, and that leaves
/// no process behind.
fn script(commands: &[String], work: &Path) -> String {
    let mut script = String::from(
        "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\necho MARK calls\n",
    );
    for command in commands {
        let skip = command.starts_with("cargo build") || command.starts_with("export PATH");
        if !skip {
            script.push_str(command);
            script.push('\n');
        }
    }
    let [client, peer] = [free_port(), free_port()];
    let etcd = format!(
        "etcd --data-dir {} --listen-client-urls http://127.0.0.1:{client} \
         --advertise-client-urls http://127.0.0.1:{client} \
         --listen-peer-urls http://127.0.0.1:{peer} \
         --initial-advertise-peer-urls http://127.0.0.1:{peer} \
         --initial-cluster default=http://127.0.0.1:{peer} 2>/dev/null &\n\
         export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=http://127.0.0.1:{client}",
        work.join("etcd").display()
    );
    script = script.replace("etcd --data-dir /tmp/steading-etcd &", &etcd);
    script = script.replace("127.0.0.1:2379", &format!("127.0.0.1:{client}"));
    // By way of marks, since a free port may contain the digits of another.
    let nodes = (7401..=7403_u16).chain(7481..=7483).chain([7490]);
    for port in nodes.clone() {
        script = script.replace(&port.to_string(), &format!("@{}@", port - 7000));
    }
    for port in nodes {
        script = script.replace(&format!("@{}@", port - 7000), &free_port().to_string());
    }
    script
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

fn path_with_programs() -> String {
    let test = std::env::current_exe().expect("this program");
    let programs: PathBuf = test
        .ancestors()
        .nth(2)
        .expect("target/PROFILE/deps/test")
        .into();
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", programs.display())
}
