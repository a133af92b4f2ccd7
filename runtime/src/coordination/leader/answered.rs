//! What a command comes to. Pure.

use super::draft::Draft;
use crate::coordination::commands::Done;
use crate::ids::ShardId;
use crate::placement::Target;
use crate::placement::planner::Plan;

/// What a command comes to: changes to be written, and the answer if they are.
#[derive(Debug)]
pub(super) struct Answered<'v> {
    pub(super) draft: Draft<'v>,
    pub(super) done: Done,
    /// What the planner made of the command, if it was asked.
    pub(super) judged: Option<Plan>,
}

impl Answered<'_> {
    /// Whether the draft is all that the planner wants, now that it knows of the command. Planning a
    /// finished plan changes nothing, so it need not be asked again.
    pub(super) fn is_all(&self) -> bool {
        let Some(plan) = &self.judged else {
            return false;
        };
        let drafted = &self.draft.targets;
        let same = |(shard, target): (&ShardId, &Target)| {
            plan.target(*shard).is_some_and(|wanted| {
                let flags = |target: &Target| (target.pinned, target.quarantined);
                wanted.node == target.node && flags(wanted) == flags(target)
            })
        };
        plan.pending.is_empty()
            && plan.targets.len() == drafted.len()
            && self.draft.orders.is_none()
            && drafted.iter().all(same)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::tests::world::{World, id, shard, step};
    use super::*;
    use crate::placement::planner::Reason;

    /// Whether a draft that moves shard 0 to `b` is all that a planner wants which says this.
    fn is_all(targets: &[(u32, &str)], pending: &str) -> bool {
        let world = World::new("a b", "aaaabbbb", "aaaabbbb");
        let target = |node: &str| Target {
            node: Some(id(node)),
            ..Target::default()
        };
        let mut draft = Draft::new(&world.view, &world.book, SystemTime::UNIX_EPOCH);
        draft.set(shard(0), target("b"), Reason::Manual);
        let targets = targets.iter();
        let plan = Plan {
            targets: targets.map(|(n, to)| (shard(*n), target(to))).collect(),
            pending: pending.split_whitespace().map(step).collect(),
            ..Plan::default()
        };
        let answered = Answered {
            draft,
            done: Done::already("it is so"),
            judged: Some(plan),
        };
        answered.is_all()
    }

    #[test]
    fn a_command_settles_only_if_the_planner_wants_nothing_else() {
        assert!(is_all(&[(0, "b")], ""));
        assert!(!is_all(&[(0, "b"), (5, "a")], ""), "another in return");
        assert!(!is_all(&[(0, "b")], "5:b>a"), "another that waits");
        assert!(!is_all(&[(0, "a")], ""), "the same shard elsewhere");
        assert!(!is_all(&[], ""), "nothing");
    }
}
