//! What a page gets first, and what then.

use super::*;
use crate::feed::json;
use crate::testing::{id, owned_by, shard, view, with};
use std::time::Duration;
use steading::ids::PlanId;
use steading::placement::planner::Reason;
use steading::placement::{Cause, Target};

#[test]
fn s2_42_a_snapshot_has_a_column_for_each_fact() {
    let view = owned_by(view(1), 3, "b", 9);
    let view = with(view, |view| {
        let shard = shard(view, 2);
        view.owners
            .set(shard, steading::placement::OwnerRecord::default());
    });
    let view = with(view, |view| {
        for number in [5, 6] {
            let shard = shard(view, number);
            let target = Target {
                cause: Some(Cause {
                    plan: PlanId::new(1),
                    reason: Reason::Join,
                    at: Duration::from_millis(77),
                }),
                ..view.targets.get(shard).clone()
            };
            view.targets.set(shard, target);
        }
    });
    let read: serde_json::Value =
        serde_json::from_str(&json(&Snapshot::of(&view, 5))).expect("JSON");
    assert_eq!(read["names"], serde_json::json!(["a", "b"]));
    let first: Vec<_> = (0..5).map(|shard| read["owners"][shard].clone()).collect();
    assert_eq!(
        serde_json::json!(first),
        serde_json::json!([0, 0, -1, 1, 0])
    );
    assert_eq!(read["targets"][2], 0);
    let moments = (read["moved_at"][5].clone(), read["moved_at"][4].clone());
    assert_eq!(
        (moments, &read["moments"]),
        ((0.into(), (-1).into()), &serde_json::json!([77]))
    );
    assert_eq!(read["cluster"]["leader"], "a");
    assert_eq!(read["owners"].as_array().map(Vec::len), Some(64));
}

#[test]
fn a_delta_has_only_what_changed() {
    let (before, now) = (view(1), owned_by(view(1), 3, "b", 9));
    let delta = json(&Delta::between(&before, &now, 7).expect("something changed"));
    assert_eq!(delta, r#"{"revision":9,"at":7,"shards":[[3,"b","a",0,0]]}"#);
    assert!(Delta::between(&now, &now, 8).is_none());
}

#[test]
fn the_end_of_a_node_is_the_end_of_its_ownerships() {
    let before = owned_by(view(1), 3, "b", 9);
    let now = with(before.clone(), |view| {
        view.nodes.remove(&id("b"));
    });
    let delta = json(&Delta::between(&before, &now, 7).expect("something changed"));
    assert!(delta.contains(r#""shards":[[3,null,"a",0,0]]"#), "{delta}");
    assert!(delta.contains(r#""nodes":[{"id":"a""#), "{delta}");
}
