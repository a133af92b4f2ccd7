//! What is remembered of the cluster, and for how long.

use super::*;
use crate::testing::{id, owned_by, view, with};
use steading::ids::Revision;
use steading::placement::NodeState;

fn texts(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.text.as_str()).collect()
}

#[test]
fn s2_45_every_change_of_an_owner_is_kept_and_can_be_undone() {
    let mut history = History::new(0);
    let (first, second) = (view(1), owned_by(view(1), 3, "b", 2));
    let third = owned_by(second.clone(), 3, "a", 3);
    history.follow(&first, &second, 10);
    history.follow(&second, &third, 20);
    let steps: Vec<_> = history
        .of_shard(3)
        .iter()
        .map(|step| (step.at, step.from.clone(), step.to.clone()))
        .collect();
    let name = |name: &str| Some(name.into());
    assert_eq!(
        steps,
        [(20, name("b"), name("a")), (10, name("a"), name("b"))]
    );
    assert_eq!(history.moves_since(10).len(), 1);
}

#[test]
fn what_the_first_list_shows_is_no_news() {
    let mut history = History::new(0);
    let nothing = with(view(1), |view| {
        view.nodes.clear();
        view.revision = Revision::new(0);
    });
    assert_eq!(history.follow(&nothing, &view(1), 10), []);
    assert!(history.moves_since(0).is_empty());
}

#[test]
fn nodes_leaders_and_orders_make_events() {
    let mut history = History::new(0);
    let gone = with(view(1), |view| {
        view.nodes.remove(&id("b"));
        view.leader = None;
        view.orders.paused = true;
    });
    let events = history.follow(&view(1), &gone, 10);
    assert_eq!(
        texts(&events),
        [
            "b is gone: its lease ended",
            "nobody leads: a gave the lead up",
            "balancing is paused",
        ]
    );
    assert!(events[0].bad && !events[2].bad);
    let draining = with(view(1), |view| {
        let node = view.nodes.get_mut(&id("b")).expect("it is there");
        node.state = NodeState::Draining;
    });
    assert_eq!(
        texts(&history.follow(&view(1), &draining, 20)),
        ["b is draining"]
    );
    assert_eq!(texts(&history.follow(&draining, &gone, 30))[0], "b left");
    assert_eq!(history.events()[0].at, 30);
}

#[test]
fn the_oldest_makes_room_and_is_not_claimed_to_be_known() {
    let mut history = History::with_room(0, 10);
    let views = [view(1), owned_by(view(1), 3, "b", 2)];
    for at in 1..=15 {
        let at_place = usize::try_from(at % 2).expect("it fits");
        history.follow(&views[at_place], &views[1 - at_place], at);
    }
    assert_eq!(history.moves_since(0).len(), 10);
    assert_eq!(history.since(), 5);
}
