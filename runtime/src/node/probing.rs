//! Asks the other nodes again and again whether they answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
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
use crate::placement::ClusterView;

/// The most probes that are under way at once. Each node has one at most, so only this many nodes
/// that hang can delay the probes of the others.
const PROBES_AT_ONCE: usize = 64;

/// The pause between two probes by the leader, whose metrics speak for the cluster: short enough
/// for what it knows of a node to be no older than [`FIGURES_MAX_AGE`](super::FIGURES_MAX_AGE).
const LEADER_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked which probes are due.
const LOOK_EVERY: Duration = Duration::from_millis(250);

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
}

/// Probes each other node once an interval, until `shutdown`. Every node has its own pace, so that
/// one which hangs, and takes two seconds to be found silent, delays no other.
pub(super) async fn probe_all(node: Node, shutdown: CancellationToken) -> Result<(), Infallible> {
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
                if let Some(route) = routes.get_mut(&life) {
                    route.under_way = false;
                }
                shared.note(&life, outcome);
            }
            _ = tick.tick() => {
                let view = shared.view.current();
                shared.follow_lives(&view, &mut routes);
                let interval = shared.probe_interval(&view);
                let room = PROBES_AT_ONCE.saturating_sub(under_way.len());
                for (life, admin) in due(&mut routes, interval, Instant::now(), room) {
                    shared.ask(&life);
                    under_way.push(probe(admin, life));
                }
            }
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
        let rested = route.probed.is_none_or(|probed| now - probed >= interval);
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
async fn probe(admin: PeerAdmin, life: Life) -> (Life, Result<Answer, String>) {
    let begun = Instant::now();
    let outcome = match admin.probe().await {
        Ok(answer) if is_of(&answer, &life) => Ok(Answer {
            trip: begun.elapsed(),
            vitals: answer.vitals,
        }),
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
                under_way: false,
            });
        }
        self.count_unhealthy(&records);
    }

    fn ask(&self, (node, life): &Life) {
        let mut records = self.health.lock();
        if let Some(record) = records.get_mut(node).filter(|record| record.life == *life) {
            record.ask(Instant::now());
        }
    }

    fn note(&self, (node, life): &Life, outcome: Result<Answer, String>) {
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
