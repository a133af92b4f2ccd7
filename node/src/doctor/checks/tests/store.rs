//! Of the store, fences and tokens.

use super::*;

#[test]
fn a_low_margin_is_told_and_a_suspension_is_bad() {
    let mut facts = well();
    says(&mut facts, "steading_fence_margin_seconds 0.5");
    assert_eq!(found(&facts), ["warn fences"]);
    says(&mut facts, "steading_suspensions_total 1");
    assert_eq!(found(&facts), ["BAD fences"]);
}

#[test]
fn views_that_are_behind_or_were_wrong_are_told() {
    for text in [
        "steading_watch_lag_seconds 5",
        "steading_view_mismatches_total 1",
        "steading_ignored_keys 2",
    ] {
        let mut facts = well();
        says(&mut facts, text);
        assert_eq!(found(&facts), ["warn views"], "{text}");
    }
}

#[test]
fn a_changed_description_is_bad() {
    let mut facts = well();
    says(&mut facts, "steading_description_altered 1");
    assert_eq!(found(&facts), ["BAD views"]);
}

#[test]
fn keys_that_do_not_count_are_named() {
    let mut facts = well();
    let store = facts.store.as_mut().expect("examined");
    let bad = |n| steading::coordination::keys::BadEntry {
        key: format!("/t/owner/{n}\u{1b}[2J"),
        reason: "not in canonical form".into(),
    };
    store.irregular = (0..13).map(bad).collect();
    let lines = found(&facts);
    assert_eq!(lines.len(), 11, "{lines:?}");
    let finding = the(&facts, "store_keys");
    assert!(!finding.what.contains('\u{1b}'), "{finding:?}");
}

#[test]
fn endpoints_of_two_clusters_are_bad() {
    let mut facts = well();
    let store = facts.store.as_mut().expect("examined");
    let mut member = store.members[0].clone();
    member.1.as_mut().expect("it answers").cluster_id = 2;
    store.members.push(member);
    assert_eq!(found(&facts), ["BAD etcd"]);
}

#[test]
fn rejected_tokens_are_bad_while_they_go_on() {
    let refused = "steading_storage_requests_total{request=\"save\",outcome=\"fenced\"} 4";
    let mut facts = well();
    says(&mut facts, refused);
    assert!(
        the(&facts, "tokens")
            .next
            .contains(&"steading raise-tokens --etcd URL".to_owned())
    );
    let told = facts.nodes[1].told.as_mut().expect("it answers");
    told.metrics.before = told.metrics.after.clone();
    assert_eq!(found(&facts), ["warn tokens"]);
}

#[test]
fn storage_that_fails_is_bad() {
    let mut facts = well();
    says(
        &mut facts,
        "steading_storage_requests_total{request=\"save\",outcome=\"unavailable\"} 4",
    );
    assert_eq!(found(&facts), ["BAD tokens"]);
}

fn etcd(facts: &mut Facts, of: impl FnOnce(&mut MemberHealth)) {
    let store = facts.store.as_mut().expect("examined");
    of(store.members[0].1.as_mut().expect("it answers"));
}

#[test]
fn etcd_without_a_leader_without_room_or_slow_is_told() {
    type Change = fn(&mut MemberHealth);
    let cases: [(Change, &str); 4] = [
        (|health| health.has_leader = false, "BAD etcd"),
        (|health| health.alarms = vec!["NOSPACE".into()], "BAD etcd"),
        (|health| health.took = Duration::from_secs(1), "warn etcd"),
        (|health| health.database_bytes = 2 << 30, "warn etcd"),
    ];
    for (of, expected) in cases {
        let mut facts = well();
        etcd(&mut facts, of);
        assert_eq!(found(&facts), [expected]);
    }
}

#[test]
fn a_member_that_does_not_answer_is_bad_unless_there_are_enough_others() {
    let mut facts = well();
    let store = facts.store.as_mut().expect("examined");
    let member = store.members[0].clone();
    store.members[0].1 = Err("timed out".into());
    assert_eq!(found(&facts), ["BAD etcd"]);
    let store = facts.store.as_mut().expect("examined");
    store.members.extend([member.clone(), member]);
    assert_eq!(found(&facts), ["warn etcd"]);
}

#[test]
fn a_store_that_cannot_be_read_is_bad() {
    let mut facts = well();
    facts.store.as_mut().expect("examined").cluster = Err("no answer".into());
    assert_eq!(found(&facts), ["BAD store_agrees"]);
}

#[test]
fn a_store_that_went_back_in_time_is_told() {
    let mut facts = well();
    let store = facts.store.as_mut().expect("examined");
    store.cluster.as_mut().expect("read").revision = 40;
    let finding = the(&facts, "store_agrees");
    assert!(
        finding.what.starts_with("etcd went back in time"),
        "{finding:?}"
    );
    let store = facts.store.as_mut().expect("examined");
    store.cluster.as_mut().expect("read").cluster_id = "other".into();
    assert!(
        the(&facts, "store_agrees")
            .what
            .contains("nodes are of cluster c1, etcd has other")
    );
}
