//! Of shards, moves and orders.

use super::*;
use crate::http::AtRisk;

#[test]
fn a_silent_leader_is_named() {
    let mut facts = well();
    facts.nodes[0].told = Err("timed out".into());
    assert!(found(&facts).contains(&"BAD leader".to_owned()));
}

#[test]
fn shards_without_an_owner_are_told_with_what_they_wait_for() {
    let mut facts = well();
    facts.cluster.as_mut().expect("known").shards.unowned = 3;
    facts.unowned = vec![explanation(17, false)];
    let finding = the(&facts, "unowned_shards");
    assert!(
        finding.what.contains("3 shards have no owner"),
        "{finding:?}"
    );
    assert!(
        finding
            .why
            .expect("a reason")
            .contains("it waits for gone to start")
    );
    assert_eq!(finding.next, ["steading explain shard 17"]);
}

#[test]
fn an_owner_that_does_not_serve_is_named() {
    let mut facts = well();
    let node = &mut facts.cluster.as_mut().expect("known").nodes[1];
    node.state = "silent".into();
    node.at_risk = Some(AtRisk {
        shards: 32,
        objects_last_seen: Some(5),
        silent_seconds: Some(3.0),
        takeover_seconds: Some(3.0),
        next: "other nodes own its shards in at most 3 s".into(),
    });
    let finding = the(&facts, "shards_served");
    assert_eq!(finding.what, "b is silent: its 32 shards may be unserved");
    assert_eq!(finding.level, Level::Bad);
    assert_eq!(finding.next, ["steading explain node b"]);
}

#[test]
fn quarantined_shards_are_no_unowned_ones_and_can_be_released() {
    let mut facts = well();
    facts.cluster.as_mut().expect("known").shards.unowned = 2;
    facts.quarantined = vec![4, 9];
    assert_eq!(found(&facts), ["BAD quarantine"]);
    assert_eq!(
        the(&facts, "quarantine").next,
        ["steading release 4", "steading release 9"]
    );
}

#[test]
fn a_pin_to_a_node_that_is_gone_is_named() {
    let mut facts = well();
    facts.cluster.as_mut().expect("known").shards.unowned = 1;
    facts.unowned = vec![explanation(17, true)];
    let finding = the(&facts, "pins");
    assert_eq!(finding.what, "shard 17 is pinned to gone and has no owner");
    assert!(finding.next.contains(&"steading unpin 17".to_owned()));
}

#[test]
fn a_move_that_takes_long_is_told_with_who_keeps_it() {
    let mut facts = well();
    leader_says(
        &mut facts,
        "steading_cluster_oldest_move_seconds 95\nsteading_oldest_in_phase_seconds{phase=\"close\"} 90",
    );
    let finding = the(&facts, "moves");
    assert_eq!(finding.level, Level::Warn);
    let why = finding.why.expect("a reason");
    assert!(why.contains("90 s for running turns to end"), "{why}");
}

#[test]
fn a_failed_plan_is_told_with_its_last_event() {
    let mut facts = well();
    facts.plans = vec![plan(9, "failed"), plan(8, "done")];
    let finding = the(&facts, "plans");
    assert_eq!(finding.why.as_deref(), Some("b did not claim shard 3"));
    assert_eq!(finding.next, ["steading plan 9"]);
    facts.plans = vec![plan(8, "done")];
    assert_eq!(the(&facts, "plans").level, Level::Ok);
}

#[test]
fn s0_35_uneven_placement_is_told_and_a_weight_is_no_unevenness() {
    let mut facts = well();
    facts.cluster.as_mut().expect("known").nodes[1].shards_owned = 10;
    assert_eq!(found(&facts), ["warn evenness"]);
    facts.cluster.as_mut().expect("known").nodes[1].weight = 10.0 / 32.0;
    assert_eq!(found(&facts), [""; 0]);
}

#[test]
fn uneven_loads_matter_only_where_there_is_load() {
    for (most, level) in [("0.9", Level::Warn), ("0.1", Level::Ok)] {
        let mut facts = well();
        let text = format!(
            "steading_cluster_load_variation 0.8\nsteading_cluster_load_per_node{{of=\"max\"}} {most}"
        );
        leader_says(&mut facts, &text);
        assert_eq!(the(&facts, "evenness").level, level, "{most}");
    }
}

#[test]
fn what_operators_ordered_is_told_with_how_to_take_it_back() {
    let mut facts = well();
    let cluster = facts.cluster.as_mut().expect("known");
    cluster.paused = true;
    cluster.nodes[1].cordoned = true;
    let next: Vec<_> = all(&facts)
        .into_iter()
        .filter(|of| of.check == "orders")
        .flat_map(|of| of.next)
        .collect();
    assert_eq!(next, ["steading resume", "steading uncordon b"]);
}
