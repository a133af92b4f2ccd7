//! The task that looks: reaches the cluster, follows its view, and asks nodes at an interval.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use steading::ids::NodeId;
use steading::node::{ObserveError, Observer, ObserverSettings};
use steading::placement::ClusterView;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::board::{Board, now_ms};
use crate::feed::json;
use crate::figures::Look;

/// The pause before the store is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Changes of the view are gathered for this long, so that a wave of moves is one message.
const GATHER: Duration = Duration::from_millis(50);

/// How often nodes are asked while a page is open …
const ASK_EVERY: Duration = Duration::from_secs(2);

/// … and while none is.
const ASK_EVERY_UNSEEN: Duration = Duration::from_secs(10);

/// How many nodes are asked at once.
const ASKED_AT_ONCE: usize = 8;

/// How often it is seen whether a page was opened.
const NOTICE: Duration = Duration::from_millis(200);

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
    shutdown.run_until_cancelled(all).await;
    observer.stop().await;
    Ok(())
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

async fn ask_nodes(board: &Board, observer: &Observer) {
    loop {
        let began = Instant::now();
        let view = observer.view();
        let nodes: Vec<NodeId> = view.nodes.keys().cloned().collect();
        let asked = nodes.into_iter().map(|node| ask(board, observer, node));
        stream::iter(asked)
            .buffer_unordered(ASKED_AT_ONCE)
            .collect::<()>()
            .await;
        board.tell_figures();
        let was_seen = board.feed.is_heard();
        let lives = lives(&view);
        while !is_due(began, was_seen, board.feed.is_heard())
            && lives == self::lives(&observer.view())
        {
            sleep_until((Instant::now() + NOTICE).min(began + ASK_EVERY_UNSEEN)).await;
        }
    }
}

/// The lives of the nodes: a new one is asked at once.
fn lives(view: &ClusterView) -> Vec<u64> {
    let nodes = view.nodes.values();
    nodes.map(|node| node.incarnation.get()).collect()
}

/// Whether nodes are asked again: at the interval, and soon after a first page was opened.
fn is_due(began: Instant, was_seen: bool, is_seen: bool) -> bool {
    let interval = if is_seen { ASK_EVERY } else { ASK_EVERY_UNSEEN };
    began.elapsed() >= interval || (is_seen && !was_seen)
}

async fn ask(board: &Board, observer: &Observer, node: NodeId) {
    let answers = async {
        let report = observer.report(&node).await?;
        let text = observer.node_metrics(&node).await?;
        Ok::<_, steading::node::QueryError>(Look::new(Instant::now(), report, &text))
    };
    let look = answers.await.map_err(|error| error.to_string());
    // It may have gone while it was asked, and would then be remembered as silent.
    if observer.view().nodes.contains_key(&node) {
        board.looked(&node, look);
    }
}
