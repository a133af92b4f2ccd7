//! What the Inspector knows, shared by those who look and those who answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use steading::coordination::watcher::WatchState;
use steading::ids::{Incarnation, NodeId};
use steading::node::{Contact, FIGURES_MAX_AGE, Observer};
use steading::placement::{ClusterView, is_balanced};
use steading_http::{Attempts, Problem};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;

use crate::feed::{Feed, FeedCounts, json};
use crate::figures::{ClusterFigures, Known, Latencies, Look, NodeFigures};
use crate::guard::Access;
use crate::health::{self, Finding, findings};
use crate::history::{Event, History};
use crate::rates::Rates;
use crate::spread::Spread;

/// How long nodes go on being asked often after somebody asked for their figures.
const WANTED_FOR: Duration = Duration::from_secs(10);

/// How often the cluster's figures are kept.
const POINT_EVERY_MS: u64 = 1_900;

/// How often it is looked whether nodes that were asked have turned out to be silent.
const SETTLED_EVERY: Duration = Duration::from_millis(100);

/// The store's state while the view follows it.
pub(crate) const CAUGHT_UP: &str = "caught_up";

/// Bad news is among the findings for this long, in milliseconds.
const BAD_NEWS_MS: u64 = 60_000;

/// How many points of the cluster's figures are kept: an hour while somebody looks.
const POINTS_KEPT: usize = 1_800;

/// Everything that is known.
#[derive(Debug)]
pub(crate) struct Board {
    /// Who may do what.
    pub access: Access,
    /// Wrong tokens of late.
    pub attempts: Mutex<Attempts>,
    /// What pages are told.
    pub feed: Feed,
    /// What happened.
    pub history: Mutex<History>,
    /// How often the objects are called that somebody looks at.
    pub rates: Mutex<Rates>,
    observer: RwLock<Result<Observer, String>>,
    looks: Mutex<BTreeMap<NodeId, NodeLooks>>,
    /// Counts the answers and failures that were taken in.
    heard: watch::Sender<u64>,
    /// Until when nodes are asked often, apart from open pages.
    wanted_until: Mutex<Option<Instant>>,
    points: Mutex<std::collections::VecDeque<Point>>,
}

/// What is known of one node.
#[derive(Clone, Debug, Default)]
struct NodeLooks {
    incarnation: Option<Incarnation>,
    contact: Contact,
    now: Option<Look>,
    before: Option<Look>,
    error: Option<String>,
}

/// The cluster's figures at one moment.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Point {
    /// Milliseconds since 1970.
    pub at: u64,
    /// How many shards are owned by another node than they should be.
    pub moving: u64,
    /// How many have no live owner.
    pub unowned: u64,
    /// The sums.
    #[serde(flatten)]
    pub cluster: ClusterFigures,
}

/// The figures as pages get them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Figures {
    /// Milliseconds since 1970.
    at: u64,
    /// Whether the view follows the store: `caught_up`, `listing`, `disconnected`, `unreachable`.
    store: &'static str,
    /// The sums.
    cluster: ClusterFigures,
    /// How objects are spread over the shards; none if no node answers.
    objects_per_shard: Option<Spread>,
    /// Each node's own.
    nodes: BTreeMap<String, NodeFigures>,
    /// How pages fare.
    pages: FeedCounts,
}

impl Board {
    /// Knows nothing yet.
    pub(crate) fn new(access: Access) -> Self {
        Self {
            access,
            attempts: Mutex::default(),
            feed: Feed::new(),
            history: Mutex::new(History::new(now_ms())),
            rates: Mutex::default(),
            observer: RwLock::new(Err("it has not been reached yet".into())),
            looks: Mutex::default(),
            heard: watch::Sender::default(),
            wanted_until: Mutex::default(),
            points: Mutex::default(),
        }
    }

    /// Returns who looks at the cluster.
    ///
    /// # Errors
    ///
    /// A problem that says why nobody does yet.
    pub(crate) fn observer(&self) -> Result<Observer, Problem> {
        let observer = self.observer.read();
        observer.clone().map_err(|why| no_store(&why))
    }

    /// Says who looks, or why nobody does.
    pub(crate) fn set_observer(&self, observer: Result<Observer, String>) {
        *self.observer.write() = observer;
    }

    /// Returns the newest view.
    ///
    /// # Errors
    ///
    /// As [`Board::observer`].
    pub(crate) fn view(&self) -> Result<Arc<ClusterView>, Problem> {
        Ok(self.observer()?.view())
    }

    /// Whether the view follows the store, in a word.
    pub(crate) fn store_state(&self) -> &'static str {
        match &*self.observer.read() {
            Ok(observer) => match *observer.watching().borrow() {
                WatchState::CaughtUp => CAUGHT_UP,
                WatchState::Listing => "listing",
                WatchState::Disconnected => "disconnected",
            },
            Err(_) => "unreachable",
        }
    }

    /// Notes that an incarnation of a node is asked. What was known of an earlier one is dropped.
    pub(crate) fn ask(&self, node: &NodeId, incarnation: Incarnation) {
        let mut looks = self.looks.lock();
        let known = looks.entry(node.clone()).or_default();
        if known.incarnation != Some(incarnation) {
            *known = NodeLooks {
                incarnation: Some(incarnation),
                ..NodeLooks::default()
            };
        }
        known.contact.ask(Instant::now());
    }

    /// Takes in what a node answered, or why it did not. An answer about an incarnation that is no
    /// longer asked about changes nothing.
    pub(crate) fn looked(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        look: Result<Look, String>,
    ) {
        let mut looks = self.looks.lock();
        let known = looks.get_mut(node);
        let known = known.filter(|known| known.incarnation == Some(incarnation));
        let Some(known) = known else {
            return;
        };
        match look {
            Ok(look) => {
                let left = look.report().fence_left;
                known.contact.answer(Instant::now(), left);
                known.before = known.now.replace(look);
                known.error = None;
            }
            Err(error) => {
                known.contact.fail(Instant::now());
                known.error = Some(error);
            }
        }
        drop(looks);
        self.heard.send_modify(|count| *count += 1);
    }

    /// Returns whether somebody wants to know how nodes are: then they are asked often.
    pub(crate) fn is_wanted(&self, now: Instant) -> bool {
        self.feed.is_heard() || self.wanted_until.lock().is_some_and(|until| now < until)
    }

    /// Has nodes asked often for a while, and waits until each has answered lately or is known not
    /// to: for two seconds at most, and not at all while pages are open.
    pub(crate) async fn freshen(&self) {
        *self.wanted_until.lock() = Some(Instant::now() + WANTED_FOR);
        let mut heard = self.heard.subscribe();
        let settled = async {
            while !self.is_settled(Instant::now()) {
                // A node that hangs answers nothing, so the time that passes counts too.
                let more = timeout(SETTLED_EVERY, heard.changed()).await;
                if matches!(more, Ok(Err(_))) {
                    return;
                }
            }
        };
        let _ = timeout(FIGURES_MAX_AGE, settled).await;
    }

    fn is_settled(&self, now: Instant) -> bool {
        let Ok(view) = self.view() else {
            return true;
        };
        let looks = self.looks.lock();
        let settled = |node: &NodeId| {
            let contact = looks.get(node).map(|known| known.contact);
            contact.is_some_and(|contact| contact.is_fresh(now) || contact.is_silent(now))
        };
        view.nodes.keys().all(settled)
    }

    /// Forgets nodes that are not in the view.
    pub(crate) fn retain(&self, view: &ClusterView) {
        self.looks
            .lock()
            .retain(|node, _| view.nodes.contains_key(node));
    }

    /// Returns the newest look at each node that answered lately.
    pub(crate) fn looks(&self) -> BTreeMap<NodeId, Look> {
        let (now, looks) = (Instant::now(), self.looks.lock());
        let fresh = looks
            .iter()
            .filter(|(_, known)| known.contact.is_fresh(now));
        let fresh = fresh.filter_map(|(node, known)| Some((node.clone(), known.now.clone()?)));
        fresh.collect()
    }

    /// Returns how each registered node is.
    fn node_figures(&self) -> Vec<(NodeId, NodeFigures, Latencies)> {
        let Ok(view) = self.view() else {
            return Vec::new();
        };
        let mut owned: BTreeMap<&NodeId, usize> = BTreeMap::new();
        for shard in view.meta.shard_count.shards() {
            if let Some(owner) = view.live_owner(shard) {
                *owned.entry(&owner.node).or_default() += 1;
            }
        }
        let is_followed = self.store_state() == CAUGHT_UP;
        let (now, looks, nobody) = (Instant::now(), self.looks.lock(), NodeLooks::default());
        let figures = view.nodes.iter().map(|(node, record)| {
            let known = looks.get(node);
            let known = known.filter(|known| known.incarnation == Some(record.incarnation));
            let known = known.unwrap_or(&nobody);
            let (figures, latencies) = NodeFigures::of(&Known {
                record,
                contact: &known.contact,
                looks: (known.now.as_ref(), known.before.as_ref()),
                error: known.error.as_deref(),
                shards: owned.get(node).copied().unwrap_or_default(),
                is_balanced: is_balanced(&view, node),
                is_followed,
                now,
            });
            (node.clone(), figures, latencies)
        });
        figures.collect()
    }

    /// Sums the figures up, as of now.
    pub(crate) fn figures(&self) -> Figures {
        let nodes = self.node_figures();
        let pairs = nodes
            .iter()
            .map(|(_, figures, latencies)| (figures, latencies));
        let cluster = ClusterFigures::of(pairs);
        let nodes = nodes.into_iter();
        Figures {
            at: now_ms(),
            store: self.store_state(),
            cluster,
            objects_per_shard: self.spread(),
            nodes: nodes
                .map(|(node, figures, _)| (node.to_string(), figures))
                .collect(),
            pages: self.feed.counts(),
        }
    }

    fn spread(&self) -> Option<Spread> {
        let view = self.view().ok()?;
        let mut objects = vec![0; view.meta.shard_count.get() as usize];
        let (now, looks) = (Instant::now(), self.looks.lock());
        let fresh = looks.values().filter(|known| known.contact.is_fresh(now));
        let mut reports = fresh.filter_map(|known| known.now.as_ref().map(Look::report));
        let first = reports.next()?;
        for report in std::iter::once(first).chain(reports) {
            for (shard, count) in &report.by_shard {
                if let Some(sum) = objects.get_mut(shard.index()) {
                    *sum += count;
                }
            }
        }
        Some(Spread::of(&objects))
    }

    /// Returns whether any node was asked lately. If not, that nothing is known of them is no news.
    fn is_asking(&self) -> bool {
        let (now, looks) = (Instant::now(), self.looks.lock());
        let asked = |known: &NodeLooks| {
            let contact = known.contact;
            contact.is_fresh(now) || contact.unanswered_for(now).is_some()
        };
        looks.is_empty() || looks.values().any(asked)
    }

    /// Says what is wrong.
    pub(crate) fn findings(&self, view: &ClusterView) -> Vec<Finding> {
        let (now, nodes) = (now_ms(), self.node_figures());
        let pairs = nodes
            .iter()
            .map(|(_, figures, latencies)| (figures, latencies));
        let cluster = ClusterFigures::of(pairs);
        let nodes: Vec<_> = nodes
            .into_iter()
            .map(|(node, figures, _)| (node, figures))
            .collect();
        let bad_news = self.bad_news(now);
        findings(health::Known {
            view,
            is_followed: self.store_state() == CAUGHT_UP,
            nodes: &nodes,
            cluster: &cluster,
            bad_news: &bad_news,
            now,
        })
    }

    fn bad_news(&self, now: u64) -> Vec<Event> {
        let history = self.history.lock();
        let news = history.events().into_iter();
        news.take_while(|event| event.at + BAD_NEWS_MS > now)
            .filter(|event| event.bad && event.kind == "node")
            .collect()
    }

    /// Tells pages the figures and what is wrong, and keeps a point of them.
    pub(crate) fn tell_figures(&self) {
        let figures = self.figures();
        if let Ok(view) = self.view()
            && self.is_asking()
        {
            self.keep(&view, figures.at, figures.cluster.clone());
        }
        self.feed.tell("figures", json(&figures));
        self.tell_health();
    }

    /// Tells pages what is wrong.
    pub(crate) fn tell_health(&self) {
        if let Ok(view) = self.view() {
            self.feed.tell("health", json(&self.findings(&view)));
        }
    }

    fn keep(&self, view: &ClusterView, at: u64, cluster: ClusterFigures) {
        let mut point = Point {
            at,
            moving: 0,
            unowned: 0,
            cluster,
        };
        for shard in view.meta.shard_count.shards() {
            match crate::rows::Row::of(view, shard).state() {
                "moving" => point.moving += 1,
                "unowned" | "quarantined" => point.unowned += 1,
                _ => {}
            }
        }
        let mut points = self.points.lock();
        if points
            .back()
            .is_some_and(|last| at < last.at + POINT_EVERY_MS)
        {
            return;
        }
        if points.len() == POINTS_KEPT {
            points.pop_front();
        }
        points.push_back(point);
    }

    /// Returns the kept points, oldest first.
    pub(crate) fn points(&self) -> Vec<Point> {
        self.points.lock().iter().cloned().collect()
    }

    /// Notes something that happened, and tells pages.
    pub(crate) fn note(&self, event: Event) {
        self.feed.mention("event", json(&event));
        self.history.lock().note(event);
    }
}

/// The cluster cannot be seen, or not now.
pub(crate) fn no_store(why: &str) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem::new(status, "no_store", "The cluster cannot be seen", why)
}

/// Returns the wall clock in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(since.unwrap_or_default())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Figures {
    /// Takes the nodes' figures out.
    pub(crate) fn into_nodes(self) -> BTreeMap<String, NodeFigures> {
        self.nodes
    }
}
