//! The task that looks: reaches the cluster, follows its view, and asks nodes at an interval.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use steading::ids::{Incarnation, NodeId};
use steading::node::{ObserveError, Observer, ObserverSettings};
use steading::placement::ClusterView;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::board::{Board, now_ms};
use crate::feed::json;
use crate::figures::Look;

/// The pause before the store is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Changes of the view are gathered for this long, so that a wave of moves is one message.
const GATHER: Duration = Duration::from_millis(50);

/// How often each node is asked while somebody looks: often enough for figures never to become
/// older than [`FIGURES_MAX_AGE`](steading::node::FIGURES_MAX_AGE) while nodes answer …
const ASK_EVERY: Duration = Duration::from_secs(1);

/// … and while nobody does.
const ASK_EVERY_UNSEEN: Duration = Duration::from_secs(10);

/// How many nodes are asked at once. Each has one question at most, so only this many nodes that
/// hang can delay the others.
const ASKED_AT_ONCE: usize = 64;

/// How often it is looked who is to be asked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often pages get figures.
const SEND_EVERY: Duration = Duration::from_secs(1);

/// Looks until `shutdown`.
///
/// # Errors
///
/// Never: whatever fails is tried again.
pub(crate) async fn run(
    board: Arc<Board>,
    settings: ObserverSettings,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let reached = shutdown.run_until_cancelled(reach(&board, &settings)).await;
        let Some(observer) = reached else {
            return Ok(());
        };
        let all = async {
            tokio::join!(
                follow_view(&board, &observer),
                follow_plans(&board, &observer),
                ask_nodes(&board, &observer),
                follow_store(&board, &observer),
            )
        };
        let replaced = shutdown.run_until_cancelled(async {
            tokio::select! {
                evidence = observer.replaced() => evidence,
                _ = all => std::future::pending().await,
            }
        });
        let replaced = replaced.await;
        observer.stop().await;
        let Some(evidence) = replaced else {
            return Ok(());
        };
        // What was seen until now belongs to another cluster, or to another past of this one.
        let why = format!("the store is not the one that was looked at: {evidence}");
        warn!(why, "looking at the cluster anew");
        board.set_observer(Err(why));
        board.tell_figures();
    }
}

async fn reach(board: &Board, settings: &ObserverSettings) -> Observer {
    let mut told = String::new();
    loop {
        match Observer::connect(settings).await {
            Ok(observer) => {
                info!(prefix = settings.prefix, "looks at the cluster");
                board.set_observer(Ok(observer.clone()));
                return observer;
            }
            Err(error) => {
                let why = in_words(&error);
                if why != told {
                    warn!(why, "cannot look at the cluster yet, will retry");
                    told.clone_from(&why);
                }
                board.set_observer(Err(why));
                board.tell_figures();
                sleep(RETRY).await;
            }
        }
    }
}

fn in_words(error: &ObserveError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

async fn follow_view(board: &Board, observer: &Observer) {
    let mut views = observer.subscribe();
    let mut before = views.borrow_and_update().clone();
    loop {
        let now = views.borrow_and_update().clone();
        let at = now_ms();
        board.feed.show(&now, at);
        let events = board.history.lock().follow(&before, &now, at);
        for event in &events {
            board.feed.mention("event", json(event));
        }
        if before.nodes != now.nodes {
            board.retain(&now);
        }
        board.tell_health();
        before = now;
        if views.changed().await.is_err() {
            return;
        }
        sleep(GATHER).await;
    }
}

async fn follow_plans(board: &Board, observer: &Observer) {
    let mut plans = observer.plans();
    loop {
        let now = plans.borrow_and_update().clone();
        let list = crate::api::plans::listed(&now);
        board.feed.tell("plans", json(&list));
        if plans.changed().await.is_err() {
            return;
        }
        sleep(GATHER).await;
    }
}

async fn follow_store(board: &Board, observer: &Observer) {
    let mut states = observer.watching();
    while states.changed().await.is_ok() {
        board.tell_figures();
    }
}

/// Asks each node at its own pace, so that one which hangs delays no other, and sends figures.
async fn ask_nodes(board: &Board, observer: &Observer) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked: BTreeMap<Life, Asked> = BTreeMap::new();
    let mut under_way = FuturesUnordered::new();
    let mut sent = None;
    loop {
        tokio::select! {
            biased;
            Some(life) = under_way.next() => {
                if let Some(asked) = asked.get_mut(&life) {
                    asked.under_way = false;
                }
            }
            _ = tick.tick() => {
                let now = Instant::now();
                let view = observer.view();
                let room = ASKED_AT_ONCE.saturating_sub(under_way.len());
                let every = if board.is_wanted(now) { ASK_EVERY } else { ASK_EVERY_UNSEEN };
                for life in due(&mut asked, &view, every, now, room) {
                    board.ask(&life.0, life.1);
                    under_way.push(ask(board, observer, life));
                }
                if sent.is_none_or(|sent| now - sent >= SEND_EVERY) {
                    sent = Some(now);
                    board.tell_figures();
                }
            }
        }
    }
}

/// An incarnation of a node.
type Life = (NodeId, Incarnation);

/// When an incarnation was last asked.
struct Asked {
    at: Instant,
    under_way: bool,
}

/// Returns whom to ask at `now`, at most `room`, and marks them as asked. New incarnations are
/// asked at once; those that ended are forgotten.
fn due(
    asked: &mut BTreeMap<Life, Asked>,
    view: &ClusterView,
    every: Duration,
    now: Instant,
    room: usize,
) -> Vec<Life> {
    let nodes = view.nodes.iter();
    let lives = nodes.map(|(node, record)| (node.clone(), record.incarnation));
    let lives: BTreeSet<Life> = lives.collect();
    asked.retain(|life, _| lives.contains(life));
    let is_due = |life: &Life| {
        let known = asked.get(life);
        known.is_none_or(|asked| !asked.under_way && now - asked.at >= every)
    };
    let due: Vec<_> = lives.into_iter().filter(is_due).take(room).collect();
    for life in &due {
        let begun = Asked {
            at: now,
            under_way: true,
        };
        asked.insert(life.clone(), begun);
    }
    due
}

async fn ask(board: &Board, observer: &Observer, life: Life) -> Life {
    let (node, incarnation) = &life;
    let answers = async {
        let report = observer
            .report(node)
            .await
            .map_err(|error| error.to_string())?;
        if report.incarnation != Some(*incarnation) {
            return Err("another process answers at its address".to_owned());
        }
        let text = observer.node_metrics(node).await;
        let text = text.map_err(|error| error.to_string())?;
        Ok(Look::new(Instant::now(), report, &text))
    };
    let look = answers.await;
    board.looked(node, *incarnation, look);
    life
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, record, view, with};

    #[test]
    fn a_node_that_hangs_delays_no_other() {
        let mut asked: BTreeMap<Life, Asked> = BTreeMap::new();
        let (start, view) = (Instant::now(), view(1));
        let mut due_at = |ms: u64, done: &[&str]| {
            for ((node, _), asked) in &mut asked {
                asked.under_way &= !done.contains(&node.as_str());
            }
            let now = start + Duration::from_millis(ms);
            let due = due(&mut asked, &view, ASK_EVERY, now, 9);
            due.iter()
                .map(|(node, _)| node.to_string())
                .collect::<String>()
        };
        assert_eq!(due_at(0, &[]), "ab");
        assert_eq!(due_at(999, &["a"]), "");
        assert_eq!(due_at(1_000, &[]), "a");
        assert_eq!(due_at(2_000, &["a"]), "a");
        assert_eq!(due_at(2_001, &["b"]), "b", "it was overdue");
    }

    #[test]
    fn a_new_incarnation_is_asked_at_once() {
        let (mut asked, now) = (BTreeMap::new(), Instant::now());
        assert_eq!(due(&mut asked, &view(1), ASK_EVERY, now, 9).len(), 2);
        let restarted = with(view(1), |view| {
            let again = steading::placement::NodeRecord {
                incarnation: Incarnation::new(2),
                ..record()
            };
            view.nodes.insert(id("b"), again);
        });
        let due = due(&mut asked, &restarted, ASK_EVERY, now, 9);
        assert_eq!(due, [(id("b"), Incarnation::new(2))]);
        assert_eq!(asked.len(), 2);
    }
}
