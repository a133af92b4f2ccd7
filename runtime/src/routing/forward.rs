//! The last hop of calls that waited here for their shard, which went elsewhere (ADR-0011).
//!
//! They go on to the new owner in their order and name the new ownership, so that it asks the store
//! if its own watch has not brought that yet. One hop only: whoever gets a forwarded call answers it, or says
//! who should. What cannot be sent goes back to the caller, who tries itself.

use opentelemetry::KeyValue;

use super::frame::{Answer, OutboundCall};
use super::parking::Baton;
use super::peer::Peer;
use super::queue::{Fate, Unsent};
use super::route::Attempt;
use super::router::Inner;
use super::table::Entry;
use crate::error::CallError;
use crate::ids::Place;
use crate::object::EncodedCall;
use crate::telemetry::attribute;

impl Inner {
    /// Passes a call of another node on to the node that owns its shard now. What may have run
    /// there is never tried again.
    pub(super) async fn forward(
        &self,
        call: EncodedCall,
        place: &Place,
        peer: &Peer,
        entry: Entry,
        baton: &mut Option<Baton>,
    ) -> Attempt {
        let claim = self.ownership(place);
        let claim = claim.filter(|claim| claim.token.revision() == entry.revision());
        if claim.is_none() {
            // The table is about to follow the view.
            return Attempt::Again(call, self.not_here(place, Some(entry)));
        }
        self.settings.metrics.routing.links.forwarded.inc();
        let outbound = OutboundCall {
            call: &call,
            known: entry.revision(),
            claim,
            forwarded: true,
        };
        let node = || vec![KeyValue::new(attribute::NODE, peer.node().to_string())];
        call.trace.event("steading.forwarded", node);
        let fate = peer.call(place, &outbound, baton).await;
        let failed = |error| Attempt::Ended(Answer::Failed(error));
        match fate {
            Fate::Answered(answer) => {
                self.check_answer(place, &answer);
                Attempt::Ended(answer)
            }
            Fate::Unsent(Unsent::Down(..) | Unsent::Gone | Unsent::Full) => {
                self.not_mine(call, place, entry)
            }
            Fate::Expired => failed(CallError::Deadline(format!(
                "{} on {}",
                call.key,
                peer.node()
            ))),
            Fate::Lost(why) => failed(CallError::Disconnected(why)),
            Fate::Unsent(Unsent::Expired) => {
                failed(CallError::Unreachable(format!("{} in time", peer.node())))
            }
        }
    }

    /// Sends a call back to its caller with the best that is known here.
    pub(super) fn not_mine(&self, call: EncodedCall, place: &Place, entry: Entry) -> Attempt {
        if self.owns(place) {
            return Attempt::Again(call, self.not_here(place, Some(entry)));
        }
        Attempt::Ended(match self.ownership(place) {
            Some(claim) => Answer::Moved(Box::new(claim)),
            None => Answer::NotOwner(entry.revision()),
        })
    }
}
