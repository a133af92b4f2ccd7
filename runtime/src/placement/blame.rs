//! Decides which shards crash their owners, from evidence alone.
//!
//! Pure: the same view and time give the same verdicts. The leader writes them.
//!
//! A node that took a shard over from a crashed owner watches it: before it loads an object of that
//! shard, activates it or runs one of its methods for the first time, it writes the shard into its
//! activity note (`coordination::activity`), and takes it out afterwards. The note outlives the
//! node. So when a node dies, its note says which of the shards that had already lost an owner were
//! doing something new at that moment; every other shard is innocent of this death.
//!
//! - A shard that is in the note of a dead node has one more death on its record. The takeover
//!   before counts as its first, although nothing is known about it.
//! - A shard that lacks one death is a prime suspect. A node runs the new work of only one prime
//!   suspect at a time, so a further death blames that one alone. If the note has several, for
//!   example because one called the other, they share no blame.
//! - A blamed shard is quarantined for a time that doubles with each quarantine in a row. Then it
//!   is placed again, as a prime suspect.
//! - A shard that its owner has watched long enough is cleared.
//!
//! Times are wall-clock times of the leaders, since they must survive a change of the leader. A
//! time in the future, written by a leader whose clock is ahead, counts as the present.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::planner::PlanSettings;
use super::{ClusterView, Owner, ShardTable, Target};
use crate::ids::{Incarnation, NodeId, ShardId};

/// How long a death stays on the record of a shard that nobody quarantines or clears.
///
/// Far longer than a rarely called object takes to be called again on its new owner; short enough
/// that unrelated crashes of different days do not add up.
pub const DEATHS_KEPT: Duration = Duration::from_hours(1);

/// Most notes of dead incarnations that are judged at a time, so that one transaction holds the
/// verdicts. The rest is judged with the next view.
pub const NOTES_JUDGED_MAX: usize = 16;

/// How far a leader's clock may be ahead before a time that it wrote is corrected.
const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(5);

/// What is held against a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Suspicion {
    /// How many owners in a row it has lost, the last of them while it did something new there.
    pub deaths: u32,
    /// When the last of them died or it was released, by the leader's wall clock: since 1970 in UTC.
    pub at: Duration,
    /// How many quarantines in a row it has had, the present one included.
    pub quarantines: u32,
}

/// What one incarnation of a node wrote about watched shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivityNote {
    /// The node.
    pub node: NodeId,
    /// The shards that are doing something new right now.
    pub running: BTreeSet<ShardId>,
    /// Suspects that were watched for long enough, and did no harm.
    pub survived: BTreeSet<ShardId>,
}

/// What follows from the evidence of one view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// The new targets of shards whose record changes.
    pub targets: BTreeMap<ShardId, Target>,
    /// The notes of dead incarnations, which are judged with this.
    pub judged: BTreeSet<Incarnation>,
    /// The shards that are put into quarantine, with how long that lasts.
    pub quarantined: Vec<(ShardId, Duration)>,
    /// The shards whose quarantine is over, for now.
    pub released: Vec<ShardId>,
    /// Shards that would be quarantined if fewer were already.
    pub spared: u32,
    /// When something changes by itself, on the clock of `now`.
    pub next_at: Option<Duration>,
}

impl Verdicts {
    /// Whether there is something to write.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.judged.is_empty()
    }
}

impl Suspicion {
    /// Returns what is held against a shard that was taken over, and of which nothing else is known.
    pub fn of_taken_over() -> Self {
        Self {
            deaths: 1,
            at: Duration::ZERO,
            quarantines: 0,
        }
    }

    /// Whether one more death quarantines the shard.
    pub fn is_prime(self, settings: &PlanSettings) -> bool {
        self.deaths + 1 >= deaths_needed(settings)
    }

    /// Returns when a quarantined shard is placed again.
    pub fn released_at(self, settings: &PlanSettings) -> Duration {
        self.at + quarantine_length(self.quarantines, settings)
    }
}

/// Returns how many deaths quarantine a shard. The first tells nothing, so at least two.
fn deaths_needed(settings: &PlanSettings) -> u32 {
    settings.quarantine_deaths.max(2)
}

/// Returns how long the quarantine with this number lasts; they count from one.
pub fn quarantine_length(number: u32, settings: &PlanSettings) -> Duration {
    let doublings = number.saturating_sub(1).min(31);
    let length = settings.quarantine_min.saturating_mul(1 << doublings);
    length.min(settings.quarantine_max.max(settings.quarantine_min))
}

/// Whether a shard's dead owner may have died of it, so that nobody may claim it before the leader
/// has judged that.
pub fn awaits_verdict(view: &ClusterView, shard: ShardId) -> bool {
    let owner = view.owners.get(shard).owner.as_ref();
    owner.is_some_and(|owner| {
        let note = view.activity.get(&owner.incarnation);
        note.is_some_and(|note| note.running.contains(&shard)) && !view.is_live(owner)
    })
}

/// Judges what a view shows, at a moment of the wall clock since 1970.
///
/// Costs some nanoseconds per shard.
pub fn judge(view: &ClusterView, settings: &PlanSettings, now: Duration) -> Verdicts {
    let mut court = Court {
        view,
        settings,
        now,
        targets: view.targets.clone(),
        verdicts: Verdicts::default(),
    };
    for (incarnation, note) in &view.activity {
        court.hear(*incarnation, note);
    }
    court.pass_time();
    let changed = court.targets.changed_since(&view.targets);
    let changed = changed.map(|shard| (shard, court.targets.get(shard).clone()));
    Verdicts {
        targets: changed.collect(),
        ..court.verdicts
    }
}

struct Court<'a> {
    view: &'a ClusterView,
    settings: &'a PlanSettings,
    now: Duration,
    targets: ShardTable<Target>,
    verdicts: Verdicts,
}

impl Court<'_> {
    fn hear(&mut self, incarnation: Incarnation, note: &ActivityNote) {
        let owner = Owner {
            node: note.node.clone(),
            incarnation,
        };
        if self.view.is_live(&owner) {
            let mine = |shard: &&ShardId| self.view.live_owner(**shard) == Some(&owner);
            let survived: Vec<ShardId> = note.survived.iter().filter(mine).copied().collect();
            for shard in survived {
                self.set(shard, |target| Target {
                    suspicion: None,
                    ..target
                });
            }
            return;
        }
        if self.verdicts.judged.len() >= NOTES_JUDGED_MAX {
            return;
        }
        self.verdicts.judged.insert(incarnation);
        if self.settings.quarantine_deaths > 0 {
            self.blame(&note.running);
        }
    }

    /// Holds the death of a node against the shards that were doing something new there.
    fn blame(&mut self, running: &BTreeSet<ShardId>) {
        let (now, needed) = (self.now, deaths_needed(self.settings));
        let running = running.iter().copied();
        let running = running.filter(|shard| !self.targets.get(*shard).quarantined);
        let counted: Vec<(ShardId, Suspicion)> = running
            .map(|shard| {
                let before = self.targets.get(shard).suspicion;
                let before = before.unwrap_or_else(Suspicion::of_taken_over);
                let suspicion = Suspicion {
                    deaths: (before.deaths + 1).min(needed),
                    at: now,
                    ..before
                };
                (shard, suspicion)
            })
            .collect();
        let convicted = |(_, suspicion): &&(ShardId, Suspicion)| suspicion.deaths >= needed;
        let is_alone = counted.iter().filter(convicted).count() == 1;
        for (shard, suspicion) in counted {
            if suspicion.deaths < needed {
                self.suspect(shard, suspicion);
            } else if is_alone && self.has_room() {
                self.quarantine(shard, suspicion);
            } else {
                self.verdicts.spared += u32::from(is_alone);
                let deaths = needed - 1;
                self.suspect(
                    shard,
                    Suspicion {
                        deaths,
                        ..suspicion
                    },
                );
            }
        }
    }

    fn suspect(&mut self, shard: ShardId, suspicion: Suspicion) {
        self.set(shard, |target| Target {
            suspicion: Some(suspicion),
            ..target
        });
    }

    fn quarantine(&mut self, shard: ShardId, suspicion: Suspicion) {
        let quarantines = suspicion.quarantines.saturating_add(1);
        let length = quarantine_length(quarantines, self.settings);
        self.verdicts.quarantined.push((shard, length));
        self.set(shard, |target| Target {
            quarantined: true,
            suspicion: Some(Suspicion {
                quarantines,
                ..suspicion
            }),
            ..target
        });
    }

    /// Whether one more shard may be quarantined. Where many crash their owners, it is not the
    /// shards.
    fn has_room(&self) -> bool {
        let targets = self.targets.iter();
        let quarantined = targets.filter(|(_, target)| target.quarantined).count();
        let all = self.view.meta.shard_count.get() as usize;
        let most = all * self.settings.quarantine_share_max_permille as usize / 1000;
        quarantined < most.max(1)
    }

    /// Ends quarantines, and forgets what is too old.
    fn pass_time(&mut self) {
        let suspects: Vec<(ShardId, Suspicion, bool)> = self
            .targets
            .iter()
            .filter_map(|(shard, target)| Some((shard, target.suspicion?, target.quarantined)))
            .collect();
        for (shard, suspicion, quarantined) in suspects {
            if suspicion.at > self.now + CLOCK_AHEAD_MAX {
                let at = self.now;
                self.suspect(shard, Suspicion { at, ..suspicion });
            }
            let at = suspicion.at.min(self.now);
            let corrected = Suspicion { at, ..suspicion };
            let ends_at = if quarantined {
                corrected.released_at(self.settings)
            } else {
                at + DEATHS_KEPT
            };
            if self.now < ends_at {
                let next = self
                    .verdicts
                    .next_at
                    .map_or(ends_at, |next| next.min(ends_at));
                self.verdicts.next_at = Some(next);
            } else if quarantined {
                self.try_again(shard, suspicion);
            } else {
                self.set(shard, |target| Target {
                    suspicion: None,
                    ..target
                });
            }
        }
    }

    /// Lets the planner place a quarantined shard again.
    fn try_again(&mut self, shard: ShardId, suspicion: Suspicion) {
        self.verdicts.released.push(shard);
        let next = self.now + DEATHS_KEPT;
        self.verdicts.next_at = Some(self.verdicts.next_at.map_or(next, |at| at.min(next)));
        let suspicion = Suspicion {
            deaths: deaths_needed(self.settings) - 1,
            at: self.now,
            ..suspicion
        };
        self.set(shard, |target| Target {
            node: None,
            quarantined: false,
            suspicion: Some(suspicion),
            ..target
        });
    }

    fn set(&mut self, shard: ShardId, change: impl FnOnce(Target) -> Target) {
        let before = self.targets.get(shard);
        let after = change(before.clone());
        if *before != after {
            self.targets.set(shard, after);
        }
    }
}

#[cfg(test)]
mod tests;
