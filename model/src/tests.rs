//! The worlds that are visited, and the rules whose breaking they notice.

use stateright::{Checker, HasDiscoveries, Model};

use crate::properties::{NO_STALE_WRITE, OBJECTS, ONE_OWNER, OWNER_SERVES, SETTLES};
use crate::rules::Broken;
use crate::world::Bounds;

/// Most worlds that are visited until a broken rule is noticed. No more are needed by far.
const UNNOTICED_MAX: usize = 2_000_000;

/// Two nodes, one shard, one transaction at a time, and nothing goes wrong but transactions.
const SMALL: Bounds = Bounds {
    nodes: 2,
    shards: 1,
    txns: 1,
    lag: 1,
    troubles: 0,
    forwards: 0,
    writes: 0,
    calms_of: 0,
    broken: Broken::Nothing,
};

/// One life ends, or one node is suspended, at any moment.
const TROUBLED: Bounds = Bounds {
    troubles: 1,
    ..SMALL
};

/// What is in doubt may still happen while it is restamped.
const DOUBTFUL: Bounds = Bounds { txns: 2, ..SMALL };

/// Watches lag behind.
const LAGGING: Bounds = Bounds { lag: 2, ..SMALL };

/// Calls are forwarded with their news.
const FORWARDING: Bounds = Bounds {
    forwards: 1,
    ..SMALL
};

/// Turns save, and what they save reaches storage late.
const SAVING: Bounds = Bounds { writes: 1, ..SMALL };

/// Visits every world within bounds, and at least so many. In some of them each of `reached` holds.
fn visit(bounds: Bounds, worlds_min: usize, reached: &[&str]) {
    // Without any limit: this ends when no world is left that was not visited.
    let checker = bounds.checker().threads(2).spawn_bfs().join();
    let worlds = checker.unique_state_count();
    println!(
        "{bounds:?}: {worlds} worlds, {} ways",
        checker.state_count()
    );
    assert!(checker.is_done());
    for property in bounds.properties() {
        let found = checker.discovery(property.name);
        if property.expectation.discovery_is_failure() {
            let story = found.map(stateright::Path::into_actions);
            assert_eq!(story, None, "against '{}'", property.name);
        } else if reached.contains(&property.name) {
            assert!(found.is_some(), "never '{}'", property.name);
        }
    }
    assert!(worlds >= worlds_min, "{worlds} worlds are too few");
}

const ORDINARY: [&str; 5] = [
    "a claim commits",
    "a hand-over commits",
    "a release commits",
    "what was in doubt is restamped",
    "state that travelled serves",
];

#[test]
fn p7_no_two_owners_though_lives_end_at_any_moment() {
    let bounds = Bounds {
        calms_of: 8,
        ..TROUBLED
    };
    let reached = [&ORDINARY[..], &["a take-over commits"]].concat();
    visit(bounds, 300_000, &reached);
}

#[test]
fn p7_no_two_owners_though_transactions_come_late() {
    let bounds = Bounds {
        calms_of: 64,
        ..DOUBTFUL
    };
    let reached = [&ORDINARY[..], &["a hand-over comes too late"]].concat();
    visit(bounds, 800_000, &reached);
}

#[test]
fn p7_no_two_owners_though_watches_lag_behind() {
    let bounds = Bounds {
        calms_of: 8,
        ..LAGGING
    };
    let reached = [&ORDINARY[..], &["what was in doubt has happened"]].concat();
    visit(bounds, 180_000, &reached);
}

#[test]
fn p7_no_two_owners_though_news_comes_with_calls() {
    visit(FORWARDING, 100_000, &ORDINARY);
}

#[test]
fn p7_no_stale_write_though_writes_come_late() {
    visit(SAVING, 50_000, &ORDINARY);
}

#[test]
#[ignore = "takes a quarter of an hour: `make model`"]
fn p7_no_two_owners_in_larger_worlds() {
    let three = Bounds { nodes: 3, ..SMALL };
    visit(three, 2_000_000, &ORDINARY);
    let busy = Bounds {
        forwards: 1,
        calms_of: 64,
        ..SAVING
    };
    visit(busy, 2_000_000, &ORDINARY);
    let troubled = Bounds {
        calms_of: 1024,
        ..DOUBTFUL_AND_TROUBLED
    };
    visit(troubled, 10_000_000, &ORDINARY);
}

/// Each broken rule, the worlds that notice it, and what they notice first.
const NOTICED: [(Broken, Bounds, &str); 24] = [
    (Broken::GuardOfRelease, DOUBTFUL, OWNER_SERVES),
    (Broken::GuardOfHandOver, DOUBTFUL, OWNER_SERVES),
    (Broken::GuardOfTakeOver, DOUBTFUL_AND_TROUBLED, OWNER_SERVES),
    (Broken::ProofOfDeath, SMALL, ONE_OWNER),
    (Broken::LifeOfTarget, TROUBLED, OBJECTS),
    (Broken::OldNewsCounts, LAGGING, OWNER_SERVES),
    (Broken::ReplyOfEarlierLife, VERY_LAGGING, OWNER_SERVES),
    (
        Broken::UncheckedForward,
        FORWARDING_AND_TROUBLED,
        OWNER_SERVES,
    ),
    (Broken::Fence, TROUBLED, OWNER_SERVES),
    (Broken::ClockStopsInSuspend, TROUBLED, OWNER_SERVES),
    (Broken::UnknownReleaseIsFailure, DOUBTFUL, OWNER_SERVES),
    (Broken::UnknownHandOverIsFailure, DOUBTFUL, OWNER_SERVES),
    (Broken::UnknownHandOverIsSuccess, SMALL, OWNER_SERVES),
    (Broken::UnknownClaimIsSuccess, SMALL, OWNER_SERVES),
    (Broken::DoubtStays, CALMED, SETTLES),
    (Broken::ReadReopens, SMALL, OWNER_SERVES),
    (Broken::ObjectsOutliveLease, TROUBLED, OWNER_SERVES),
    (Broken::LeaderDeletesNode, TROUBLED, OWNER_SERVES),
    (Broken::NodeKeyPutOver, TROUBLED, ONE_OWNER),
    (Broken::StorageIgnoresTokens, SAVING, NO_STALE_WRITE),
    (Broken::HandOverWhileOpen, SMALL, ONE_OWNER),
    (Broken::AnyOwnNewsKeepsObjects, OVERTAKEN, OBJECTS),
    (Broken::AnyParcelCounts, SMALL, OBJECTS),
    (Broken::ParcelPassedBy, SMALL, OBJECTS),
];

const DOUBTFUL_AND_TROUBLED: Bounds = Bounds {
    txns: 2,
    ..TROUBLED
};

const FORWARDING_AND_TROUBLED: Bounds = Bounds {
    forwards: 1,
    ..TROUBLED
};

const VERY_LAGGING: Bounds = Bounds { lag: 3, ..TROUBLED };

/// Forwarded news overtakes the watch's.
const OVERTAKEN: Bounds = Bounds {
    forwards: 1,
    ..LAGGING
};

const CALMED: Bounds = Bounds {
    calms_of: 1,
    ..SMALL
};

#[test]
fn every_broken_rule_is_noticed() {
    let mut unnoticed = Vec::new();
    for (broken, bounds, what) in NOTICED {
        let bounds = Bounds { broken, ..bounds };
        let checker = bounds.checker().finish_when(HasDiscoveries::AnyFailures);
        let checker = checker.target_state_count(UNNOTICED_MAX).spawn_bfs().join();
        let worlds = checker.unique_state_count();
        let properties = bounds.properties().into_iter();
        let failed: Vec<&str> = properties
            .filter(|property| property.expectation.discovery_is_failure())
            .filter(|property| checker.discovery(property.name).is_some())
            .map(|property| property.name)
            .collect();
        println!("{broken:?}: {failed:?} after {worlds} worlds");
        if !failed.contains(&what) {
            unnoticed.push((broken, what, failed));
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

#[test]
fn every_broken_rule_is_in_the_table_of_the_readme() {
    let table = include_str!("../README.md");
    for (broken, ..) in NOTICED {
        assert!(table.contains(&format!("`{broken:?}`")), "{broken:?}");
    }
}
