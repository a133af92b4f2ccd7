//! Joining a cluster, step by step, and taking part in it.
//!
//! What can fail after each step, and what then holds:
//! - listening: nothing is in the store yet; the start fails and names the address;
//! - reaching the store, creating or checking the cluster: tried again for ever while the store
//!   is away, visibly; a cluster of other settings, or a refusal, ends the node;
//! - listing and watching: nothing of this node is in the store yet;
//! - asking others whether they can talk to this node: if one says that they cannot, as with other
//!   certificates, the node ends; it would be given shards that nobody reaches. Silence is no answer;
//! - registering: membership's own protocol; a node that dies right after is a lease that ends;
//! - taking part: the node is `joining`, so nothing is placed on it until it serves;
//! - at any time: the store turns out to be another one than was joined, as after a loss of its data;
//!   the fence is closed for good and the node ends (`coordination::history`);
//! - saying "active": written under the lease; if the node dies first, nobody misses it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::builder::StoreChoice;
use super::glue::{HostedShards, Surroundings};
use super::{Node, Progress, Shared, StartError};
use crate::coordination::activity::{self, ActivityParts};
use crate::coordination::cluster::{self, ClusterError};
use crate::coordination::keys::Keys;
use crate::coordination::leader::{Leader, LeaderHandle, LeaderParts};
use crate::coordination::membership::{
    Membership, MembershipParts, MembershipSettings, MembershipState, Registration,
};
use crate::coordination::reconciler::{Reconciler, ReconcilerHandle, ReconcilerParts};
use crate::coordination::store::{Store, StoreError};
use crate::coordination::strays::{Strays, StraysParts};
use crate::coordination::watcher::{WatchState, Watcher, WatcherParts};
use crate::coordination::{EtcdStore, History, MemoryStore, Metered, Rights, Verified};
use crate::fence::FenceState;
use crate::ids::{LeaseId, Revision, Token};
use crate::object::Host;
use crate::placement::planner::PlanSettings;
use crate::placement::{ClusterMeta, NodeState};
use crate::routing::Router;
use crate::routing::probe::{self, Probe};

/// The first pause after the store could not be reached; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);

/// The longest pause between two attempts to reach the store.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How many nodes are asked before joining whether they can talk to this one.
const ASKED_MAX: usize = 3;

/// What takes part in the cluster on behalf of a node that has joined.
#[derive(Debug)]
pub(super) struct Taking {
    pub(super) membership: Membership,
    pub(super) watching: watch::Receiver<WatchState>,
    pub(super) leading: Leading,
    /// Where the cluster agrees, and its keys.
    pub(super) store: Arc<dyn Store>,
    pub(super) keys: Keys,
    /// Asks the leader's task, be it leading or not.
    pub(super) leader: LeaderHandle,
    pub(super) reconciler: ReconcilerHandle,
}

/// The handle of the leader's task.
#[derive(Debug)]
pub(super) struct Leading {
    resign: CancellationToken,
    resigned: CancellationToken,
}

impl Leading {
    /// Gives the lead up, if the node has it, and never takes it again. If the store does not
    /// answer, that goes on after this has returned.
    pub(super) async fn resign(&self) {
        self.resign.cancel();
        self.resigned.cancelled().await;
    }
}

impl Taking {
    /// What keeps the node from being a member right now, in words.
    pub(super) fn trouble(&self) -> Option<String> {
        self.membership.trouble()
    }
}

/// What is needed to join, once.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) store: StoreChoice,
    pub(super) keys: Keys,
    pub(super) settings: MembershipSettings,
    pub(super) registration: Registration,
    pub(super) plan_settings: PlanSettings,
}

impl Node {
    /// Joins, remembers how it went, and waits for the end of the node.
    pub(super) async fn join(
        self,
        joining: Joining,
        shutdown: CancellationToken,
    ) -> Result<(), StartError> {
        let joined = tokio::select! {
            biased; // Its failure may be why the node stops.
            joined = self.take_part(joining) => joined,
            () = shutdown.cancelled() => Err(StartError::Stopped),
        };
        match joined {
            Ok(()) => {
                self.shared.progress.send_replace(Progress::Joined);
                self.until_replaced(&shutdown).await // A task's end would be the node's.
            }
            Err(error) => {
                self.shared
                    .progress
                    .send_replace(Progress::Failed(error.clone()));
                if shutdown.is_cancelled() {
                    Ok(())
                } else {
                    Err(error)
                }
            }
        }
    }

    async fn take_part(&self, joining: Joining) -> Result<(), StartError> {
        let (store, meta) = self.reach_cluster(&joining).await?;
        self.shared.view.begin(meta.clone());
        let history = self.shared.history.get_or_init(|| {
            let (fence, metrics) = (self.shared.fence.clone(), self.shared.metrics.clone());
            Arc::new(History::new(
                meta,
                joining.keys.clone(),
                Some(fence),
                metrics,
            ))
        });
        let store = Arc::new(Verified::new(store, history.clone()));
        let joined = async {
            let taking = self.start_parts(store, joining).await?;
            let identity = taking.membership.joined().await?;
            info!(node = %self.id(), incarnation = %identity.incarnation, "joined");
            taking.membership.set_state(NodeState::Active);
            Ok(())
        };
        tokio::select! {
            biased; // It is why joining fails too, or never ends.
            evidence = history.replaced() => Err(StartError::Replaced(evidence)),
            joined = joined => joined,
        }
    }

    /// Waits for the end of the node. If the store turns out not to be the one that the node
    /// joined, everything that it has of its objects is dropped unsaved, and the node ends: the fence
    /// is closed already, and nothing that this process knows counts in the other store.
    async fn until_replaced(&self, shutdown: &CancellationToken) -> Result<(), StartError> {
        let Some(history) = self.shared.history.get() else {
            shutdown.cancelled().await;
            return Ok(());
        };
        let evidence = tokio::select! {
            biased; // Other tasks fail by it, and their end is the shutdown.
            evidence = history.replaced() => Some(evidence),
            () = shutdown.cancelled() => history.evidence(),
        };
        let Some(evidence) = evidence else {
            return Ok(());
        };
        self.shared.host.discard_all();
        self.shared.router.all_changed();
        let error = StartError::Replaced(evidence);
        self.shared
            .progress
            .send_replace(Progress::Failed(error.clone()));
        Err(error)
    }

    /// Reaches the store and creates or checks the cluster, however long the store is away.
    async fn reach_cluster(
        &self,
        joining: &Joining,
    ) -> Result<(Arc<dyn Store>, ClusterMeta), StartError> {
        let fresh = ClusterMeta {
            cluster_id: Uuid::new_v4().to_string(),
            ..self.shared.view.current().meta.clone()
        };
        let mut pauses = pauses();
        loop {
            let error = match self.connect(&joining.store).await {
                Ok(store) => match cluster::create_or_check(&*store, &joining.keys, &fresh).await {
                    Ok(meta) => return Ok((store, meta)),
                    Err(ClusterError::Store(error)) => error,
                    Err(error) => return Err(error.into()),
                },
                Err(error) => error,
            };
            if !error.is_transient() {
                return Err(error.into());
            }
            let pause = pauses.next().unwrap_or(RETRY_MAX);
            warn!(%error, ?pause, "cannot join yet, will retry");
            self.shared
                .progress
                .send_replace(Progress::Waiting(error.to_string()));
            tokio::time::sleep(pause).await;
        }
    }

    async fn connect(&self, choice: &StoreChoice) -> Result<Arc<dyn Store>, StoreError> {
        let store: Arc<dyn Store> = match choice {
            StoreChoice::Embedded => Arc::new(MemoryStore::new()),
            StoreChoice::Given(store) => store.clone(),
            StoreChoice::Etcd(settings) => Arc::new(EtcdStore::connect(settings.clone()).await?),
        };
        Ok(Arc::new(Metered::new(store, self.shared.metrics.clone())))
    }
}

impl Node {
    /// Starts what takes part in the cluster, and returns the handles of it.
    async fn start_parts(
        &self,
        store: Arc<dyn Store>,
        joining: Joining,
    ) -> Result<&Taking, StartError> {
        let Shared {
            tasks,
            view,
            fence,
            metrics,
            owner_checks,
            ..
        } = &*self.shared;
        let keys = joining.keys;
        let watching = self.catch_up(&store, &keys).await?;
        self.ask_others().await?;

        let membership = Membership::new(MembershipParts {
            store: store.clone(),
            keys: keys.clone(),
            registration: joining.registration,
            settings: joining.settings,
            fence: fence.clone(),
            view: view.clone(),
            metrics: metrics.clone(),
        });
        let rights = Rights::new(membership.subscribe(), fence.clone());
        let (leader, leader_handle) = Leader::new(LeaderParts {
            store: store.clone(),
            keys: keys.clone(),
            view: view.clone(),
            rights: rights.clone(),
            clock: fence.clock(),
            settings: joining.plan_settings,
            loads: self.shared.loads.subscribe(),
            arrivals: self.shared.arrivals.subscribe(),
            ask_nodes: self.shared.ask_nodes.clone(),
            reach: Some(self.shared.reach.subscribe()),
            metrics: metrics.clone(),
        });
        let activity = ActivityParts {
            store: store.clone(),
            keys: keys.clone(),
            view: view.clone(),
            rights: rights.clone(),
            probation: self.shared.host.probation().clone(),
        };
        let strays = Strays::new(StraysParts {
            store: store.clone(),
            keys: keys.clone(),
            view: view.clone(),
            rights: rights.clone(),
            metrics: metrics.clone(),
        });
        tasks.spawn("strays", |shutdown| strays.run(shutdown));
        let (reconciler, reconciler_handle) = Reconciler::new(ReconcilerParts {
            store: store.clone(),
            keys: keys.clone(),
            view: view.clone(),
            rights,
            host: Arc::new(self.hosted_shards()),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            rng: rand::make_rng(),
            drain_timeout: self.shared.drain_timeout,
        });
        let (lives, member) = (membership.subscribe(), membership.clone());
        let taking = self.shared.taking.get_or_init(|| Taking {
            membership,
            watching,
            leading: self.lead(leader),
            leader: leader_handle,
            store,
            keys,
            reconciler: reconciler_handle,
        });
        let surroundings = Arc::new(self.surroundings());
        tasks.spawn("membership", |shutdown| async move {
            member.run(surroundings, shutdown).await
        });
        tasks.spawn("activity note", |shutdown| {
            activity::run(activity, shutdown)
        });
        tasks.spawn("reconciler", |shutdown| reconciler.run(shutdown));
        let (checks, store, keys) = (
            owner_checks.clone(),
            taking.store.clone(),
            taking.keys.clone(),
        );
        tasks.spawn("owner checks", |shutdown| checks.run(store, keys, shutdown));
        self.follow(lives);
        Ok(taking)
    }

    /// Starts to watch the cluster, and waits until the view is what the store has.
    async fn catch_up(
        &self,
        store: &Arc<dyn Store>,
        keys: &Keys,
    ) -> Result<watch::Receiver<WatchState>, StartError> {
        let Shared { tasks, view, .. } = &*self.shared;
        let (watcher, mut watching) = Watcher::new(WatcherParts {
            store: store.clone(),
            keys: keys.clone(),
            view: view.clone(),
            metrics: self.shared.metrics.clone(),
        });
        tasks.spawn("watcher", |shutdown| watcher.run(shutdown));
        let caught_up = watching
            .wait_for(|state| *state == WatchState::CaughtUp)
            .await
            .is_ok();
        caught_up.then_some(watching).ok_or(StartError::Stopped)
    }

    /// Lets the host and the router know whenever a life begins or ends, or the fence opens.
    fn follow(&self, lives: watch::Receiver<MembershipState>) {
        let Shared { tasks, fence, .. } = &*self.shared;
        let (host, router) = (self.shared.host.clone(), self.shared.router.clone());
        let lease = self.shared.lease.clone();
        let generation = self.shared.view.current().meta.restore_generation;
        tasks.spawn("lives", move |shutdown| {
            follow_lives(lives, lease, generation, host, router, shutdown)
        });
        let (states, router) = (fence.subscribe(), self.shared.router.clone());
        tasks.spawn("fence", |shutdown| wake_when_open(states, router, shutdown));
    }

    /// Asks some of the nodes that are there whether they can talk to this one. As long as nobody
    /// answers, nothing is known against it; the first answer counts.
    async fn ask_others(&self) -> Result<(), StartError> {
        let network = &*self.shared.network;
        if !network.has_settings() {
            return Ok(());
        }
        let view = self.shared.view.current();
        let others = view.nodes.iter().filter(|(node, _)| *node != self.id());
        let mut asked: FuturesUnordered<_> = others
            .take(ASKED_MAX)
            .map(|(node, record)| async move {
                (
                    node,
                    &record.grpc,
                    probe::probe(network, &record.grpc).await,
                )
            })
            .collect();
        while let Some((node, address, answer)) = asked.next().await {
            match answer {
                Probe::Fine => return Ok(()),
                Probe::Mistrust(why) => {
                    return Err(StartError::Mistrust {
                        node: node.clone(),
                        address: address.clone(),
                        why,
                    });
                }
                Probe::Silent => {}
            }
        }
        Ok(())
    }

    /// Runs the leader's task until it is told to resign or the node stops.
    fn lead(&self, mut leader: Leader) -> Leading {
        let resign = self.shared.tasks.shutdown().child_token();
        let leading = Leading {
            resign: resign.clone(),
            resigned: CancellationToken::new(),
        };
        // Cancelled by a panic too, or whoever stops the node would wait for ever.
        let resigned = leading.resigned.clone().drop_guard();
        self.shared.tasks.spawn("leader", |shutdown| async move {
            leader.run(resign).await?;
            drop(resigned);
            leader.stay_resigned(shutdown).await; // A task's end would be the node's.
            Ok::<_, Infallible>(())
        });
        leading
    }

    fn hosted_shards(&self) -> HostedShards {
        HostedShards {
            host: self.shared.host.clone(),
            router: self.shared.router.clone(),
            view: self.shared.view.clone(),
            plan_settings: self.shared.plan_settings.clone(),
        }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            host: self.shared.host.clone(),
            router: self.shared.router.clone(),
            network: self.shared.network.clone(),
        }
    }
}

/// Tells the lease of each life, and opens the place of node-bound objects under the token of it.
async fn follow_lives(
    mut lives: watch::Receiver<MembershipState>,
    lease: watch::Sender<Option<LeaseId>>,
    generation: u16,
    host: Arc<Host>,
    router: Arc<Router>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let active = lives.borrow_and_update().active().cloned();
        if let Some(identity) = active {
            lease.send_replace(Some(identity.lease));
            let created = Revision::new(identity.incarnation.get());
            host.open_node_bound(Token::of(generation, created));
            router.all_changed();
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changed = lives.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// Wakes the calls that wait for the fence.
async fn wake_when_open(
    mut states: watch::Receiver<FenceState>,
    router: Arc<Router>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        if *states.borrow_and_update() == FenceState::Open {
            router.all_changed();
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changed = states.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(RETRY_MIN)
        .with_max_delay(RETRY_MAX)
        .without_max_times()
        .with_jitter()
        .build()
}
