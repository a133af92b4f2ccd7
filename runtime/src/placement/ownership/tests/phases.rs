//! The next step of each phase, whatever the news and the wish.

use super::world::NOTHING;
use crate::ids::{Incarnation, Revision};
use crate::placement::Parcel;
use crate::placement::ownership::{Ending, Facts, Newest, Phase, Shipment, Step, Wish};

const WISHES: [Wish; 4] = [
    Wish::Here,
    Wish::There(Incarnation::new(3)),
    Wish::Anywhere,
    Wish::Nowhere,
];

const NEWEST: [Newest; 6] = [
    Newest::Nobody,
    Newest::Me,
    Newest::MeOver(Revision::new(7)),
    Newest::MeOver(Revision::new(6)),
    Newest::Gone,
    Newest::Other,
];

#[test]
fn a_shard_in_doubt_is_restamped_whatever_the_wish_until_newer_news_comes() {
    let (at, to) = (Revision::new(7), Incarnation::new(3));
    let shipment = Shipment {
        to,
        parcel: NOTHING,
    };
    for newest in NEWEST {
        for wish in WISHES {
            let step = |phase: Phase, revision| {
                phase.next_step(Facts {
                    revision: Revision::new(revision),
                    newest,
                    wish,
                })
            };
            assert_eq!(step(Phase::Unresolved(at), 7), Some(Step::Restamp(at)));
            for phase in [
                Phase::HandingOver(at, shipment),
                Phase::Releasing(at),
                Phase::Restamping(at),
            ] {
                assert_eq!(step(phase, 7), None);
            }
        }
    }
}

#[test]
fn newer_news_lets_a_closed_shard_go_unless_it_proves_that_nobody_had_it() {
    let (at, to) = (Revision::new(7), Incarnation::new(3));
    let shipment = Shipment {
        to,
        parcel: NOTHING,
    };
    for phase in [
        Phase::Closed(at),
        Phase::Sending(at, to),
        Phase::Sent(at, shipment),
        Phase::HandingOver(at, shipment),
        Phase::Undeliverable(at),
        Phase::Ending(at),
        Phase::Ended(at),
        Phase::Releasing(at),
        Phase::Unresolved(at),
        Phase::Restamping(at),
    ] {
        for newest in NEWEST {
            for wish in WISHES {
                let revision = Revision::new(8);
                let step = phase.next_step(Facts {
                    revision,
                    newest,
                    wish,
                });
                let wanted = if newest == Newest::MeOver(at) {
                    Step::Open(revision)
                } else {
                    Step::LetGo
                };
                assert_eq!(step, Some(wanted), "{phase:?} {newest:?} {wish:?}");
            }
        }
    }
}

#[test]
fn what_was_sent_goes_to_that_very_life_or_the_shard_opens_again() {
    let (at, to) = (Revision::new(7), Incarnation::new(3));
    let shipment = Shipment {
        to,
        parcel: NOTHING,
    };
    for (wish, step) in [
        (Wish::There(to), Step::HandOver(at, shipment)),
        (Wish::There(Incarnation::new(4)), Step::Open(at)),
        (Wish::Here, Step::Open(at)),
        (Wish::Anywhere, Step::Open(at)),
        (Wish::Nowhere, Step::Open(at)),
    ] {
        let facts = Facts {
            revision: at,
            newest: Newest::Me,
            wish,
        };
        let sent = Phase::Sent(at, shipment);
        assert_eq!(sent.next_step(facts), Some(step), "{wish:?}");
        let refused = Phase::HandingOver(at, shipment).after_end(Ending::Refused);
        assert_eq!(refused, sent, "decided again");
    }
}

#[test]
fn a_shard_that_cannot_be_delivered_opens_at_once_or_ends_if_it_must_leave() {
    let (at, to) = (Revision::new(7), Incarnation::new(3));
    let undeliverable = Phase::Sending(at, to).after_end(Ending::Undelivered);
    for wish in WISHES {
        let facts = Facts {
            revision: at,
            newest: Newest::Me,
            wish,
        };
        let wanted = match wish {
            Wish::Here | Wish::There(_) | Wish::Anywhere => Step::Open(at),
            Wish::Nowhere => Step::End(at),
        };
        assert_eq!(undeliverable.next_step(facts), Some(wanted), "{wish:?}");
    }
}

/// A list disproved the record that the phase goes by.
#[test]
fn phases_of_disproved_records_are_dropped() {
    let (at, life) = (Revision::new(90), Incarnation::new(3));
    let shipment = Shipment {
        to: life,
        parcel: Parcel::empty(at),
    };
    let facts = Facts {
        revision: Revision::new(50),
        newest: Newest::Me,
        wish: Wish::Here,
    };
    for open in [Phase::Open(at), Phase::Closing(at)] {
        assert_eq!(open.next_step(facts), Some(Step::Discard), "{open:?}");
    }
    for closed in [
        Phase::Closed(at),
        Phase::Sending(at, life),
        Phase::Sent(at, shipment),
        Phase::HandingOver(at, shipment),
        Phase::Undeliverable(at),
        Phase::Ending(at),
        Phase::Ended(at),
        Phase::Releasing(at),
        Phase::Unresolved(at),
        Phase::Restamping(at),
    ] {
        assert_eq!(closed.next_step(facts), Some(Step::LetGo), "{closed:?}");
    }
    assert_eq!(
        Phase::after_start(Step::LetGo).next_step(facts),
        Some(Step::Open(facts.revision))
    );
}
