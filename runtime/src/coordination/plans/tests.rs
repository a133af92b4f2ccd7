//! Plans for tests of this folder, and how far they are.

use super::*;
use crate::ids::ShardCount;

pub(in crate::coordination) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(in crate::coordination) fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

/// A plan with a move for each letter of `phases`: `p`, `o`, `d`, `f` or `c`.
pub(in crate::coordination) fn plan(phases: &str) -> PlanRecord {
    let count = ShardCount::new(65_536).expect("a power of two");
    let phase = |letter| match letter {
        'p' => MovePhase::Pending,
        'o' => MovePhase::Ordered,
        'd' => MovePhase::Done,
        'f' => MovePhase::Failed,
        _ => MovePhase::Cancelled,
    };
    let step = |(letter, shard)| PlannedMove {
        shard: ShardId::new(shard, count).expect("in range"),
        from: Some(node("a")),
        to: node("b"),
        reason: Reason::Join,
        phase: phase(letter),
        ordered_at: (letter != 'p').then(|| at(101)),
        ended_at: "dfc".contains(letter).then(|| at(102)),
        before: Revision::new(5),
    };
    PlanRecord {
        id: PlanId::new(7),
        reason: Reason::Join,
        trigger: "b takes its share".into(),
        leader: node("a"),
        term: Term::new(3),
        created_at: at(100),
        updated_at: at(110),
        ended_at: None,
        outcome: PlanOutcome::Running,
        waves: 1,
        least: 4,
        moves: phases.chars().zip(0..).map(step).collect(),
        unlisted: MoveCounts::default(),
        events: Vec::new(),
        check: None,
    }
}

#[test]
fn progress_is_what_has_ended_and_the_rest_is_taken_to_go_as_fast() {
    assert_eq!((plan("pppp").percent(), plan("pppp").ends_at()), (0, None));
    assert_eq!(
        (plan("doop").percent(), plan("doop").ends_at()),
        (25, Some(at(140)))
    );
    assert_eq!((plan("dfco").percent(), plan("dddd").percent()), (75, 100));
    assert_eq!((plan("").percent(), plan("dddd").ends_at()), (100, None));
    assert!(plan("do").is_running() && !plan("df").is_running());
}

#[test]
fn what_matters_is_listed_and_the_rest_is_counted() {
    let record = plan(&"dpofc".repeat(200));
    let bounded = record.bounded();
    assert_eq!(bounded.moves.len(), MOVES_LISTED_MAX);
    assert_eq!(bounded.counts(), record.counts());
    let listed = MoveCounts {
        pending: 88,
        done: 200,
        cancelled: 200,
        ..Default::default()
    };
    assert_eq!(
        bounded.unlisted, listed,
        "all that are under way or failed are listed"
    );
    assert!(bounded.moves.is_sorted_by_key(|step| step.shard));
    assert_eq!(plan("dpo").bounded(), plan("dpo"));
}

#[test]
fn the_newest_events_are_kept() {
    let mut record = plan("d");
    for second in 0..100 {
        record.note(at(second), PlanEventKind::Stuck, &"x".repeat(1000));
    }
    assert_eq!(record.events.len(), EVENTS_MAX);
    assert_eq!(record.events[EVENTS_MAX - 1].at, at(99));
    assert_eq!(record.events[0].text.len(), TEXT_LEN_MAX);
}

#[test]
fn a_check_is_bad_if_an_owner_a_token_or_an_object_is_not_as_planned() {
    let good = PlanCheck {
        checked: 3,
        ..Default::default()
    };
    let objects = |before, after| PlanCheck {
        objects_before: before,
        objects_after: after,
        ..good
    };
    assert!(good.is_good() && objects(Some(9), Some(9)).is_good());
    assert!(objects(Some(9), None).is_good() && objects(Some(0), Some(0)).is_good());
    assert!(!objects(Some(9), Some(8)).is_good() && !objects(Some(8), Some(9)).is_good());
    assert!(
        !PlanCheck {
            parcels_missing: 1,
            ..good
        }
        .is_good()
    );
    assert!(
        !PlanCheck {
            not_owned: 1,
            ..good
        }
        .is_good()
    );
    assert!(
        !PlanCheck {
            old_token: 1,
            ..good
        }
        .is_good()
    );
}
