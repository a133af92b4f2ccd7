//! What becomes of a world that is left alone: every shard ends up open at its target.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::action::Action;
use crate::known::Plan;
use crate::world::{Bounds, World};

/// Rounds in which a world must settle: learned, resolved, restamped, opened, closed, sent, handed
/// over and opened, each of which may take two.
const ROUNDS: usize = 24;

/// Whether every shard is open at node 0 once nothing goes wrong any more and everybody agrees
/// that it should be.
pub(crate) fn settles(bounds: Bounds, world: &World) -> bool {
    if bounds.calms_of == 0 || world.wrong.is_some() {
        return true;
    }
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    if !hasher.finish().is_multiple_of(bounds.calms_of) {
        return true;
    }
    let mut world = world.clone();
    for _ in 0..ROUNDS {
        let before = world.clone();
        round(&mut world, bounds);
        if world == before {
            break;
        }
    }
    (0..bounds.shards).all(|shard| world.serves(0, shard).is_some()) && world.wrong.is_none()
}

fn round(world: &mut World, bounds: Bounds) {
    while !world.txns.is_empty() {
        world.act(bounds, Action::Apply(0));
    }
    while !world.replies.is_empty() {
        world.act(bounds, Action::Deliver(0));
    }
    for index in 0..world.processes.len() {
        while world.next_event(index).is_some() {
            world.act(bounds, Action::Watch(index));
        }
        let process = &world.processes[index];
        let stands = process.life.is_some() && world.store.lives[index] == process.life;
        match (process.life, stands) {
            (Some(_), true) if !process.fence_open => world.act(bounds, Action::Resume(index)),
            (Some(_), true) => {}
            (Some(_), false) => world.act(bounds, Action::Die(index)),
            (None, _) if world.store.lives[index].is_some() => {
                world.act(bounds, Action::Expire(index));
            }
            (None, _) => world.act(bounds, Action::Join(index)),
        }
        for shard in 0..bounds.shards {
            if let Some(ending) = world.endings(index, shard).first() {
                world.act(bounds, Action::End(index, shard, *ending));
            }
            let step = world.step_under(Plan::At(0), index, shard, bounds);
            if let Some(step) = step {
                world.act(bounds, Action::Step(index, shard, step));
            }
        }
    }
}
