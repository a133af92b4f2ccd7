//! The journey of one call: to the host of this process, to another node, or waiting for either.
//!
//! What must hold: a call is tried again only if it surely did not run; whoever has to wait keeps
//! its place among the calls of its shard; a call of another node makes at most one hop from here.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, TraceContextExt};
use tokio::time::Instant;

use super::frame::{Answer, InboundCall, OutboundCall};
use super::parking::{Baton, Full};
use super::peer::Peer;
use super::queue::{Fate, Unsent};
use super::router::Inner;
use super::table::{Destination, Entry};
use crate::error::CallError;
use crate::ids::{NodeId, Place, Revision};
use crate::object::{Dispatch, EncodedCall};
use crate::telemetry::{Trace, attribute, code, shard};

/// A call that nobody could serve is tried again after this long even if no news came.
const RECHECK: Duration = Duration::from_secs(1);

/// The pause before asking a node again that did not own the shard, unless news comes sooner.
const NOT_OWNER_PAUSE: Duration = Duration::from_millis(100);

/// What was known when a call could not be served, and what to say if that remains so.
pub(super) struct Obstacle {
    seen: Option<Entry>,
    retry_at: Instant,
    error: CallError,
}

/// How far an attempt came.
pub(super) enum Attempt {
    /// To an answer.
    Ended(Answer),
    /// Nowhere yet.
    Again(EncodedCall, Obstacle),
}

/// Whose call it is.
#[derive(Clone, Copy)]
enum Origin {
    /// Of this process: it may go to another node.
    Here,
    /// Of another node that thinks the object is here, as of this revision of its shard's owner
    /// key.
    There {
        known: Revision,
        /// It made its one hop already, so it never goes on.
        forwarded: bool,
    },
}

/// How a call stands in the line of its shard.
#[derive(Debug, Default)]
struct Turn {
    /// It goes next; dropped as soon as it has its place in a queue.
    baton: Option<Baton>,
    /// It waited here, be it only behind others.
    waited: bool,
    /// Until when it waits for this node to know as much as its caller claims to.
    behind_until: Option<Instant>,
}

impl Inner {
    /// Brings a call of this process to its object.
    pub(super) async fn route(self: Arc<Self>, mut call: EncodedCall) -> Result<Bytes, CallError> {
        let metrics = &self.settings.metrics.routing.calls;
        let began = metrics.begin();
        let trace = self.begin_span(&mut call, SpanKind::Client);
        let result = match self.bring(call, Origin::Here).await {
            Answer::Reply(value) => Ok(value),
            Answer::Failed(error) => Err(error),
            Answer::Moved(claim) => Err(CallError::NoOwner(format!("{} has it", claim.owner.node))),
            Answer::NotOwner(revision) => Err(CallError::NoOwner(format!("as of {revision}"))),
        };
        metrics.end(began, code(&result));
        trace.end(code(&result));
        result
    }

    /// Begins the span of a call that is sampled, and makes the call part of it.
    fn begin_span(&self, call: &mut EncodedCall, kind: SpanKind) -> Trace {
        if !call.trace.is_sampled() {
            return Trace::NONE;
        }
        let traces = self.settings.host.traces();
        let trace = traces.call(&call.trace, kind, &call.key, &call.method);
        if let (Some(context), Ok(Place::Shard(of))) =
            (trace.context(), call.key.place(self.settings.host.layout()))
        {
            context.span().set_attribute(shard(of));
        }
        call.trace = trace.clone();
        trace
    }

    /// Serves a call that another node sent here.
    pub(super) async fn serve(self: Arc<Self>, mut inbound: InboundCall) -> Answer {
        if let Some(claim) = &inbound.claim
            && let Ok(place) = inbound.call.key.place(self.settings.host.layout())
        {
            self.check(&place, claim);
        }
        let origin = Origin::There {
            known: inbound.known,
            forwarded: inbound.forwarded,
        };
        let trace = self.begin_span(&mut inbound.call, SpanKind::Server);
        let answer = self.bring(inbound.call, origin).await;
        trace.end(match &answer {
            Answer::Reply(_) => None,
            Answer::Failed(error) => Some(error.code()),
            Answer::Moved(_) => Some("moved"),
            Answer::NotOwner(_) => Some("not_owner"),
        });
        answer
    }

    async fn bring(&self, mut call: EncodedCall, origin: Origin) -> Answer {
        let (len, max) = (call.args.len(), self.settings.payload_max);
        if len > max {
            return Answer::Failed(CallError::TooLarge(format!(
                "{len} bytes, allowed are {max}"
            )));
        }
        let place = match call.key.place(self.settings.host.layout()) {
            Ok(place) => place,
            Err(error) => return Answer::Failed(CallError::InvalidId(error.to_string())),
        };
        let mut turn = Turn::default();
        // Nobody overtakes those who wait already, but for calls that turns here wait for: what the
        // others wait for may be the end of those turns.
        let waits = self.parking.is_occupied(self.line(&place))
            && !self.settings.host.is_awaited(&place, &call.path);
        let mut obstacle = waits.then(|| self.nobody(&place));
        loop {
            if let Some(obstacle) = obstacle {
                let parked = || vec![KeyValue::new(attribute::REASON, obstacle.error.code())];
                call.trace.event("steading.parked", parked);
                let baton = turn.baton.take();
                match self.park(&place, obstacle, call.deadline, baton).await {
                    Ok(called) => {
                        call.trace.event("steading.called", Vec::new);
                        turn.baton = Some(called);
                        turn.waited = true;
                    }
                    Err(error) => return Answer::Failed(error),
                }
            }
            match self.attempt(call, &place, origin, &mut turn).await {
                Attempt::Ended(answer) => return answer,
                Attempt::Again(returned, why) => (call, obstacle) = (returned, Some(why)),
            }
        }
    }

    /// Waits until it is worth while to try again.
    async fn park(
        &self,
        place: &Place,
        obstacle: Obstacle,
        deadline: Instant,
        baton: Option<Baton>,
    ) -> Result<Baton, CallError> {
        let line = self.line(place);
        let seat = self.parking.sit(line).map_err(|Full| {
            CallError::Overloaded(format!("too many calls wait: {}", obstacle.error.detail()))
        })?;
        drop(baton); // Only now: the next one must come after.
        if self.has_news(place, &obstacle) {
            self.parking.wake(line);
        }
        let called = seat.wait(Some(obstacle.retry_at), deadline).await;
        called.ok_or(obstacle.error)
    }

    /// Whether something changed since the attempt: its news may have come before the call waited.
    fn has_news(&self, place: &Place, obstacle: &Obstacle) -> bool {
        match place {
            Place::Shard(shard) => {
                Some(self.table.entry(*shard)) != obstacle.seen || self.settings.host.serves(*shard)
            }
            Place::Node(_) => false,
        }
    }

    /// Tries once.
    async fn attempt(
        &self,
        call: EncodedCall,
        place: &Place,
        origin: Origin,
        turn: &mut Turn,
    ) -> Attempt {
        let (entry, destination) = match place {
            Place::Shard(shard) => {
                let entry = self.table.entry(*shard);
                (Some(entry), self.table.destination(entry))
            }
            Place::Node(node) => (None, self.table.destination_of_node(node)),
        };
        match (origin, destination) {
            (Origin::Here, Destination::There(peer)) => {
                self.send(call, place, &peer, entry, turn).await
            }
            // Nobody as far as is known: the host may know better, for it is the first to.
            (Origin::Here, Destination::Here | Destination::Nobody) => {
                match self.dispatch(call, place, &mut turn.baton).await {
                    Ok(answer) => Attempt::Ended(answer),
                    Err(call) => Attempt::Again(call, self.not_here(place, entry)),
                }
            }
            (Origin::There { known, forwarded }, destination) => {
                let call = match self.dispatch(call, place, &mut turn.baton).await {
                    Ok(answer) => return Attempt::Ended(answer),
                    Err(call) => call,
                };
                let entry = entry.unwrap_or_default();
                match destination {
                    // Opening, closing or fenced; or news is on its way here.
                    Destination::Here => Attempt::Again(call, self.not_here(place, Some(entry))),
                    Destination::There(_) | Destination::Nobody
                        if entry.revision() < known && self.may_catch_up(place, known, turn) =>
                    {
                        Attempt::Again(call, self.not_here(place, Some(entry)))
                    }
                    Destination::There(peer) if turn.waited && !forwarded => {
                        self.forward(call, place, &peer, entry, &mut turn.baton)
                            .await
                    }
                    Destination::There(_) | Destination::Nobody => {
                        self.not_mine(call, place, entry)
                    }
                }
            }
        }
    }

    /// Whether a call waits here because its caller claims to know a newer revision than this node.
    /// For a while only: the claim may be false, and then no view ever has that revision.
    fn may_catch_up(&self, place: &Place, known: Revision, turn: &mut Turn) -> bool {
        self.check_revision(place, known);
        let now = Instant::now();
        now < *turn.behind_until.get_or_insert(now + RECHECK)
    }

    /// Gives a call to the host; `Err`: it comes back.
    async fn dispatch(
        &self,
        call: EncodedCall,
        place: &Place,
        baton: &mut Option<Baton>,
    ) -> Result<Answer, EncodedCall> {
        let mut running = pin!(self.settings.host.dispatch_at(place, call));
        let dispatched = match futures::poll!(running.as_mut()) {
            Poll::Ready(dispatched) => dispatched,
            Poll::Pending => {
                drop(baton.take());
                running.await
            }
        };
        match dispatched {
            Dispatch::NotHere(call) => Err(call),
            Dispatch::Done(result) => Ok(match result {
                Ok(reply) => Answer::Reply(reply),
                Err(error) => Answer::Failed(error),
            }),
        }
    }

    async fn send(
        &self,
        call: EncodedCall,
        place: &Place,
        peer: &Peer,
        entry: Option<Entry>,
        turn: &mut Turn,
    ) -> Attempt {
        let outbound = OutboundCall {
            call: &call,
            known: entry.map(Entry::revision).unwrap_or_default(),
            // Whoever had to wait for the owner may know of it before the owner does.
            claim: if turn.waited {
                self.ownership(place)
            } else {
                None
            },
            forwarded: false,
        };
        match self.send_to(peer, place, &outbound, &mut turn.baton).await {
            Fate::Answered(answer) if answer.is_last() => Attempt::Ended(answer),
            fate @ (Fate::Answered(_) | Fate::Expired | Fate::Lost(_) | Fate::Unsent(_)) => {
                self.follow_or_wait(call, place, peer, entry, fate).await
            }
        }
    }

    async fn send_to(
        &self,
        peer: &Peer,
        place: &Place,
        outbound: &OutboundCall<'_>,
        baton: &mut Option<Baton>,
    ) -> Fate {
        self.settings.metrics.routing.links.calls.inc();
        let of_node = || vec![KeyValue::new(attribute::NODE, peer.node().to_string())];
        outbound.call.trace.event("steading.sent", of_node);
        peer.call(place, outbound, baton).await
    }

    /// Sends a call that was redirected to the node that the redirect names; decides what becomes of
    /// any other that was not served, and of this one if that node does not serve it either.
    ///
    /// A redirect is followed once, by the call that got it, so that calls do not wait for a watch
    /// that lags or a store that is away, and a false redirect harms only calls to its sender.
    #[cold]
    async fn follow_or_wait(
        &self,
        call: EncodedCall,
        place: &Place,
        from: &Peer,
        seen: Option<Entry>,
        fate: Fate,
    ) -> Attempt {
        let claim = match &fate {
            Fate::Answered(answer) => self.check_answer(place, answer),
            Fate::Expired | Fate::Lost(_) | Fate::Unsent(_) => None,
        };
        let named = claim.and_then(|claim| Some((claim.clone(), self.table.peer(&claim.owner)?)));
        let Some((claim, to)) = named.filter(|(_, to)| to.node() != from.node()) else {
            return self.astray(call, from.node(), seen, fate);
        };
        self.settings.metrics.routing.links.moved.inc();
        let of = || vec![KeyValue::new(attribute::NODE, to.node().to_string())];
        call.trace.event("steading.moved", of);
        let outbound = OutboundCall {
            call: &call,
            known: claim.token.revision(),
            claim: Some(claim),
            forwarded: false,
        };
        match self.send_to(&to, place, &outbound, &mut None).await {
            Fate::Answered(answer) if answer.is_last() => Attempt::Ended(answer),
            fate @ (Fate::Answered(_) | Fate::Expired | Fate::Lost(_) | Fate::Unsent(_)) => {
                if let Fate::Answered(answer) = &fate {
                    self.check_answer(place, answer);
                }
                self.astray(call, to.node(), seen, fate)
            }
        }
    }

    /// Decides what becomes of a call that has not brought back what its method said.
    #[cold]
    fn astray(&self, call: EncodedCall, node: &NodeId, seen: Option<Entry>, fate: Fate) -> Attempt {
        let links = &self.settings.metrics.routing.links;
        let failed = |error| Attempt::Ended(Answer::Failed(error));
        let again = |call, pause, error| {
            let retry_at = Instant::now() + pause;
            Attempt::Again(
                call,
                Obstacle {
                    seen,
                    retry_at,
                    error,
                },
            )
        };
        let of = |node: &NodeId| vec![KeyValue::new(attribute::NODE, node.to_string())];
        match fate {
            Fate::Answered(Answer::Moved(claim)) => {
                links.moved.inc();
                call.trace.event("steading.moved", || of(&claim.owner.node));
                let text = format!("{node} says that {} has it", claim.owner.node);
                again(call, NOT_OWNER_PAUSE, CallError::NoOwner(text))
            }
            Fate::Answered(Answer::NotOwner(revision)) => {
                links.not_owner.inc();
                call.trace.event("steading.not_owner", || of(node));
                let text = format!("{node} does not own it, as of revision {revision}");
                again(call, NOT_OWNER_PAUSE, CallError::NoOwner(text))
            }
            Fate::Answered(Answer::Failed(error @ CallError::Stopping(_))) => {
                again(call, NOT_OWNER_PAUSE, error)
            }
            Fate::Answered(answer) => Attempt::Ended(answer),
            Fate::Expired => failed(CallError::Deadline(format!("{} on {node}", call.key))),
            Fate::Lost(why) => failed(CallError::Disconnected(why)),
            Fate::Unsent(Unsent::Full) => failed(CallError::Overloaded(format!(
                "too many calls wait to be sent to {node}"
            ))),
            Fate::Unsent(Unsent::Expired) => {
                failed(CallError::Unreachable(format!("{node} in time")))
            }
            Fate::Unsent(Unsent::Down(why, retry_at)) => {
                let error = CallError::Unreachable(format!("{node}: {why}"));
                Attempt::Again(
                    call,
                    Obstacle {
                        seen,
                        retry_at,
                        error,
                    },
                )
            }
            Fate::Unsent(Unsent::Gone) => {
                let error = CallError::NoOwner(format!("{node} left the cluster"));
                again(call, RECHECK, error)
            }
        }
    }

    fn nobody(&self, place: &Place) -> Obstacle {
        let seen = match place {
            Place::Shard(shard) => Some(self.table.entry(*shard)),
            Place::Node(_) => None,
        };
        self.not_here(place, seen)
    }

    pub(super) fn not_here(&self, place: &Place, seen: Option<Entry>) -> Obstacle {
        let me = &self.settings.node;
        let text = match (place, seen) {
            (Place::Shard(shard), Some(entry)) if entry.is_here() => {
                format!("shard {shard} is not open on {me}, its owner")
            }
            (Place::Shard(shard), _) => format!("shard {shard}"),
            (Place::Node(node), _) => format!("node {node}"),
        };
        Obstacle {
            seen,
            retry_at: Instant::now() + RECHECK,
            error: CallError::NoOwner(text),
        }
    }
}
