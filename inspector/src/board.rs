//! What the Inspector knows, shared by those who look and those who answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use steading::coordination::watcher::WatchState;
use steading::ids::NodeId;
use steading::node::Observer;
use steading::placement::ClusterView;
use steading_http::Problem;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::feed::{Feed, FeedCounts, json};
use crate::figures::{ClusterFigures, Latencies, Look, NodeFigures};
use crate::guard::Access;
use crate::health::{Finding, Known, findings};
use crate::history::{Event, History};
use crate::rates::Rates;
use crate::spread::Spread;

/// A node that has told nothing for this long is shown as stale.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(6);

/// Bad news is among the findings for this long, in milliseconds.
const BAD_NEWS_MS: u64 = 60_000;

/// How many points of the cluster's figures are kept: an hour while somebody looks.
const POINTS_KEPT: usize = 1_800;

/// Everything that is known.
#[derive(Debug)]
pub(crate) struct Board {
    /// Who may do what.
    pub access: Access,
    /// What pages are told.
    pub feed: Feed,
    /// What happened.
    pub history: Mutex<History>,
    /// How often the objects are called that somebody looks at.
    pub rates: Mutex<Rates>,
    observer: RwLock<Result<Observer, String>>,
    looks: Mutex<BTreeMap<NodeId, NodeLooks>>,
    points: Mutex<std::collections::VecDeque<Point>>,
}

/// What is known of one node.
#[derive(Clone, Debug, Default)]
struct NodeLooks {
    now: Option<Look>,
    before: Option<Look>,
    error: Option<String>,
    since: Option<Instant>,
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
    /// How objects are spread over the shards.
    objects_per_shard: Spread,
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
            feed: Feed::new(),
            history: Mutex::new(History::new(now_ms())),
            rates: Mutex::default(),
            observer: RwLock::new(Err("it has not been reached yet".into())),
            looks: Mutex::default(),
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
                WatchState::CaughtUp => "caught_up",
                WatchState::Listing => "listing",
                WatchState::Disconnected => "disconnected",
            },
            Err(_) => "unreachable",
        }
    }

    /// Takes in what a node told.
    pub(crate) fn looked(&self, node: &NodeId, look: Result<Look, String>) {
        let mut looks = self.looks.lock();
        let known = looks.entry(node.clone()).or_default();
        known.since.get_or_insert_with(Instant::now);
        match look {
            Ok(look) => {
                known.before = known.now.replace(look);
                known.error = None;
            }
            Err(error) => known.error = Some(error),
        }
    }

    /// Forgets nodes that are not in the view.
    pub(crate) fn retain(&self, view: &ClusterView) {
        self.looks
            .lock()
            .retain(|node, _| view.nodes.contains_key(node));
    }

    /// Returns the newest look at each node.
    pub(crate) fn looks(&self) -> BTreeMap<NodeId, Look> {
        let looks = self.looks.lock();
        let told = looks
            .iter()
            .filter_map(|(node, known)| Some((node.clone(), known.now.clone()?)));
        told.collect()
    }

    fn node_figures(&self) -> Vec<(NodeId, NodeFigures, Latencies)> {
        let (now, looks) = (Instant::now(), self.looks.lock());
        let figures = looks.iter().map(|(node, known)| {
            let (mut figures, latencies) = match &known.now {
                Some(look) => NodeFigures::of(look, known.before.as_ref()),
                None => Default::default(),
            };
            let told = known.now.as_ref().map(Look::at);
            let silent_since = told.or(known.since).unwrap_or(now);
            figures.age_ms = told.map(|told| millis(now - told));
            figures.stale = now - silent_since > STALE_AFTER;
            figures.error.clone_from(&known.error);
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

    fn spread(&self) -> Spread {
        let Ok(view) = self.view() else {
            return Spread::default();
        };
        let mut objects = vec![0; view.meta.shard_count.get() as usize];
        for known in self.looks.lock().values() {
            let reports = known.now.as_ref().map(Look::report);
            for (shard, count) in reports.into_iter().flat_map(|report| &report.by_shard) {
                if let Some(sum) = objects.get_mut(shard.index()) {
                    *sum += count;
                }
            }
        }
        Spread::of(&objects)
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
        findings(Known {
            view,
            is_followed: self.store_state() == "caught_up",
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
        if let Ok(view) = self.view() {
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
