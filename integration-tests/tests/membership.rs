//! Membership on a real etcd and the real clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use steading::Tasks;
use steading::clock::Clock;
use steading::coordination::keys::Keys;
use steading::coordination::membership::{
    Identity, Membership, MembershipParts, MembershipSettings, MembershipState, NodePort,
    Registration, Replace,
};
use steading::coordination::store::Store;
use steading::coordination::{EtcdSettings, EtcdStore, SharedView};
use steading::fence::Fence;
use steading::ids::{NodeId, ShardCount};
use steading::placement::{ClusterMeta, NodeState, Weight};
use steading::telemetry::Metrics;
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::{LIMIT, until};
use tokio::time::{Instant, sleep, timeout};

const TTL: Duration = Duration::from_secs(2);

/// A node `n` that hosts nothing.
struct Member {
    store: Arc<EtcdStore>,
    membership: Membership,
    fence: Arc<Fence>,
    node: Arc<Around>,
    tasks: Tasks,
}

/// Counts how often everything was dropped.
#[derive(Default)]
struct Around(AtomicU32);

#[async_trait::async_trait]
impl NodePort for Around {
    async fn answers(&self, _node: &NodeId, _address: &str) -> bool {
        false
    }

    fn discard_all(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Member {
    async fn start(etcd: &Etcd, settings: MembershipSettings) -> Self {
        let store = EtcdStore::connect(EtcdSettings::new([etcd.endpoint()])).await;
        let store = Arc::new(store.expect("etcd answers"));
        let fence = Arc::new(Fence::new(Clock::Boot));
        fence.watch_over().expect("a thread");
        let membership = Membership::new(MembershipParts {
            store: store.clone(),
            keys: keys(),
            registration: Registration {
                node: node(),
                grpc: "n:1".into(),
                http: None,
                zone: None,
                weight: Weight::ONE,
                labels: BTreeMap::new(),
                version: "0".into(),
                object_types: vec![],
            },
            settings,
            fence: fence.clone(),
            view: Arc::new(SharedView::new(ClusterMeta::new(
                "test",
                ShardCount::new(8).expect("a power of two"),
            ))),
            metrics: Arc::new(Metrics::new()),
        });
        let (node, tasks) = (Arc::new(Around::default()), Tasks::new());
        let (running, around) = (membership.clone(), node.clone());
        tasks.spawn("membership", |shutdown| async move {
            running.run(around, shutdown).await
        });
        Self {
            store,
            membership,
            fence,
            node,
            tasks,
        }
    }

    async fn joined(etcd: &Etcd) -> (Self, Identity) {
        let member = Self::start(etcd, settings()).await;
        let identity = timeout(LIMIT, member.membership.joined()).await;
        (member, identity.expect("in time").expect("joins"))
    }

    async fn until(&self, wanted: impl FnMut(&MembershipState) -> bool) -> MembershipState {
        let mut states = self.membership.subscribe();
        let state = timeout(LIMIT, states.wait_for(wanted)).await;
        state.expect("in time").expect("it lives").clone()
    }

    async fn is_registered(&self) -> bool {
        let listing = self.store.list(&keys().node(&node())).await;
        !listing.expect("etcd answers").entries.is_empty()
    }
}

fn settings() -> MembershipSettings {
    MembershipSettings {
        lease_ttl: TTL,
        ..MembershipSettings::default()
    }
}

fn keys() -> Keys {
    Keys::new("/membership/")
}

fn node() -> NodeId {
    NodeId::new("n").expect("a good name")
}

#[tokio::test]
async fn m10_m11_a_member_stays_under_one_lease_and_says_what_it_is() {
    let etcd = Etcd::start().await;
    let (member, identity) = Member::joined(&etcd).await;
    member.membership.set_state(NodeState::Active);
    let end = Instant::now() + TTL * 2;
    while Instant::now() < end {
        assert!(member.fence.is_open() && member.is_registered().await);
        sleep(TTL / 20).await;
    }
    assert_eq!(member.membership.state(), MembershipState::Active(identity));
    let listing = member
        .store
        .list(&keys().node(&node()))
        .await
        .expect("listed");
    let value = String::from_utf8_lossy(&listing.entries[0].value).into_owned();
    assert!(value.contains(r#""state":"active""#), "{value}");
    member.membership.leave().await;
    assert!(!member.is_registered().await);
}

#[tokio::test]
async fn n6_a_suspended_member_resumes_the_same_life_if_its_lease_lasted() {
    let etcd = Etcd::start().await;
    let (member, identity) = Member::joined(&etcd).await;
    etcd.freeze().await;
    member
        .until(|state| matches!(state, MembershipState::Suspended(_)))
        .await;
    assert!(!member.fence.is_open());
    etcd.thaw().await;
    member
        .until(|state| *state == MembershipState::Active(identity.clone()))
        .await;
    assert!(member.fence.is_open() && member.node.0.load(Ordering::SeqCst) == 0);
    member.tasks.stop(LIMIT).await;
}

#[tokio::test]
async fn m12_a_member_is_registered_again_after_etcd_was_away_for_long() {
    let mut etcd = Etcd::start().await;
    let (member, _) = Member::joined(&etcd).await;
    etcd.kill();
    member
        .until(|state| matches!(state, MembershipState::Suspended(_)))
        .await;
    sleep(TTL * 2).await;
    etcd.restart().await;
    let back = Instant::now();
    member.until(|state| state.active().is_some()).await;
    until("registered", async || {
        let registered = member.is_registered().await;
        registered.then_some(()).ok_or_else(|| "no key".into())
    })
    .await;
    assert!(member.fence.is_open() && back.elapsed() < Duration::from_secs(20));
    member.tasks.stop(LIMIT).await;
}

#[tokio::test]
async fn a_revoked_lease_ends_the_life_and_another_begins() {
    let etcd = Etcd::start().await;
    let (member, identity) = Member::joined(&etcd).await;
    member.store.revoke(identity.lease).await.expect("revoked");
    let another = member
        .until(|state| state.active().is_some_and(|now| *now != identity))
        .await;
    assert!(another.active().expect("active").incarnation > identity.incarnation);
    assert!(
        member.node.0.load(Ordering::SeqCst) >= 1,
        "everything was dropped"
    );
    member.tasks.stop(LIMIT).await;
}

#[tokio::test]
async fn a_successor_with_the_lock_waits_for_no_lease() {
    let etcd = Etcd::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let settings = MembershipSettings {
        lease_ttl: Duration::from_secs(30),
        replace: Replace::Lock,
        lock_dir: Some(dir.path().into()),
    };
    let gone = Member::start(&etcd, settings.clone()).await;
    let before = gone.membership.joined().await.expect("joins");
    // Its keys stay as if it was killed: etcd is out of its reach while it ends.
    etcd.freeze().await;
    gone.tasks.stop(LIMIT).await;
    drop(gone);
    etcd.thaw().await;
    let began = Instant::now();
    let successor = Member::start(&etcd, settings).await;
    let identity = successor.membership.joined().await.expect("joins");
    assert!(identity.incarnation > before.incarnation);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    successor.tasks.stop(LIMIT).await;
}
