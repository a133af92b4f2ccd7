//! `simulate`: what it tells without a cluster, and what it refuses.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use super::{check, run, steading};

#[test]
fn s0_12_simulate_tells_what_would_be_and_needs_no_cluster() {
    check(&["simulate"], 0, "Do nodes of 2 CPUs and 4.0 GiB suffice?");
    check(
        &[
            "simulate",
            "--nodes=10",
            "--zones=a,b",
            "--count=7",
            "--pattern=u{n}",
        ],
        0,
        "zone b is lost",
    );
    check(
        &["simulate", "--node=a,weight=2", "--node=b"],
        0,
        "node joins",
    );
    check(&["simulate", "--count=7"], 0, "keys      7 in 8192 shards");
    check(&["simulate", "--help"], 0, "`{n%10}`");
    let help = run(&["simulate", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let broken = help.split_whitespace().any(|word| word == "`");
    assert!(!broken, "`{{n}}` begins a new line in a help: {help}");
    let json = run(&["simulate", "--json", "--seed=7", "--distribution=zipf:1"]);
    let again = run(&["simulate", "--json", "--seed=7", "--distribution=zipf:1"]);
    assert_eq!(json.stdout, again.stdout, "the same to the byte");
    let report: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(
        report["changes"][0]["moves"],
        report["changes"][0]["fewest"]
    );
    assert_eq!(report["nodes"].as_array().map(Vec::len), Some(3));
}

#[test]
fn s0_37_simulate_reads_ids_line_by_line_and_says_what_is_wrong_with_them() {
    let (code, text) = simulate(b"order:pending\t5\norder:done\n", &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("warning: status-word"), "{text}");
    assert!(!text.contains('\u{1b}'), "no bar and no colours: {text:?}");
    let (code, _) = simulate(b"order:pending\norder:done\n", &["--check"]);
    assert_eq!(code, Some(1), "--check makes it an answer for scripts");
    let good: Vec<String> = (0..2000_u64)
        .map(|n| format!("u{:x}z", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let (code, text) = simulate(good.join("\n").as_bytes(), &["--check"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn simulate_refuses_garbage_with_its_line() {
    for (ids, says) in [
        (&b"a\n\nb\n"[..], "line 2: "),
        (b"a\nb\xff\n", "line 2 is not UTF-8"),
        (b"a\tmuch\n", "line 1: `much` is no number"),
        (b"", "there are no IDs"),
        (&[b'x'; 5_000], "line 1 is longer than"),
    ] {
        let (code, text) = simulate(ids, &[]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(says), "{text}");
    }
    for (arguments, says) in [
        (&["--keys=/does/not/exist"][..], "--keys /does/not/exist"),
        (&["--nodes=0"], "1..=1000"),
        (&["--zones=a,,b"], "a value is required"),
        (&["--pattern=u"], "a place for the number"),
        (
            &["--pattern={n}", "--count=3000000"],
            "more than 2000000 IDs",
        ),
        (&["--pattern={n}", "--count=0"], "makes no IDs"),
        (&["--pattern=shard#{n}/x", "--count=9000"], "no shard 8192"),
        (&["--distribution=steep"], "zipf:S"),
        (&["--node=a", "--node=a"], "twice"),
        (&["--node=a,colour=red"], "`colour=red` is none of"),
        (&["--nodes=2", "--address=localhost"], "cannot be used with"),
        (&["--cpus=0"], "it must be from"),
        (&["--memory=much"], "a number of bytes"),
        (&["--num-shards=100"], "power of two"),
        (&["--type=a/b"], "`a/b` cannot be the name"),
    ] {
        check(&[&["simulate"], arguments].concat(), 2, says);
    }
    check(&["simulate", "--address=127.0.0.1:1"], 3, "cannot reach");
}

/// Runs `simulate` with IDs on its standard input.
fn simulate(ids: &[u8], arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = steading();
    command.args(["simulate", "--keys=-"]).args(arguments);
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = process.stdin.take().expect("piped");
    // It may refuse the first line and end before it has read the rest.
    let _ = stdin.write_all(ids);
    drop(stdin);
    let output = process.wait_with_output().expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}
