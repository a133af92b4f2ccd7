//! Asks the other nodes again and again whether they answer, and whom they reach themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{info, warn};

use super::health::{Answer, Record, Turn};
use super::query::{PeerAdmin, Probed, channel_to};
use super::{Node, NodeHealth, Shared};
use crate::ids::{Incarnation, NodeId};
use crate::placement::{ClusterView, Reach, ReachState, ReachStates};

/// The most probes that are under way at once. Each node has one at most, so only this many nodes
/// that hang can delay the probes of the others.
const PROBES_AT_ONCE: usize = 64;

/// The pause between two probes by the leader, whose metrics speak for the cluster: short enough
/// for what it knows of a node to be no older than [`FIGURES_MAX_AGE`](super::FIGURES_MAX_AGE).
const LEADER_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked which probes are due, besides whenever the view changes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The pause before another probe of a node that does not answer any more, and while no node has told
/// that it reaches this one.
const RETRY_LOST: Duration = Duration::from_secs(2);

/// The pause before another probe of a node that has never answered; doubled by each failure …
const RETRY_MIN: Duration = Duration::from_millis(50);

/// … up to this.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// An incarnation of another node.
type Life = (NodeId, Incarnation);

/// The way to other lives: kept so that a probe is one round trip.
type Routes = BTreeMap<Life, Route>;

/// The way to another node, and when it was last probed.
struct Route {
    channel: Channel,
    address: String,
    /// `None`: not yet.
    probed: Option<Instant>,
    /// How long it rests after that.
    pause: Duration,
    under_way: bool,
}

impl Node {
    /// Tells how the other live nodes answer this one's probes. A node that was not probed yet is
    /// left out, and so is this one.
    pub fn health(&self) -> BTreeMap<NodeId, NodeHealth> {
        let connections = self.shared.router.connections();
        let (now, settings) = (Instant::now(), self.shared.health_settings);
        let records = self.shared.health.lock();
        let told = records.iter().filter_map(|(node, record)| {
            let open = connections.get(node).copied().unwrap_or_default();
            Some((node.clone(), record.told(open, now, settings)?))
        });
        told.collect()
    }

    /// Tells which live nodes do not reach which at their advertised addresses, by the node that is
    /// not reached. Nodes tell each other what they found, so this may be some seconds old.
    pub fn unreachable_from(&self) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
        let (view, reach) = (self.view(), self.shared.reach.borrow().clone());
        let nodes = view.nodes.keys();
        let from = nodes.map(|node| (node.clone(), reach.unreachable_from(node, &view)));
        from.filter(|(_, from)| !from.is_empty()).collect()
    }
}

/// Probes each other node as soon as it appears, then once an interval, and sooner while it does not
/// answer, until `shutdown`. Every node has its own pace, so that
/// one which hangs, and takes two seconds to be found silent, delays no other.
pub(super) async fn probe_all(node: Node, shutdown: CancellationToken) -> Result<(), Infallible> {
    let mut views = node.subscribe();
    let shared = node.shared;
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut routes = Routes::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            Some((life, outcome)) = under_way.next() => {
                shared.note(&life, outcome);
                if let Some(route) = routes.get_mut(&life) {
                    route.under_way = false;
                    route.pause = shared.pause(&life);
                }
                continue;
            }
            Ok(()) = views.changed() => {}
            _ = tick.tick() => {}
        }
        let view = views.borrow_and_update().clone();
        shared.follow_lives(&view, &mut routes);
        let interval = shared.probe_interval(&view);
        let room = PROBES_AT_ONCE.saturating_sub(under_way.len());
        for (life, admin) in due(&mut routes, interval, Instant::now(), room) {
            shared.ask(&life);
            under_way.push(probe(admin, life));
        }
    }
}

/// Returns the probes that are due at `now`, at most `room`, and marks them as under way.
fn due(
    routes: &mut Routes,
    interval: Duration,
    now: Instant,
    room: usize,
) -> Vec<(Life, PeerAdmin)> {
    let is_due = |route: &Route| {
        let rested = route
            .probed
            .is_none_or(|probed| now - probed >= interval.min(route.pause));
        rested && !route.under_way
    };
    let due = routes.iter_mut().filter(|(_, route)| is_due(route));
    let begun = due.take(room).map(|(life, route)| {
        (route.probed, route.under_way) = (Some(now), true);
        let admin = PeerAdmin::over(route.channel.clone(), route.address.clone());
        (life.clone(), admin)
    });
    begun.collect()
}

/// Returns whether the incarnation answered that was asked, and no other process at its address.
fn is_of(answer: &Probed, (node, life): &Life) -> bool {
    answer.node == *node && answer.vitals.incarnation == Some(*life)
}

/// Returns the answer, or why there is none that counts.
async fn probe(admin: PeerAdmin, life: Life) -> (Life, Result<(Answer, ReachStates), String>) {
    let begun = Instant::now();
    let outcome = match admin.probe().await {
        Ok(answer) if is_of(&answer, &life) => {
            let trip = begun.elapsed();
            let vitals = answer.vitals;
            Ok((Answer { trip, vitals }, answer.reach))
        }
        Ok(answer) => {
            let known = answer.vitals.incarnation;
            let known = known.map_or("of no life".into(), |known| format!("of life {known}"));
            Err(format!("it says that it is {} {known}", answer.node))
        }
        Err(error) => Err(error.to_string()),
    };
    (life, outcome)
}

impl Shared {
    fn probe_interval(&self, view: &ClusterView) -> Duration {
        let interval = self.health_settings.interval;
        if self.leads(view) {
            interval.min(LEADER_INTERVAL)
        } else {
            interval
        }
    }

    /// Keeps records of and routes to exactly the other lives in the view.
    fn follow_lives(&self, view: &ClusterView, routes: &mut Routes) {
        let others = view.nodes.iter().filter(|(node, _)| **node != self.id);
        let lives: BTreeMap<_, _> = others
            .map(|(node, record)| ((node.clone(), record.incarnation), &record.grpc))
            .collect();
        routes.retain(|life, _| lives.contains_key(life));
        let mut records = self.health.lock();
        records.retain(|node, record| lives.contains_key(&(node.clone(), record.life)));
        for ((node, life), address) in lives {
            records
                .entry(node.clone())
                .or_insert_with(|| Record::new(life));
            routes.entry((node, life)).or_insert_with(|| Route {
                channel: channel_to(self.network.clone(), address),
                address: address.clone(),
                probed: None,
                pause: Duration::MAX,
                under_way: false,
            });
        }
        self.count_unhealthy(&records);
        drop(records);
        self.note_reach(|_| {});
    }

    /// Returns for how long a life need not be probed again, if the interval is not shorter.
    fn pause(&self, (node, life): &Life) -> Duration {
        let records = self.health.lock();
        let record = records.get(node).filter(|record| record.life == *life);
        let Some(record) = record else {
            return Duration::MAX;
        };
        let (failures, reach) = (record.failures(), record.reach(Instant::now()));
        drop(records);
        match reach {
            Some(ReachState::Reached) if failures == 0 && self.is_confirmed() => Duration::MAX,
            Some(ReachState::Reached | ReachState::Lost) => RETRY_LOST,
            None | Some(ReachState::Never) => {
                let doubled = 1_u32.checked_shl(failures.min(16)).unwrap_or(1);
                RETRY_MIN.saturating_mul(doubled).min(RETRY_MAX)
            }
        }
    }

    /// Whether some other node has told that it reaches this life, or there is none that could.
    fn is_confirmed(&self) -> bool {
        let view = self.view.current();
        let alone = view.nodes.keys().all(|node| *node == self.id);
        alone || !self.reach.borrow().reached_by(&self.id, &view).is_empty()
    }

    /// Returns how this node reaches the others.
    pub(super) fn reach_states(&self) -> ReachStates {
        let now = Instant::now();
        let records = self.health.lock();
        let states = records.iter();
        let states = states
            .filter_map(|(node, record)| Some((node.clone(), (record.life, record.reach(now)?))));
        states.collect()
    }

    /// Brings what is known of who reaches whom up to date.
    fn note_reach(&self, change: impl FnOnce(&mut Reach)) {
        let states = self.reach_states();
        self.reach.send_if_modified(|reach| {
            let before = reach.clone();
            let reach = Arc::make_mut(reach);
            change(reach);
            reach.found(states);
            *reach != *before
        });
    }

    fn ask(&self, (node, life): &Life) {
        let mut records = self.health.lock();
        if let Some(record) = records.get_mut(node).filter(|record| record.life == *life) {
            record.ask(Instant::now());
        }
    }

    fn note(&self, life: &Life, outcome: Result<(Answer, ReachStates), String>) {
        let (outcome, told) = match outcome {
            Ok((answer, told)) => (Ok(answer), Some(told)),
            Err(error) => (Err(error), None),
        };
        self.note_answer(life, outcome);
        let node = &life.0;
        self.note_reach(|reach| match told {
            Some(told) => reach.told(node.clone(), told),
            // What it told before stays until it is lost, or it leaves.
            None if !reach.is_reached(node) => reach.forget(node),
            None => {}
        });
    }

    fn note_answer(&self, (node, life): &Life, outcome: Result<Answer, String>) {
        let trip = outcome.as_ref().map(|answer| answer.trip);
        self.metrics.health.count(&trip);
        let mut records = self.health.lock();
        let Some(record) = records.get_mut(node).filter(|record| record.life == *life) else {
            return; // The node left, or began another life, while it was probed.
        };
        let error = outcome.as_ref().err().cloned().unwrap_or_default();
        match record.absorb(outcome, Instant::now(), self.health_settings) {
            Turn::None => {}
            Turn::Unhealthy => {
                let failures = self.health_settings.failures;
                warn!(%node, failures, error, "a live node does not answer this one");
            }
            Turn::Recovered => info!(%node, "the node answers again"),
        }
        self.count_unhealthy(&records);
    }

    fn count_unhealthy(&self, records: &BTreeMap<NodeId, Record>) {
        let unhealthy = records
            .values()
            .filter(|record| !record.is_healthy(self.health_settings));
        let gauge = i64::try_from(unhealthy.count()).unwrap_or(i64::MAX);
        self.metrics.health.unhealthy_nodes.set(gauge);
    }
}
