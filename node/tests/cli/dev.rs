//! Every command against a `steading dev`, and its end.

mod running;

use running::{Dev, fetch, metric};

#[test]
fn dev_serves_every_command_and_ends_on_a_signal_with_0() {
    let mut dev = Dev::start();
    assert_eq!(
        dev.ask(&["call", "Counter", "c1", "add", "n=5"]),
        (0, 5.into())
    );
    assert_eq!(
        dev.ask(&["call", "Counter", "c1", "add", "[2]"]),
        (0, 7.into())
    );
    assert_eq!(
        dev.ask(&["call", "Word", "a/b ✓", "add", r#"{"n": 2}"#]),
        (0, 2.into())
    );
    let (code, problem) = dev.ask(&["call", "Account", "a", "withdraw", "amount=1"]);
    assert_eq!((code, &problem["code"]), (1, &"method_failed".into()));
    dev.check(&["call", "Counter", "c1", "divide"], 1, "unknown_method");
    dev.check(&["call", "Nothing", "c1", "add"], 1, "unknown_type");
    dev.check(&["call", "Counter", "", "add"], 1, "invalid_id");
    dev.check(&["call", "Counter", "..", "add"], 2, "step in their path");

    dev.check(&["status"], 0, "0 unowned");
    dev.check(&["nodes"], 0, "dev-1");
    dev.check(&["shards", "--limit=3"], 0, "and 61 more");
    dev.check(&["shards", "5"], 0, "owned");
    dev.check(&["shards", "64"], 1, "there is no shard 64");
    dev.check(&["objects"], 0, "a/b ✓");
    dev.check(
        &["explain", "shard", "5"],
        0,
        "nothing: it is where it should be",
    );
    dev.check(&["explain", "object", "Counter/c1"], 0, "lives with shard");
    dev.check(&["explain", "node", "dev-0"], 0, "32 owned, 32 targeted");
    dev.check(&["explain", "node", "nobody"], 1, "no live node");
    dev.check(&["simulate"], 0, "dev-1");
    dev.check(&["simulate", "--pattern=u-{n}"], 0, "100000 in 64 shards");
    operators_commands(&dev);
    let (_, objects) = dev.ask(&["objects", "--type=Counter"]);
    assert_eq!(objects["objects"][0]["id"], "c1");
    let (_, shard) = dev.ask(&["explain", "shard", "5"]);
    assert_eq!(shard["shard"]["state"], "owned");
    assert_eq!(dev.ask(&["nodes"]).1.as_array().map(Vec::len), Some(2));
    let (_, shards) = dev.ask(&["shards", "--limit=0", "--node=dev-0"]);
    assert_eq!(shards.as_array().map(Vec::len), Some(32));
    assert!(fetch(&dev.inspector).contains("<html"));
    let owned: Vec<_> = dev
        .servers
        .iter()
        .map(|server| metric(server, "shards_owned"))
        .collect();
    assert_eq!(owned, [32, 32], "P-20: the gauges are the real ownership");

    assert_eq!(dev.terminate(), Some(0), "V-1");
}

#[test]
fn nasty_names_stay_in_their_cell() {
    let dev = Dev::start();
    let id = "a\n\u{1b}]0;x\u{7}\r\u{9b}31m\u{202e}\u{2028}'b";
    let shown = r"a\n\u{1b}]0;x\u{7}\r\u{9b}31m\u{202e}\u{2028}'b";
    assert_eq!(dev.ask(&["call", "Word", id, "add", "n=2"]), (0, 2.into()));
    for arguments in [
        &["objects"][..],
        &["explain", "object", &format!("Word/{id}")],
    ] {
        let text = dev.text(arguments, 0);
        assert!(text.contains(shown), "{text:?}");
    }
    // The cursor can be pasted into a shell, whatever it holds.
    dev.ask(&["call", "Word", "z", "add", "n=1"]);
    let text = dev.text(&["objects", "--limit=1"], 0);
    let pasted = r"--after $'Word/a\012\033]0;x\007\015\302\23331m\342\200\256\342\200\250\'b')";
    assert!(text.contains(pasted), "{text:?}");
    // So are errors, in text and in JSON, where the meaning stays.
    dev.text(&["call", "W\u{1b}[2J\nord", id, "add"], 1);
    dev.text(&["call", "Word", id, "a\u{202e}dd"], 1);
    let json = dev.text(&["--json", "objects", "--limit=1"], 0);
    let objects: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(objects["objects"][0]["id"], id);
}

/// Each says what is so now, and changes nothing the second time.
fn operators_commands(dev: &Dev) {
    dev.check(&["explain", "shard", "5"], 0, "because plan");
    dev.check(&["pin", "5"], 0, "shard 5 is pinned to dev-");
    dev.check(&["pin", "5"], 0, "nothing had to change");
    dev.check(&["explain", "shard", "5"], 0, "(pinned)");
    dev.check(&["unpin", "5"], 0, "shard 5 is not pinned");
    dev.check(&["move", "nobody", "5"], 1, "no live node nobody");
    dev.check(&["move", "dev-0", "5-4"], 2, "is no shard");
    dev.check(&["cordon", "dev-1"], 0, "gets no more shards");
    dev.check(&["explain", "node", "dev-1"], 0, "who cordoned it");
    dev.check(&["nodes"], 0, "active, cordoned");
    dev.check(&["uncordon", "dev-1"], 0, "dev-1 gets shards");
    dev.check(&["pause"], 0, "balancing is paused");
    dev.check(&["status"], 0, "paused by an operator");
    dev.check(&["rebalance"], 0, "where they should be");
    dev.check(&["resume"], 0, "balancing goes on");
    dev.check(&["plans"], 0, "an operator gave the command `pin`");
    let (_, plans) = dev.ask(&["plans"]);
    let id = plans[0]["id"].to_string();
    dev.check(&["plan", &id], 0, "100 %");
    dev.check(&["abort", &id], 0, "has ended");
    dev.check(&["abort", "1"], 1, "no plan 1 is kept");
}
