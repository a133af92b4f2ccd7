//! As little of a host as a world needs: it knows where the newest objects of each shard are.

use steading::ids::{Incarnation, Revision};
use steading::placement::Parcel;
use steading::placement::ownership::{Ending, Phase};

use crate::rules::Broken;
use crate::world::{Bounds, Forward, World, Wrong};

impl World {
    /// Opens a shard, as the host does, and notes where its newest objects are.
    pub(crate) fn open(&mut self, index: usize, shard: usize, at: Revision, bounds: Bounds) {
        let process = &mut self.processes[index];
        let is_owned = process.life.map(|life| (process.name, life))
            == self.store.values[shard].owner
            && self.store.values[shard].revision == at.get()
            && self.store.lives[process.name] == process.life;
        let local = &mut process.shards[shard];
        let is_new = !local.phase.is_open() && !local.phase.is_closed();
        let parcel = process.known.owner(shard).parcel;
        let parcel = parcel.filter(|parcel| is_new && !parcel.is_empty());
        let staged = local.staged.take();
        if !is_owned {
            // A fence keeps it from serving; what it has is old, or will be.
            local.objects = Some(false);
            return;
        }
        let objects = match (local.objects, parcel, staged) {
            (Some(true), _, _) => Ok(()),
            (Some(false), _, _) => Err("old ones go on"),
            (None, _, Some((_, is_newest))) if bounds.broken == Broken::AnyParcelCounts => {
                is_newest.then_some(()).ok_or("old ones were staged")
            }
            (None, Some(parcel), Some((name, true))) if name == parcel => Ok(()),
            (None, Some(_), _) => Err("what was sent is not there"),
            (None, None, _) if self.is_lost(index, shard) => Err("they are lost"),
            (None, None, _) => Ok(()),
        };
        if let Err(what) = objects {
            self.wrong = Some(Wrong::Objects(what));
        }
        for process in &mut self.processes {
            let local = &mut process.shards[shard];
            local.objects = local.objects.map(|_| false);
            local.staged = local.staged.map(|(parcel, _)| (parcel, false));
        }
        self.processes[index].shards[shard].objects = Some(true);
        self.loaded[shard] = self.loaded[shard].max(at.get());
    }

    /// Whether another living process has the newest objects, though a shard begins with none.
    fn is_lost(&self, index: usize, shard: usize) -> bool {
        let others = (0..self.processes.len()).filter(|other| *other != index);
        others.map(|other| &self.processes[other]).any(|other| {
            let lives = other.life.is_some() && self.store.lives[other.name] == other.life;
            lives && other.shards[shard].objects == Some(true)
        })
    }

    pub(crate) fn let_go(&mut self, index: usize, shard: usize, bounds: Bounds) {
        let process = &mut self.processes[index];
        process.shards[shard].objects = None;
        let value = process.known.owner(shard);
        let Some((to, _)) = value.owner.filter(|(to, _)| *to != index) else {
            return;
        };
        if self.forwards.len() < bounds.forwards {
            self.forwards.push(Forward { to, shard, value });
        }
    }

    pub(crate) fn end_work(&mut self, index: usize, shard: usize, ending: Ending) {
        let local = &mut self.processes[index].shards[shard];
        let (phase, objects) = (local.phase, local.objects);
        local.phase = phase.after_end(ending);
        if ending == Ending::Ended {
            local.objects = None;
        }
        if let (Phase::Sending(_, to), Ending::Sent(parcel), Some(is_newest)) =
            (phase, ending, objects)
        {
            self.stage(shard, to, parcel, is_newest);
        }
    }

    fn stage(&mut self, shard: usize, to: Incarnation, parcel: Parcel, is_newest: bool) {
        let mut processes = self.processes.iter_mut();
        let receiver = processes.find(|process| process.life == Some(to.get()));
        let receiver = receiver.expect("what was delivered has a receiver");
        receiver.shards[shard].staged = Some((parcel, is_newest));
    }
}
