//! What all open pages are told, in one order: kept for those that come back, bounded for those
//! that are slow.
//!
//! Every message is written once, whoever listens. A page that reads slower than messages come is
//! let go, and what it missed is counted exactly; it comes back by itself and goes on from the
//! revision it has, or begins anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use steading::placement::ClusterView;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::snapshot::{Delta, Snapshot};

/// How many messages may wait for one page before it is let go.
pub(crate) const MESSAGES_WAITING_MAX: usize = 256;

/// How many changes are kept for pages that come back.
const CHANGES_KEPT: usize = 1024;

/// How many pages may listen at once.
pub(crate) const PAGES_MAX: u64 = 64;

/// One message to all pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// What kind: `snapshot`, `delta`, `figures`, `health`, `plans` or `event`.
    pub kind: &'static str,
    /// The place in the order of changes, for those that change the placement.
    pub id: Option<Place>,
    /// JSON.
    pub data: Arc<str>,
}

/// A place in the order of changes: the store's revision, and a count of changes at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The revision up to which everything is told.
    pub revision: u64,
    /// Counts the changes that this process has told.
    pub number: u64,
}

/// What pages are told.
#[derive(Debug)]
pub(crate) struct Feed {
    inner: Mutex<Inner>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Inner {
    sender: broadcast::Sender<Arc<Message>>,
    changes: VecDeque<Arc<Message>>,
    /// The place after the last change.
    place: Place,
    /// The view that was told last; `None` before the first.
    view: Option<Arc<ClusterView>>,
    /// What a page that begins now is told first, by kind; the newest of each.
    latest: Vec<Arc<Message>>,
}

/// How pages fare.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pages: AtomicU64,
    pages_dropped: AtomicU64,
    messages_dropped: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub(crate) struct FeedCounts {
    /// Pages that listen now.
    pub pages: u64,
    /// Pages that were let go because they were too slow.
    pub pages_dropped: u64,
    /// Messages that those did not get.
    pub messages_dropped: u64,
}

/// Too many pages listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PAGES_MAX} pages listen already")]
pub(crate) struct TooManyPages;

impl Feed {
    /// Begins with nothing to tell.
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                sender: broadcast::Sender::new(MESSAGES_WAITING_MAX),
                changes: VecDeque::new(),
                place: Place::default(),
                view: None,
                latest: Vec::new(),
            }),
            counts: Arc::default(),
        }
    }

    /// Tells of a view, as of `at` in milliseconds since 1970: what changed since the last one, or
    /// all of it if nothing was told before or the cluster is another one.
    pub(crate) fn show(&self, view: &Arc<ClusterView>, at: u64) {
        let mut inner = self.inner.lock();
        let before = inner.view.replace(view.clone());
        let before = before.filter(|before| before.meta == view.meta);
        let revision = view.revision.get();
        let place = Place {
            revision,
            number: inner.place.number + 1,
        };
        let Some(before) = before else {
            inner.place = place;
            inner.changes.clear();
            inner.send("snapshot", Some(place), json(&Snapshot::of(view, at)));
            return;
        };
        let Some(delta) = Delta::between(&before, view, at) else {
            return; // The revision alone is no news for a page.
        };
        inner.place = place;
        let message = inner.send("delta", Some(place), json(&delta));
        if inner.changes.len() == CHANGES_KEPT {
            inner.changes.pop_front();
        }
        inner.changes.push_back(message);
    }

    /// Tells something of which only the newest counts, unless that is what was told last: no page
    /// needs to draw it again.
    pub(crate) fn tell(&self, kind: &'static str, data: String) {
        let mut inner = self.inner.lock();
        let mut latest = inner.latest.iter();
        if latest.any(|latest| latest.kind == kind && *latest.data == *data) {
            return;
        }
        let message = inner.send(kind, None, data);
        inner.latest.retain(|earlier| earlier.kind != kind);
        inner.latest.push(message);
    }

    /// Tells something once, to those who listen now.
    pub(crate) fn mention(&self, kind: &'static str, data: String) {
        self.inner.lock().send(kind, None, data);
    }

    /// Whether anybody listens.
    pub(crate) fn is_heard(&self) -> bool {
        self.counts.pages.load(Ordering::Relaxed) > 0
    }

    /// Returns how pages fare.
    pub(crate) fn counts(&self) -> FeedCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        FeedCounts {
            pages: read(&self.counts.pages),
            pages_dropped: read(&self.counts.pages_dropped),
            messages_dropped: read(&self.counts.messages_dropped),
        }
    }

    /// Returns everything for a page that has the changes up to `have`: those after it if they
    /// are kept, else the whole placement as of `at`; then all messages to come. The stream ends
    /// when the page is too slow.
    ///
    /// # Errors
    ///
    /// [`TooManyPages`].
    pub(crate) fn join(
        &self,
        have: Option<Place>,
        at: u64,
    ) -> Result<impl Stream<Item = Arc<Message>> + Send + use<>, TooManyPages> {
        let listening = Listening::begin(&self.counts)?;
        let inner = self.inner.lock();
        let mut first = match have.and_then(|have| inner.after(have)) {
            Some(changes) => changes,
            None => inner.anew(at),
        };
        first.extend(inner.latest.iter().cloned());
        let receiver = inner.sender.subscribe();
        drop(inner);
        let coming =
            stream::unfold(
                (receiver, listening),
                async |(mut receiver, listening)| match receiver.recv().await {
                    Ok(message) => Some((message, (receiver, listening))),
                    Err(RecvError::Lagged(missed)) => {
                        listening.dropped(missed + receiver.len() as u64);
                        None
                    }
                    Err(RecvError::Closed) => None,
                },
            );
        Ok(stream::iter(first).chain(coming))
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn send(&self, kind: &'static str, id: Option<Place>, data: String) -> Arc<Message> {
        let data = data.into();
        let message = Arc::new(Message { kind, id, data });
        drop(self.sender.send(message.clone())); // Nobody may listen.
        message
    }

    /// Returns the changes after a place, if all of them are kept.
    fn after(&self, have: Place) -> Option<Vec<Arc<Message>>> {
        if self.view.is_some() && self.place == have {
            return Some(Vec::new());
        }
        let mut ids = self.changes.iter().map(|change| change.id);
        let known = ids.position(|id| id == Some(have))?;
        Some(self.changes.iter().skip(known + 1).cloned().collect())
    }

    fn anew(&self, at: u64) -> Vec<Arc<Message>> {
        let snapshot = self.view.as_ref().map(|view| {
            Arc::new(Message {
                kind: "snapshot",
                id: Some(self.place),
                data: json(&Snapshot::of(view, at)).into(),
            })
        });
        snapshot.into_iter().collect()
    }
}

/// Writes JSON of what can always be written.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("maps have texts for keys")
}

/// A page that listens, until it is dropped.
#[derive(Debug)]
struct Listening(Arc<Counts>);

impl Listening {
    fn begin(counts: &Arc<Counts>) -> Result<Self, TooManyPages> {
        let more = |pages: u64| (pages < PAGES_MAX).then_some(pages + 1);
        let pages = &counts.pages;
        match pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self(counts.clone())),
            Err(_) => Err(TooManyPages),
        }
    }

    fn dropped(&self, missed: u64) {
        self.0.pages_dropped.fetch_add(1, Ordering::Relaxed);
        self.0.messages_dropped.fetch_add(missed, Ordering::Relaxed);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.pages.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.revision, self.number)
    }
}

impl std::str::FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (revision, number) = text.split_once('.').ok_or(())?;
        Ok(Self {
            revision: revision.parse().map_err(|_| ())?,
            number: number.parse().map_err(|_| ())?,
        })
    }
}

#[cfg(test)]
mod tests;
