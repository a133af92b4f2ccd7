//! Every value is read as it was written, and what is not ours is refused in words.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::meta::{FORMAT, HASH};
use super::*;
use crate::ids::{Incarnation, LeaseId, Regions, Term};
use crate::placement::planner::Reason;
use crate::placement::{
    ActivityNote, Cause, ClusterMeta, Leader, NodeRecord, NodeState, Owner, Parcel, Suspicion,
    Weight,
};

fn entry(key: String, value: Vec<u8>) -> Entry {
    let (create_revision, mod_revision) = (Revision::new(7), Revision::new(9));
    Entry {
        key,
        value,
        create_revision,
        mod_revision,
        lease: Some(LeaseId::new(-5)),
    }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

#[test]
fn p16_every_value_survives_the_round_trip() {
    let (keys, count) = (Keys::new("/t"), ShardCount::new(4).expect("a power of two"));
    let record = NodeRecord {
        incarnation: Incarnation::new(7),
        lease: LeaseId::new(-5),
        lease_ttl: Duration::from_millis(5_500),
        grpc: "127.0.0.1:1".into(),
        http: None,
        zone: Some("z".into()),
        weight: Weight::from_thousandths(1500),
        labels: BTreeMap::from([("a".into(), "b".into())]),
        version: "0.1.0".into(),
        object_types: vec!["Counter".into()],
        state: NodeState::Draining,
        boot_id: "b".into(),
    };
    let owner = Owner {
        node: node("n"),
        incarnation: Incarnation::new(3),
    };
    let parcel = Parcel {
        revision: Revision::new(8),
        attempt: 2,
    };
    let orders = Orders {
        cordoned: [node("n")].into(),
        paused: true,
    };
    let targets = vec![Target {
        node: Some(node("n")),
        pinned: true,
        quarantined: false,
        suspicion: Some(Suspicion {
            deaths: 2,
            at: Duration::from_millis(1_000_003),
            quarantines: 1,
        }),
        cause: Some(Cause {
            plan: PlanId::new(5),
            reason: Reason::Join,
            at: Duration::from_millis(1_000_001),
        }),
    }];
    let shard = ShardId::new(3, count).expect("in range");
    let (incarnation, note) = (
        Incarnation::new(12),
        ActivityNote {
            node: node("n"),
            running: [shard].into(),
            survived: BTreeSet::new(),
        },
    );
    let written = [
        (keys.node(&node("n")), encode_node(&record)),
        (keys.leader(), encode_leader(&node("n"))),
        (keys.owner(shard), encode_owner(&owner, Some(parcel))),
        (keys.orders(), encode_orders(&orders)),
        (keys.target(2), encode_targets(&targets)),
        (keys.activity(incarnation), encode_activity(&note)),
    ];
    let read = written.map(|(key, value)| {
        keys.news(&Event::Put(entry(key, value)), count)
            .expect("readable")
            .expect("news")
    });
    let owner = OwnerRecord {
        revision: Revision::new(9),
        owner: Some(owner),
        parcel: Some(parcel),
    };
    assert_eq!(
        read,
        [
            News::Node(node("n"), Some(record)),
            News::Leader(Some(Leader {
                node: node("n"),
                term: Term::new(7)
            })),
            News::Owner(shard, owner),
            News::Orders(orders),
            News::Targets { block: 2, targets },
            News::Activity(incarnation, Some(note)),
        ]
    );
}

#[test]
fn p16_unknown_fields_are_ignored() {
    let value = br#"{"node":"n","incarnation":3,"mood":"good"}"#.to_vec();
    assert!(decode_owner(&entry("k".into(), value)).is_ok());
}

#[test]
fn another_format_or_hash_is_refused_in_words() {
    let meta = |format: u32, hash: &str| {
        let value = format!(
            r#"{{"format":{format},"cluster_id":"c","shard_count":4,"hash":"{hash}",
            "layout_generation":1,"restore_generation":0}}"#
        );
        decode_meta(&entry("k".into(), value.into_bytes()))
    };
    assert!(meta(FORMAT, HASH).is_ok());
    assert!(
        meta(3, HASH)
            .expect_err("format")
            .to_string()
            .contains("has format 3")
    );
    assert!(
        meta(FORMAT, "crc")
            .expect_err("hash")
            .to_string()
            .contains("hashes with crc")
    );
}

#[test]
fn regions_are_part_of_the_description_and_of_its_format() {
    let count = ShardCount::new(64).expect("a power of two");
    let region = "type:Invoice=0-7".parse().expect("a region");
    let meta = ClusterMeta {
        regions: Regions::new(vec![region], count).expect("it fits"),
        ..ClusterMeta::new("c", count)
    };
    let written = encode_meta(&meta);
    let text = String::from_utf8(written.clone()).expect("JSON");
    assert!(text.contains(r#""format":2"#), "{text}");
    assert_eq!(decode_meta(&entry("k".into(), written)), Ok(meta));
}

proptest::proptest! {
    /// Whatever is read is printed as it was: no two keys are about the same thing.
    #[test]
    fn every_accepted_key_is_printed_as_it_was(
        path in "(owner|target|plans|nodes|meta|leader|orders)/?[+ 0]{0,3}[0-9a-z]{0,20}/?",
        shards in 0_u32..17,
    ) {
        let count = ShardCount::new(1 << shards).expect("a power of two");
        let keys = Keys::new("/t/");
        let key = format!("/t/{path}");
        if let Ok(kind) = keys.kind(&key, count) {
            proptest::prop_assert_eq!(keys.key_of(&kind), key);
        }
    }

    #[test]
    fn every_printed_key_is_read(number in proptest::num::u64::ANY, shards in 0_u32..17) {
        let count = ShardCount::new(1 << shards).expect("a power of two");
        let keys = Keys::new("/t/");
        let low = u32::try_from(number % u64::from(count.get())).expect("small");
        let kinds = [
            Kind::Plan(PlanId::new(number)),
            Kind::Owner(ShardId::new(low, count).expect("in range")),
            Kind::Target(low % count.blocks()),
            Kind::Node(node(&format!("n{number}"))),
            Kind::Meta,
            Kind::Leader,
            Kind::Orders,
        ];
        for kind in kinds {
            proptest::prop_assert_eq!(keys.kind(&keys.key_of(&kind), count), Ok(kind));
        }
    }
}

#[test]
fn keys_that_no_lease_keeps_are_irregular() {
    let keys = Keys::new("/t/");
    let count = ShardCount::new(4).expect("a power of two");
    let record = |lease| NodeRecord {
        lease: LeaseId::new(lease),
        ..NodeRecord::of(Incarnation::new(7))
    };
    let put = |key: String, value: Vec<u8>, lease: Option<i64>| Entry {
        lease: lease.map(LeaseId::new),
        ..entry(key, value)
    };
    let of_node = |name: &str, names: i64, lease| {
        put(keys.node(&node(name)), encode_node(&record(names)), lease)
    };
    let lead = |name: &str, lease| put(keys.leader(), encode_leader(&node(name)), lease);
    let found = |entries: Vec<Entry>| {
        let revision = Revision::new(9);
        let irregular = keys.irregularities(&Listing { revision, entries }, count);
        let reasons = irregular.into_iter().map(|bad| bad.reason);
        reasons.collect::<Vec<_>>()
    };
    let well = || of_node("a", 5, Some(5));
    assert_eq!(found(vec![well(), lead("a", Some(5))]), [""; 0]);
    assert_eq!(found(vec![of_node("a", 5, None)]), ["it hangs on no lease"]);
    assert_eq!(
        found(vec![of_node("a", 5, Some(6))]),
        ["it hangs on another lease than it names"]
    );
    assert_eq!(
        found(vec![well(), lead("a", None)]),
        ["it hangs on no lease"]
    );
    assert_eq!(
        found(vec![well(), lead("b", Some(5))]),
        ["it names no registered node"]
    );
    let unheld = Event::Put(of_node("a", 5, None));
    let news = keys.news(&unheld, count).expect("readable");
    assert_eq!(news, Some(News::Node(node("a"), None)), "not registered");
}

#[test]
fn garbage_is_refused_and_named() {
    let (keys, count) = (
        Keys::new("/t/"),
        ShardCount::new(4).expect("a power of two"),
    );
    for key in [
        "/t/owner/9",
        "/t/owner/3",
        "/t/owner/+0003",
        "/t/owner/000003",
        "/t/owner/00003/",
        "/t/target/1",
        "/t/target/001",
        "/t/plans/7",
        "/t/plans/x",
        "/t/leader/",
        "/t//leader",
        "/t/owner/x",
        "/t/nodes/ä",
        "/t/target/4",
        "/t/nonsense",
        "/t/activity/12",
        "/t/activity/x",
    ] {
        let event = Event::Delete {
            key: key.into(),
            revision: Revision::new(1),
        };
        assert_eq!(keys.news(&event, count).expect_err(key).key, key);
    }
    let event = Event::Put(entry(keys.leader(), b"[]".to_vec()));
    assert!(keys.news(&event, count).is_err());
}
