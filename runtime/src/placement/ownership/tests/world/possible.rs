//! What may happen next in a world.

use super::{Action, Bounds, Mutation, NOTHING, World};
use crate::ids::{Incarnation, Revision};
use crate::placement::ownership::{Facts, Newest, Phase, Shipment, Step, Wish};

impl World {
    pub(in super::super) fn actions(&self, bounds: Bounds, mutation: Mutation) -> Vec<Action> {
        let mut actions = Vec::new();
        let more_revisions = usize::from(self.next_revision()) <= bounds.revisions;
        for (index, node) in self.nodes.iter().enumerate() {
            if node.view + 1 < usize::from(self.next_revision()) {
                actions.push(Action::Watch(index));
            }
            if node.life == 0 {
                if more_revisions {
                    actions.push(Action::Rejoin(index));
                }
                continue;
            }
            if self.txns.len() < bounds.txns {
                let wishes = self.wishes(index);
                let steps = wishes.map(|wish| self.next_step(index, wish, mutation));
                let mut distinct = Vec::new();
                for step in steps.flatten() {
                    if !distinct.contains(&step) {
                        distinct.push(step);
                    }
                }
                let distinct = distinct.into_iter();
                actions.extend(distinct.map(|step| Action::Step(index, step)));
            }
            let ends = node.endings().iter();
            actions.extend(ends.map(|ending| Action::EndWork(index, *ending)));
            if self.deaths < bounds.deaths && more_revisions {
                actions.push(Action::Die(index));
            }
        }
        for (index, txn) in self.txns.iter().enumerate() {
            if more_revisions && self.replies.len() < bounds.txns {
                actions.push(Action::Apply(index));
            }
            if txn.awaited {
                actions.push(Action::Decline(index));
                actions.push(Action::GiveUp(index));
            }
        }
        for index in 0..self.replies.len() {
            actions.push(Action::Deliver(index));
            actions.push(Action::Lose(index));
        }
        actions
    }

    /// Returns everything that a node may be told to want.
    fn wishes(&self, index: usize) -> impl Iterator<Item = Wish> {
        let lives = self.nodes[index].known.lives.iter().enumerate();
        let others = lives.filter(move |(node, life)| *node != index && **life > 0);
        let there = others.map(|(_, life)| Wish::There(Incarnation::new((*life).into())));
        [Wish::Here, Wish::Anywhere, Wish::Nowhere]
            .into_iter()
            .chain(there)
    }

    fn facts(&self, index: usize, wish: Wish) -> Facts {
        let node = &self.nodes[index];
        let newest = match node.known.owner {
            None => Newest::Nobody,
            Some(owner) if owner == (index, node.life) => match node.known.kept {
                0 => Newest::Me,
                at => Newest::MeOver(Revision::new(at.into())),
            },
            Some((owner, life))
                if usize::from(life) <= node.view && node.known.lives[owner] != life =>
            {
                Newest::Gone
            }
            Some(_) => Newest::Other,
        };
        Facts {
            revision: Revision::new(node.known.owner_revision.into()),
            newest,
            wish,
        }
    }

    pub(in super::super) fn next_step(
        &self,
        index: usize,
        wish: Wish,
        mutation: Mutation,
    ) -> Option<Step> {
        let mut facts = self.facts(index, wish);
        if mutation == Mutation::NoProofOfDeath && facts.newest == Newest::Other {
            facts.newest = Newest::Gone;
        }
        let phase = self.nodes[index].phase;
        if mutation == Mutation::ReadReopens && matches!(phase, Phase::Unresolved(_)) {
            return facts.newest.is_me().then_some(Step::Open(facts.revision));
        }
        let keeps = mutation == Mutation::AnyNewsOfMeKeepsObjects && phase.is_closed();
        if keeps && phase.next_step(facts) == Some(Step::LetGo) && facts.newest.is_me() {
            return Some(Step::Open(facts.revision));
        }
        match (mutation, phase, wish) {
            (Mutation::ReleaseBeforeClosing, Phase::Closing(at), _) => Some(Step::Release(at)),
            (Mutation::HandOverBeforeClosing, Phase::Closing(at), Wish::There(to)) => {
                Some(Step::HandOver(
                    at,
                    Shipment {
                        to,
                        parcel: NOTHING,
                    },
                ))
            }
            (_, phase, _) => phase.next_step(facts),
        }
    }
}
