//! Asks the other nodes again and again whether they answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{info, warn};

use super::health::{Record, Turn};
use super::query::{PeerAdmin, channel_to};
use super::{Node, NodeHealth, Shared};
use crate::ids::{Incarnation, NodeId};
use crate::placement::ClusterView;

/// The most probes that are under way at once.
const PROBES_AT_ONCE: usize = 16;

/// The channels to other lives, kept so that a probe is one round trip.
type Channels = BTreeMap<(NodeId, Incarnation), (Channel, String)>;

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

/// Probes all other nodes once an interval, until `shutdown`. A probe takes two seconds at most, so
/// rounds of very many silent nodes can take longer than the interval; the next then begins late.
pub(super) async fn probe_all(node: Node, shutdown: CancellationToken) -> Result<(), Infallible> {
    let shared = node.shared;
    let mut tick = interval(shared.health_settings.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut channels = Channels::new();
    loop {
        let round = async {
            tick.tick().await;
            probe_once(&shared, &mut channels).await;
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = round => {}
        }
    }
}

async fn probe_once(shared: &Arc<Shared>, channels: &mut Channels) {
    let view = shared.view.current();
    shared.follow_lives(&view, channels);
    let mut probes = Vec::with_capacity(channels.len());
    for ((node, life), (channel, address)) in channels {
        let admin = PeerAdmin::over(channel.clone(), address.clone());
        probes.push(probe(admin, node.clone(), *life));
    }
    let mut ended = stream::iter(probes).buffer_unordered(PROBES_AT_ONCE);
    while let Some((node, outcome)) = ended.next().await {
        shared.note(&node, outcome);
    }
}

/// Returns the round trip, or why it does not count as one.
async fn probe(
    admin: PeerAdmin,
    node: NodeId,
    life: Incarnation,
) -> (NodeId, Result<Duration, String>) {
    let begun = Instant::now();
    let outcome = match admin.probe().await {
        Ok((name, Some(known))) if name == node && known == life => Ok(begun.elapsed()),
        Ok((name, known)) => {
            let known = known.map_or("of no life".into(), |known| format!("of life {known}"));
            Err(format!("it says that it is {name} {known}"))
        }
        Err(error) => Err(error.to_string()),
    };
    (node, outcome)
}

impl Shared {
    /// Keeps records and channels of exactly the other lives in the view.
    fn follow_lives(&self, view: &ClusterView, channels: &mut Channels) {
        let others = view.nodes.iter().filter(|(node, _)| **node != self.id);
        let lives: BTreeMap<_, _> = others
            .map(|(node, record)| ((node.clone(), record.incarnation), &record.grpc))
            .collect();
        channels.retain(|life, _| lives.contains_key(life));
        let mut records = self.health.lock();
        records.retain(|node, record| lives.contains_key(&(node.clone(), record.life)));
        for ((node, life), address) in lives {
            records
                .entry(node.clone())
                .or_insert_with(|| Record::new(life));
            channels.entry((node, life)).or_insert_with(|| {
                let channel = channel_to(self.network.clone(), address);
                (channel, address.clone())
            });
        }
    }

    fn note(&self, node: &NodeId, outcome: Result<Duration, String>) {
        self.metrics.health.count(&outcome);
        let mut records = self.health.lock();
        let Some(record) = records.get_mut(node) else {
            return; // Only this task removes records, and not while it probes.
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
        let unhealthy = records
            .values()
            .filter(|record| !record.is_healthy(self.health_settings));
        let gauge = i64::try_from(unhealthy.count()).unwrap_or(i64::MAX);
        self.metrics.health.unhealthy_nodes.set(gauge);
    }
}
