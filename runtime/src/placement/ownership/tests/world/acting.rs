//! What becomes of a world when something happens.

use super::{Action, Kind, Life, Mutation, OwnerNews, Reply, Sent, World, number};
use crate::ids::Revision;
use crate::placement::ownership::{Ending, Phase, Step};

impl World {
    pub(in super::super) fn act(&mut self, action: Action, mutation: Mutation) {
        match action {
            Action::Watch(node) => {
                let view = self.nodes[node].view + 1;
                self.nodes[node].view = view;
                let stored = self.history[view - self.first].clone();
                let news = stored.news();
                self.nodes[node].known.lives = stored.lives;
                self.learn(node, news, mutation);
            }
            Action::Step(node, step) => self.step(node, step, mutation),
            Action::EndWork(node, ending) => {
                let node = &mut self.nodes[node];
                node.phase = node.phase.after_end(ending);
                node.has_objects &= ending != Ending::Ended;
            }
            Action::Apply(index) => self.apply(index, mutation),
            Action::Decline(index) => {
                let txn = self.txns.remove(index);
                self.end(txn.from, Ending::NotSent, mutation);
            }
            Action::GiveUp(index) => {
                self.txns[index].awaited = false;
                self.end(self.txns[index].from, Ending::Unknown, mutation);
            }
            Action::Deliver(index) => self.deliver(index, mutation),
            Action::Lose(index) => {
                let reply = self.replies.remove(index);
                if reply.awaited {
                    self.end(reply.to, Ending::Unknown, mutation);
                }
            }
            Action::Die(node) => self.die(node, mutation),
            Action::Rejoin(node) => {
                let life = self.next_revision();
                let mut stored = self.now().clone();
                stored.lives[node] = life;
                self.history.push_back(stored);
                self.nodes[node].life = life;
            }
        }
        self.txns.sort_unstable();
        self.replies.sort_unstable();
        self.forget_what_all_have_seen();
    }

    fn step(&mut self, index: usize, step: Step, mutation: Mutation) {
        let node = &self.nodes[index];
        let me = (index, node.life);
        let old = node.known.owner;
        let proof_of = |owner: usize| (owner, node.known.lives[owner]);
        let (guard, kind, proof) = match step {
            Step::Claim => (0, Kind::Claim, None),
            Step::TakeOver(at) => {
                let proof = old.map(|(owner, _)| proof_of(owner));
                (number(at), Kind::TakeOver, proof)
            }
            Step::HandOver(at, shipment) => {
                let mut lives = (0..).zip(&node.known.lives);
                let to = lives
                    .find(|(_, life)| u64::from(**life) == shipment.to.get())
                    .map(|(node, life)| (node, *life))
                    .expect("a life that is known");
                (number(at), Kind::HandOver(to.0, to.1), Some(to))
            }
            Step::Restamp(at) => (number(at), Kind::Restamp, None),
            Step::Release(at) => (number(at), Kind::Release, None),
            Step::Open(_)
            | Step::Close(_)
            | Step::SendAhead(_, _)
            | Step::End(_)
            | Step::LetGo
            | Step::Discard => return self.begin(index, step),
        };
        let phase = node.phase;
        self.begin(index, step);
        let runs_on = matches!(
            mutation,
            Mutation::ReleaseBeforeClosing | Mutation::HandOverBeforeClosing
        );
        if runs_on && matches!(phase, Phase::Closing(_)) {
            self.nodes[index].phase = phase;
        }
        self.txns.push(Sent {
            from: me,
            guard,
            proof,
            kind,
            awaited: true,
        });
    }

    fn begin(&mut self, index: usize, step: Step) {
        let node = &mut self.nodes[index];
        node.phase = Phase::after_start(step);
        match step {
            Step::Open(_) => {
                if node.has_objects && self.last_open != index {
                    self.stale = Some(index);
                }
                node.has_objects = true;
                self.last_open = index;
            }
            Step::LetGo | Step::Discard => node.has_objects = false,
            Step::Claim
            | Step::TakeOver(_)
            | Step::Close(_)
            | Step::SendAhead(_, _)
            | Step::HandOver(_, _)
            | Step::End(_)
            | Step::Release(_)
            | Step::Restamp(_) => {}
        }
        // What ends from now on is the end of something older.
        for txn in self.txns.iter_mut().filter(|txn| txn.from.0 == index) {
            txn.awaited = false;
        }
        for reply in self.replies.iter_mut().filter(|reply| reply.to.0 == index) {
            reply.awaited = false;
        }
    }

    fn apply(&mut self, index: usize, mutation: Mutation) {
        let txn = self.txns.remove(index);
        let mut stored = self.now().clone();
        let stands_at = stored.owner.map_or(0, |_| stored.owner_revision);
        let unguarded = match txn.kind {
            Kind::Release => mutation == Mutation::NoGuardInRelease && stored.owner.is_some(),
            Kind::HandOver(_, _) => mutation == Mutation::NoGuardInHandOver,
            Kind::TakeOver => mutation == Mutation::NoGuardInTakeOver,
            Kind::Claim | Kind::Restamp => false,
        };
        let proven = txn
            .proof
            .is_none_or(|(node, life)| stored.lives[node] == life)
            || mutation == Mutation::NoProofOfDeath;
        let alive = stored.lives[txn.from.0] == txn.from.1;
        let committed = alive && proven && (stands_at == txn.guard || unguarded);
        if committed {
            (stored.owner, stored.kept) = match txn.kind {
                Kind::Claim | Kind::TakeOver => (Some(txn.from), 0),
                Kind::HandOver(node, life) => (Some((node, life)), 0),
                Kind::Restamp => (Some(txn.from), txn.guard),
                Kind::Release => (None, 0),
            };
            stored.owner_revision = self.next_revision();
            self.history.push_back(stored);
        }
        let now = self.now();
        let shown = match now.owner {
            // A key that does not exist is known to be absent as of the reply's revision.
            None => OwnerNews {
                revision: self.next_revision() - 1,
                owner: None,
                kept: 0,
            },
            Some(_) => now.news(),
        };
        self.replies.push(Reply {
            to: txn.from,
            committed,
            shown,
            awaited: txn.awaited,
        });
    }

    fn deliver(&mut self, index: usize, mutation: Mutation) {
        let reply = self.replies.remove(index);
        let (node, life) = reply.to;
        if self.nodes[node].life != life {
            return; // A reply to a life that is over counts for nothing.
        }
        let is_somebody = reply.shown.owner.or(self.nodes[node].known.owner).is_some();
        if reply.committed || is_somebody {
            self.learn(node, reply.shown, mutation);
        }
        if reply.awaited {
            let ending = if reply.committed {
                Ending::Committed
            } else {
                Ending::Refused
            };
            self.end(reply.to, ending, mutation);
        }
    }

    fn learn(&mut self, node: usize, news: OwnerNews, mutation: Mutation) {
        let known = &mut self.nodes[node].known;
        if news.revision > known.owner_revision || mutation == Mutation::OldNewsCounts {
            known.owner_revision = news.revision;
            (known.owner, known.kept) = (news.owner, news.kept);
        }
    }

    fn end(&mut self, (node, life): (usize, Life), ending: Ending, mutation: Mutation) {
        let claimed_at = self.now().owner_revision;
        let node = &mut self.nodes[node];
        if node.life != life {
            return;
        }
        node.phase = match (mutation, node.phase, ending) {
            (Mutation::UnknownReleaseIsFailure, Phase::Releasing(at), Ending::Unknown) => {
                Phase::Ended(at)
            }
            (
                Mutation::UnknownHandOverIsFailure,
                Phase::HandingOver(at, shipment),
                Ending::Unknown,
            ) => Phase::Sent(at, shipment),
            (Mutation::UnknownHandOverIsSuccess, Phase::HandingOver(_, _), Ending::Unknown) => {
                Phase::Idle
            }
            (Mutation::UnknownClaimIsSuccess, Phase::Claiming, Ending::Unknown) => {
                Phase::Open(Revision::new(claimed_at.into()))
            }
            // What was sent too early ends while turns run, or have ended meanwhile.
            (
                Mutation::ReleaseBeforeClosing | Mutation::HandOverBeforeClosing,
                phase @ (Phase::Open(_) | Phase::Closing(_) | Phase::Closed(_)),
                _,
            ) => phase,
            (_, phase, ending) => phase.after_end(ending),
        };
    }

    fn die(&mut self, index: usize, mutation: Mutation) {
        let mut stored = self.now().clone();
        stored.lives[index] = 0;
        self.history.push_back(stored);
        self.deaths += 1;
        for txn in self.txns.iter_mut().filter(|txn| txn.from.0 == index) {
            txn.awaited = false;
        }
        for reply in self.replies.iter_mut().filter(|reply| reply.to.0 == index) {
            reply.awaited = false;
        }
        if mutation != Mutation::OpenAfterDeath {
            self.nodes[index].life = 0;
            self.nodes[index].phase = Phase::Idle;
            self.nodes[index].has_objects = false;
        }
    }

    fn forget_what_all_have_seen(&mut self) {
        let seen_by_all = self.nodes.iter().map(|node| node.view).min();
        while seen_by_all.is_some_and(|view| self.first < view) {
            self.history.pop_front();
            self.first += 1;
        }
    }
}
