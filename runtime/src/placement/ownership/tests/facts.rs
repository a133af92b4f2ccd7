//! What a node reads off its view: whom the owner key names, and where the shard should be.

use crate::ids::{Incarnation, NodeId, Revision, ShardCount, ShardId};
use crate::placement::ownership::{Facts, Newest, Stance, Wish};
use crate::placement::{
    ActivityNote, ClusterMeta, ClusterView, News, NodeRecord, NodeState, Owner, OwnerRecord,
    Parcel, Target,
};

#[test]
fn whom_news_names_is_read_off_the_view() {
    let (view, shard) = (view_at(20), ShardId::new(0, count()).expect("in range"));
    for (owner, newest) in [
        (None, Newest::Nobody),
        (Some(("me", 5)), Newest::Me),
        (Some(("me", 3)), Newest::Gone),
        (Some(("b", 6)), Newest::Other),
        (Some(("b", 4)), Newest::Gone),
        (Some(("dead", 9)), Newest::Gone),
        // So new that the view cannot know it yet.
        (Some(("dead", 21)), Newest::Other),
    ] {
        let mut view = view.clone();
        let owner = owner.map(|(node, life)| life_of(node, life));
        let revision = Revision::new(22);
        view.apply(News::Owner(
            shard,
            OwnerRecord {
                revision,
                owner: owner.clone(),
                parcel: None,
            },
        ));
        let facts = Facts::of(&view, shard, &life_of("me", 5), Stance::Takes);
        assert_eq!(facts.newest, newest, "{owner:?}");
    }
}

#[test]
fn a_shard_should_be_elsewhere_only_if_somebody_can_take_it() {
    use Stance::{Abandons, Keeps, Leaves, Takes};
    let there = Wish::There(Incarnation::new(6));
    for (target, stance, wish) in [
        (Some("me"), Takes, Wish::Here),
        (Some("me"), Keeps, Wish::Anywhere),
        (Some("b"), Takes, there),
        (Some("b"), Keeps, there),
        (Some("joining"), Takes, Wish::Anywhere),
        (Some("dead"), Takes, Wish::Anywhere),
        (None, Takes, Wish::Anywhere),
        (None, Keeps, Wish::Anywhere),
        (Some("me"), Leaves, Wish::Nowhere),
        (Some("b"), Leaves, there),
        (Some("joining"), Leaves, Wish::Nowhere),
        (None, Leaves, Wish::Nowhere),
        (Some("b"), Abandons, Wish::Nowhere),
    ] {
        assert_eq!(
            wish_for(target, false, stance),
            wish,
            "{target:?} {stance:?}"
        );
    }
}

#[test]
fn a_quarantined_shard_is_left_alone_where_it_is() {
    for target in [Some("me"), Some("b"), None] {
        for stance in [Stance::Takes, Stance::Keeps] {
            let wish = wish_for(target, true, stance);
            assert_eq!(wish, Wish::Anywhere, "{target:?} {stance:?}");
        }
    }
}

#[test]
fn a_shard_that_awaits_a_verdict_is_not_taken() {
    let (mut view, shard) = (view_at(20), ShardId::new(0, count()).expect("in range"));
    let target = Target {
        node: NodeId::new("me").ok(),
        ..Target::default()
    };
    let targets = vec![target];
    view.apply(News::Targets { block: 0, targets });
    let dead = life_of("dead", 4);
    let record = OwnerRecord {
        revision: Revision::new(9),
        owner: Some(dead.clone()),
        parcel: None,
    };
    view.apply(News::Owner(shard, record));
    let wish = |view: &ClusterView| {
        let facts = Facts::of(view, shard, &life_of("me", 5), Stance::Takes);
        (facts.newest, facts.wish)
    };
    assert_eq!(wish(&view), (Newest::Gone, Wish::Here));
    let note = ActivityNote {
        node: dead.node,
        running: [shard].into(),
        survived: [].into(),
    };
    view.apply(News::Activity(dead.incarnation, Some(note)));
    assert_eq!(wish(&view), (Newest::Gone, Wish::Anywhere));
    view.apply(News::Activity(dead.incarnation, None));
    assert_eq!(wish(&view), (Newest::Gone, Wish::Here), "it is judged");
}

#[test]
fn only_an_empty_parcel_tells_over_what_the_owner_key_was_written() {
    for (parcel, newest) in [
        (None, Newest::Me),
        (
            Some(Parcel::empty(Revision::new(7))),
            Newest::MeOver(Revision::new(7)),
        ),
        (
            Some(Parcel {
                revision: Revision::new(7),
                attempt: 1,
            }),
            Newest::Me,
        ),
    ] {
        let (mut view, shard) = (view_at(20), ShardId::new(0, count()).expect("in range"));
        let record = OwnerRecord {
            revision: Revision::new(9),
            owner: Some(life_of("me", 5)),
            parcel,
        };
        view.apply(News::Owner(shard, record));
        let facts = Facts::of(&view, shard, &life_of("me", 5), Stance::Takes);
        assert_eq!(facts.newest, newest);
    }
}

/// Returns where `me` thinks a shard should be that has this target.
fn wish_for(target: Option<&str>, quarantined: bool, stance: Stance) -> Wish {
    let (mut view, shard) = (view_at(20), ShardId::new(0, count()).expect("in range"));
    let target = Target {
        node: target.map(|name| NodeId::new(name).expect("a good name")),
        quarantined,
        ..Target::default()
    };
    let targets = vec![target];
    view.apply(News::Targets { block: 0, targets });
    Facts::of(&view, shard, &life_of("me", 5), stance).wish
}

fn count() -> ShardCount {
    ShardCount::new(1).expect("a power of two")
}

fn life_of(node: &str, incarnation: u64) -> Owner {
    Owner {
        node: NodeId::new(node).expect("a good name"),
        incarnation: Incarnation::new(incarnation),
    }
}

/// Nodes `me` (life 5) and `b` (life 6) are active, `joining` (life 7) is not.
fn view_at(revision: u64) -> ClusterView {
    let mut view = ClusterView::empty(ClusterMeta::new("test", count()));
    view.revision = Revision::new(revision);
    for (name, life, state) in [
        ("me", 5, NodeState::Active),
        ("b", 6, NodeState::Active),
        ("joining", 7, NodeState::Joining),
    ] {
        let record = NodeRecord {
            state,
            ..NodeRecord::of(Incarnation::new(life))
        };
        view.apply(News::Node(
            NodeId::new(name).expect("a good name"),
            Some(record),
        ));
    }
    view
}
