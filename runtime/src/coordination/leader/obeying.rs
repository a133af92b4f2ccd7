//! How commands and questions of others come in and are answered.
//!
//! Commands wait, in their order, until this node leads on a view that has everything it wrote. One
//! at a time is then drawn up and written; it is answered once that has happened. If the outcome of
//! the write is unknown, the command waits on and is drawn up anew from what is then seen: each says
//! what should be, so that doing it twice is as good as once. Whoever does not lead refuses at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::Leader;
use super::answered::Answered;
use super::commanding::Ordered;
use super::handle::{Ask, Asked, Question};
use super::insight::{Insight, WaitingMove};
use super::waves::is_held;
use super::writing::Written;
use crate::coordination::commands::{Refusal, RefusalCode};
use crate::coordination::membership::Identity;
use crate::ids::ShardId;
use crate::placement::planner::{self, InFlight, PlanSettings, Planning, Strategy};
use crate::placement::{ClusterView, checker};

/// Commands that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Asks(VecDeque<Ask>);

impl Asks {
    /// Most that wait.
    const LEN_MAX: usize = 64;

    fn push(&mut self, ask: Ask) {
        self.0.retain(|ask| !ask.answer.is_closed());
        if self.0.len() < Self::LEN_MAX {
            self.0.push_back(ask);
        } else {
            ask.refuse(Refusal::new(RefusalCode::Busy, "too many commands wait"));
        }
    }

    /// Returns the next one that somebody still waits for.
    fn next(&mut self) -> Option<Ask> {
        let now = Instant::now();
        std::iter::from_fn(|| self.0.pop_front())
            .find(|ask| ask.until > now && !ask.answer.is_closed())
    }

    /// Refuses all of them.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal) {
        self.0.drain(..).for_each(|ask| ask.refuse(refusal.clone()));
    }
}

impl Ask {
    fn refuse(self, refusal: Refusal) {
        // Whoever does not wait any more need not know.
        let _ = self.answer.send(Err(refusal));
    }
}

impl Leader {
    /// Takes in what somebody asks.
    pub(super) fn take_in(&mut self, asked: Asked) {
        match asked {
            Asked::Command(ask) => self.asks.push(ask),
            Asked::Question(Question { shard, answer }) => {
                let _ = answer.send(self.insight(shard));
            }
        }
    }

    /// Refuses every command that waits, since this node does not lead.
    pub(super) fn refuse_commands(&mut self, view: &ClusterView) {
        let leader = view.leader.as_ref().map(|leader| leader.node.clone());
        self.asks.refuse_all(&Refusal::not_leader(leader));
    }

    /// Carries the next command out, and returns whether that wrote something, so that the view is
    /// behind.
    pub(super) async fn obey_next(&mut self, view: &Arc<ClusterView>, me: &Identity) -> bool {
        while let Some(ask) = self.asks.next() {
            match self.obey(&ask, view, me) {
                Err(refusal) => ask.refuse(refusal),
                Ok(Answered { draft, done, .. })
                    if !draft.changes_the_cluster() && !done.changed =>
                {
                    let _ = ask.answer.send(Ok(done));
                }
                Ok(answered) => {
                    // What was not settled before is still to be planned.
                    let settles = answered.is_all() && self.is_settled(view);
                    let expected = settles.then(|| answered.draft.view_after());
                    let Answered { draft, done, .. } = answered;
                    let now = self.parts.clock.now();
                    let records = draft.book.due(now);
                    info!(command = ask.command.name(), via = %ask.via, "an operator's command");
                    match self.write(draft, &records, view, me).await {
                        Written::Yes => {
                            self.settled = expected.map(Arc::new);
                            let _ = ask.answer.send(Ok(done));
                        }
                        Written::No => self.asks.0.push_front(ask),
                    }
                    return true;
                }
            }
        }
        false
    }

    fn obey<'v>(
        &self,
        ask: &Ask,
        view: &'v Arc<ClusterView>,
        me: &Identity,
    ) -> Result<Answered<'v>, Refusal> {
        let book = self.reign.as_ref().and_then(|reign| reign.book.as_ref());
        let (Some(reign), Some(book)) = (&self.reign, book) else {
            return Err(Refusal::not_leader(None));
        };
        let now = self.parts.clock.now();
        let deciding = self.deciding(view, reign, book, me, now);
        let ask_planner = |commands: &BTreeMap<ShardId, planner::Command>,
                           strategy: Option<Strategy>| {
            let settings = PlanSettings {
                strategy: strategy.unwrap_or(self.parts.settings.strategy),
                ..self.parts.settings.clone()
            };
            let planning = Planning {
                view,
                changed: self.changes.times(),
                loads: &self.parts.loads.borrow(),
                in_flight: &InFlight::all_of(view),
                commands,
                memory: &self.memory,
                settings: &settings,
                now,
            };
            let plan = planner::plan(planning);
            let least = checker::least_moves(&planning, &plan);
            (plan, u32::try_from(least).unwrap_or(u32::MAX))
        };
        deciding.obey(&Ordered {
            command: &ask.command,
            via: &ask.via,
            ask: &ask_planner,
        })
    }

    fn insight(&self, shard: Option<ShardId>) -> Result<Insight, Refusal> {
        let view = self.news.borrow().clone();
        let book = self.reign.as_ref().and_then(|reign| reign.book.as_ref());
        let (Some(reign), Some(book)) = (&self.reign, book) else {
            let leader = view.leader.as_ref().map(|leader| leader.node.clone());
            return Err(Refusal::not_leader(leader));
        };
        let now = self.parts.clock.now();
        let waiting = shard.and_then(|shard| {
            let mut waiting: Vec<_> = book.pending().collect();
            waiting.sort_by_key(|(plan, step)| (*plan, step.reason, step.shard));
            let place = waiting.iter().position(|(_, step)| step.shard == shard)?;
            let (plan, step) = waiting[place];
            Some(WaitingMove {
                plan,
                to: step.to.clone(),
                reason: step.reason,
                before: u32::try_from(place).unwrap_or(u32::MAX),
                paused: is_held(step.reason, &view),
            })
        });
        let flight = shard.and_then(|shard| reign.flights.get(shard));
        Ok(Insight {
            waiting,
            under_way: flight.map(|flight| now.since(flight.since)),
            excluded: self.stuck.excluded(now),
            advice: self.advice.iter().map(ToString::to_string).collect(),
            again_in: self
                .again_at
                .map(|at| at.since(now))
                .filter(|left| *left > Duration::ZERO),
        })
    }
}
