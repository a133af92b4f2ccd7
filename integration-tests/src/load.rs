//! Callers that call without a pause, and what came of each of their calls.
//!
//! There are no retries: a call counts as failed if its caller sees an error. Each object has one
//! caller, who knows what the next answer must be, so that a lost or a doubled call shows at once.
//! Besides, all callers add to one object that they share, whose total must be what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::client::{Client, NoAnswer};
use crate::cluster::Node;
use crate::until;

/// How many callers there are at most; each has its part of the objects.
const CALLERS: usize = 16;

/// The types whose objects are called, of which a shard has one, and whether they are saved. Where
/// nodes share no storage, what was saved at an earlier owner may be what comes back after a death.
const TYPES: [(&str, bool); 2] = [("Tally", false), ("Counter", true)];

/// Longer than any call takes that the server does not give up itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Callers that call without a pause until they are told to end.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    /// How many times each caller has called each of its objects.
    rounds: Vec<Arc<AtomicU64>>,
    callers: Vec<JoinHandle<Vec<Called>>>,
    shared: String,
    gate: Gate,
}

/// What came of the calls to one object.
#[derive(Clone, Debug)]
pub struct Called {
    /// Its key.
    pub object: String,
    /// Its shard.
    pub shard: u32,
    /// The last answer.
    pub total: i64,
    /// Calls without an answer since then that may have run.
    pub doubtful: i64,
    /// What calls failed of.
    pub failed: Vec<String>,
    /// Whether it is saved.
    stored: bool,
    /// Calls that were answered.
    pub answered: u64,
    /// The longest that its caller waited for an answer, over all tries.
    pub longest: Duration,
    /// When the first of the calls that are not answered yet was made.
    waits_since: Option<Instant>,
    /// How many times it began, anew or with what was saved long ago.
    pub lives: u32,
    /// Answers that no history of the object explains.
    pub wrong: Vec<String>,
    /// Acknowledged calls to the object that all callers share.
    shared: i64,
}

impl Load {
    /// Begins to call an object of this name in each of these shards through this node, and waits
    /// until each has been called. No other load may call them.
    ///
    /// # Panics
    ///
    /// If there is no shard.
    pub async fn begin(through: &Node, name: &str, shards: impl IntoIterator<Item = u32>) -> Self {
        Self::paced(through, name, shards, Duration::ZERO).await
    }

    /// The same, with a pause of each caller after each of its calls.
    ///
    /// # Panics
    ///
    /// If there is no shard.
    pub async fn paced(
        through: &Node,
        name: &str,
        shards: impl IntoIterator<Item = u32>,
        pause: Duration,
    ) -> Self {
        let gate = Gate::at(through.http(), through.client());
        Self::begin_through(gate, name, shards, pause).await
    }

    /// The same through any HTTP server without TLS.
    ///
    /// # Panics
    ///
    /// If there is no shard.
    pub async fn begin_at(
        address: &str,
        name: &str,
        shards: impl IntoIterator<Item = u32>,
        pause: Duration,
    ) -> Self {
        let gate = Gate::at(address, &Client::plain(PATIENCE));
        Self::begin_through(gate, name, shards, pause).await
    }

    async fn begin_through(
        gate: Gate,
        name: &str,
        shards: impl IntoIterator<Item = u32>,
        pause: Duration,
    ) -> Self {
        let shards: Vec<u32> = shards.into_iter().collect();
        let first = *shards.first().expect("a load needs a shard");
        let shared = format!("Tally/shard%23{first}%2F{name}-shared");
        let stop = Arc::new(AtomicBool::new(false));
        let mut parts = vec![Vec::new(); CALLERS.min(shards.len())];
        let parts_len = parts.len();
        for (index, shard) in shards.into_iter().enumerate() {
            parts[index % parts_len].push(Called::nothing(name, shard));
        }
        let mut rounds = Vec::new();
        let callers = parts.into_iter().map(|objects| {
            let round = Arc::new(AtomicU64::new(0));
            rounds.push(round.clone());
            let caller = Caller {
                gate: gate.clone(),
                shared: shared.clone(),
                stop: stop.clone(),
                round,
                pause,
            };
            #[allow(clippy::disallowed_methods, reason = "tests may spawn their callers")]
            tokio::spawn(caller.call(objects))
        });
        let load = Self {
            callers: callers.collect(),
            stop,
            rounds,
            shared,
            gate,
        };
        load.goes_round().await;
        load
    }

    /// Waits until each object has been called again, and has answered.
    pub async fn goes_round(&self) {
        let counts = || {
            self.rounds
                .iter()
                .map(|round| round.load(Ordering::Relaxed))
        };
        let before: Vec<u64> = counts().collect();
        until("every caller goes round", async || {
            let behind = counts()
                .zip(&before)
                .filter(|(now, before)| *now < **before + 2);
            match behind.count() {
                0 => Ok(()),
                behind => Err(format!("{behind} callers do not")),
            }
        })
        .await;
    }

    /// Ends the load, and returns what came of the calls to each object. No call may have failed, nothing may be
    /// lost or have run twice.
    ///
    /// # Panics
    ///
    /// If that is not so.
    pub async fn end_unharmed(self) -> Vec<Called> {
        let (gate, shared) = (self.gate.renewed(), self.shared.clone());
        let called = self.end().await;
        let harmed: Vec<&Called> = called.iter().filter(|called| called.is_harmed()).collect();
        assert!(harmed.is_empty(), "{harmed:#?}");
        let acknowledged: i64 = called.iter().map(|called| called.shared).sum();
        assert_eq!(gate.total(&shared).await, Ok(acknowledged), "{shared}");
        for Called { object, total, .. } in &called {
            assert_eq!(gate.total(object).await, Ok(*total), "{object}");
        }
        called
    }

    /// Ends the load, and returns what came of the calls to each object, by its shard. No answer may
    /// be wrong, though calls may have failed and objects begun anew.
    ///
    /// # Panics
    ///
    /// If an answer was wrong.
    pub async fn end(self) -> Vec<Called> {
        self.stop.store(true, Ordering::Relaxed);
        let called = join_all(self.callers).await.into_iter();
        let called = called.flat_map(|called| called.expect("no panic"));
        let called: BTreeMap<u32, Called> = called.map(|called| (called.shard, called)).collect();
        let wrong: Vec<&Called> = called
            .values()
            .filter(|called| !called.wrong.is_empty())
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        called.into_values().collect()
    }
}

impl Called {
    fn nothing(name: &str, shard: u32) -> Self {
        let (object_type, stored) = TYPES[shard as usize % TYPES.len()];
        Self {
            object: format!("{object_type}/shard%23{shard}%2F{name}"),
            shard,
            total: 0,
            doubtful: 0,
            failed: Vec::new(),
            stored,
            answered: 0,
            longest: Duration::ZERO,
            waits_since: None,
            lives: 1,
            wrong: Vec::new(),
            shared: 0,
        }
    }

    /// Whether a caller saw anything of what happened.
    pub fn is_harmed(&self) -> bool {
        !self.failed.is_empty() || self.lives > 1
    }

    /// Takes in that a call was made, and whether it was answered.
    fn wait(&mut self, began: Instant, ended: Instant, answered: bool) {
        let since = *self.waits_since.get_or_insert(began);
        if answered {
            self.answered += 1;
            self.longest = self.longest.max(ended - since);
            self.waits_since = None;
        }
    }

    /// Takes in the answer to adding 1: one more than before, or as many more as calls are in doubt.
    /// An object that has begun anew answers with what it counted since.
    fn take(&mut self, answer: Result<i64, Failure>) {
        let saved = if self.stored { self.total } else { 0 };
        match answer {
            Ok(total) if (self.total + 1..=self.total + 1 + self.doubtful).contains(&total) => {
                (self.total, self.doubtful) = (total, 0);
            }
            Ok(total) if (1..=saved + 1 + self.doubtful).contains(&total) => {
                self.lives += 1;
                (self.total, self.doubtful) = (total, 0);
            }
            Ok(total) => {
                let told = format!(
                    "{total} after {} and {} in doubt",
                    self.total, self.doubtful
                );
                self.wrong.push(told);
                self.total = total;
            }
            Err(failure) => {
                self.doubtful += i64::from(failure.may_have_run);
                self.failed.push(failure.told);
            }
        }
    }
}

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    may_have_run: bool,
    told: String,
}

struct Caller {
    gate: Gate,
    shared: String,
    stop: Arc<AtomicBool>,
    round: Arc<AtomicU64>,
    pause: Duration,
}

impl Caller {
    async fn call(mut self, mut objects: Vec<Called>) -> Vec<Called> {
        while !self.stop.load(Ordering::Relaxed) {
            self.gate = self.gate.renewed();
            for called in &mut objects {
                let began = Instant::now();
                let answer = self.gate.add_one(&called.object).await;
                called.wait(began, Instant::now(), answer.is_ok());
                called.take(answer);
                if !self.pause.is_zero() {
                    sleep(self.pause).await;
                }
            }
            match self.gate.add_one(&self.shared).await {
                Ok(_) => objects[0].shared += 1,
                Err(Failure { told, .. }) => {
                    let told = format!("{}: {told}", self.shared);
                    objects[0].failed.push(told);
                }
            }
            self.round.fetch_add(1, Ordering::Relaxed);
        }
        objects
    }
}

/// The node that callers call through.
#[derive(Clone, Debug)]
struct Gate {
    url: String,
    client: Client,
}

impl Gate {
    fn at(address: &str, client: &Client) -> Self {
        Self {
            url: client.url(address, "/v1/objects"),
            client: client.clone(),
        }
    }

    /// Returns one that shows the certificates of now, if it shows any.
    fn renewed(&self) -> Self {
        Self {
            url: self.url.clone(),
            client: self.client.renewed(),
        }
    }

    async fn add_one(&self, object: &str) -> Result<i64, Failure> {
        self.call(object, "add", &json!({ "n": 1 })).await
    }

    async fn total(&self, object: &str) -> Result<i64, Failure> {
        self.call(object, "total", &json!({})).await
    }

    async fn call(&self, object: &str, method: &str, body: &Value) -> Result<i64, Failure> {
        let unanswered = |error: NoAnswer| Failure {
            may_have_run: true,
            told: error.to_string(),
        };
        let url = format!("{}/{object}/{method}", self.url);
        let answer = self.client.post(&url, body, &[]).await;
        let answer = answer.map_err(unanswered)?.body;
        answer.as_i64().ok_or_else(|| Failure {
            may_have_run: answer["outcome"] != "not_run",
            told: answer.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(may_have_run: bool) -> Result<i64, Failure> {
        Err(Failure {
            may_have_run,
            told: String::new(),
        })
    }

    fn told(answers: impl IntoIterator<Item = Result<i64, Failure>>) -> Called {
        let mut called = Called::nothing("x", 2); // It is not saved.
        answers.into_iter().for_each(|answer| called.take(answer));
        called
    }

    #[test]
    fn answers_that_count_on_are_right_and_others_are_wrong() {
        let called = told([Ok(1), Ok(2), Ok(3)]);
        assert!(called.wrong.is_empty() && !called.is_harmed());
        assert_eq!(told([Ok(1), Ok(3)]).wrong.len(), 1, "one ran twice");
        assert_eq!(told([Ok(1), Ok(2), Ok(2)]).wrong.len(), 1, "one is lost");
        assert_eq!(told([Ok(2)]).wrong.len(), 1, "nobody else calls");
    }

    #[test]
    fn what_may_have_run_may_count_and_what_did_not_may_not() {
        let either = [Ok(2), Ok(3)].map(|last| told([Ok(1), failed(true), last]));
        assert!(either.iter().all(|called| called.wrong.is_empty()));
        assert_eq!(told([Ok(1), failed(false), Ok(3)]).wrong.len(), 1);
        assert!(told([Ok(1), failed(false), Ok(2)]).is_harmed());
    }

    #[test]
    fn what_begins_anew_has_another_life() {
        let called = told([Ok(1), Ok(2), Ok(3), failed(true), Ok(2), Ok(3)]);
        assert_eq!((called.lives, called.total), (2, 3));
        assert!(called.wrong.is_empty());
        let mut saved = Called::nothing("x", 3);
        for total in [1, 2, 3, 2] {
            saved.take(Ok(total));
        }
        assert_eq!((saved.lives, saved.wrong.len()), (2, 0));
        assert!(saved.is_harmed());
    }
}
