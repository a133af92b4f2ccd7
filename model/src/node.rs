//! What a process decides, by the real code, and what it sends, as the reconciler does.

use steading::ids::Revision;
use steading::placement::Parcel;
use steading::placement::ownership::{Ending, Facts, Newest, Phase, Shipment, Step, Wish};

use crate::known::{Event, Known, Life, Plan, Value};
use crate::rules::Broken;
use crate::store::{Item, Kind, Txn};
use crate::world::{Bounds, World};

#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Process {
    /// Whose name it bears, and in which life it believes to be.
    pub(crate) name: usize,
    pub(crate) life: Option<u64>,
    pub(crate) fence_open: bool,
    pub(crate) known: Known,
    pub(crate) shards: Vec<Local>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Local {
    pub(crate) phase: Phase,
    /// The objects in memory, if any, and whether they are the newest there are.
    pub(crate) objects: Option<bool>,
    /// What was sent here, and whether it is the newest.
    pub(crate) staged: Option<(Parcel, bool)>,
    /// The last attempt to send it from here. Two numbers are enough, for no older one matters.
    pub(crate) attempt: u128,
}

impl World {
    /// Returns every step that a process may take next, whatever its plan says.
    pub(crate) fn next_steps(&self, index: usize, shard: usize, bounds: Bounds) -> Vec<Step> {
        let mut distinct = Vec::new();
        for step in self.steps(index, shard, bounds).into_iter().flatten() {
            if !distinct.contains(&step) {
                distinct.push(step);
            }
        }
        distinct
    }

    /// Takes every step that needs no right to write, whatever the plan. The reconciler does so
    /// before it takes in anything else.
    pub(crate) fn take_local_steps(&mut self, bounds: Bounds) {
        for index in 0..self.processes.len() {
            for shard in 0..bounds.shards {
                while let Some(step) = self.local_step(index, shard, bounds) {
                    self.begin(index, shard, step, bounds);
                }
            }
        }
    }

    fn local_step(&self, index: usize, shard: usize, bounds: Bounds) -> Option<Step> {
        let steps = self.steps(index, shard, bounds);
        let step = (*steps.first()?)?;
        let is_local = matches!(step, Step::Open(_) | Step::LetGo | Step::Discard);
        (is_local && steps.iter().all(|other| *other == Some(step))).then_some(step)
    }

    /// Returns the next step under each plan.
    pub(crate) fn steps(&self, index: usize, shard: usize, bounds: Bounds) -> Vec<Option<Step>> {
        let process = &self.processes[index];
        let phase = process.shards[shard].phase;
        let me = process.life.map(|life| (process.name, life));
        let facts = me.map(|me| process.known.facts(shard, me));
        let facts = facts.into_iter().flatten();
        facts
            .map(|(_, facts)| next_step(phase, facts, bounds.broken))
            .collect()
    }

    /// Returns the next step under one plan.
    pub(crate) fn step_under(
        &self,
        plan: Plan,
        index: usize,
        shard: usize,
        bounds: Bounds,
    ) -> Option<Step> {
        let process = &self.processes[index];
        let me = (process.name, process.life?);
        let mut facts = process.known.facts(shard, me).into_iter();
        let (_, facts) = facts.find(|(of, _)| *of == plan)?;
        next_step(process.shards[shard].phase, facts, bounds.broken)
    }

    /// Returns how the host's work under way may end, or what was sent get too old, the best first.
    pub(crate) fn endings(&self, index: usize, shard: usize) -> Vec<Ending> {
        let process = &self.processes[index];
        let local = &process.shards[shard];
        match local.phase {
            Phase::Closing(_) => vec![Ending::Closed, Ending::Overdue],
            Phase::Sending(at, to) => {
                let mut endings = vec![Ending::Undelivered];
                let parcel = match local.objects {
                    None => Parcel::empty(at),
                    Some(_) => Parcel {
                        revision: at,
                        attempt: local.attempt,
                    },
                };
                let mut others = self.processes.iter();
                if others.any(|other| other.life == Some(to.get())) {
                    endings.insert(0, Ending::Sent(parcel));
                }
                endings
            }
            Phase::Sent(_, _) => vec![Ending::Undelivered],
            Phase::Ending(_) => vec![Ending::Ended],
            Phase::Idle
            | Phase::Claiming
            | Phase::Open(_)
            | Phase::Closed(_)
            | Phase::HandingOver(_, _)
            | Phase::Undeliverable(_)
            | Phase::Ended(_)
            | Phase::Releasing(_)
            | Phase::Unresolved(_)
            | Phase::Restamping(_) => Vec::new(),
        }
    }

    pub(crate) fn watch(&mut self, index: usize, bounds: Bounds) {
        let Some(event) = self.next_event(index) else {
            return;
        };
        // All changes of one revision come together.
        let revision = event.revision();
        let mut events = self.events.clone();
        events.retain(|event| event.revision() == revision);
        let known = &mut self.processes[index].known;
        known.watch(revision, events, bounds.broken);
    }

    /// Takes the steps of some shards, which go into one transaction if they are sent at all.
    pub(crate) fn step(&mut self, index: usize, steps: &[(usize, Step)], bounds: Bounds) {
        let process = &self.processes[index];
        let me = (
            process.name,
            process.life.expect("only the living take steps"),
        );
        let mut items = Vec::new();
        let mut proof = None;
        for (shard, step) in steps {
            if is_sent(*step) {
                let (item, needs) = self.item(index, *shard, *step, me);
                items.push(item);
                proof = needs;
            }
        }
        for (shard, step) in steps {
            let before = self.processes[index].shards[*shard].phase;
            self.begin(index, *shard, *step, bounds);
            let runs_on = before.is_open() && bounds.broken == Broken::HandOverWhileOpen;
            if runs_on && is_sent(*step) {
                self.processes[index].shards[*shard].phase = before;
            }
        }
        if !items.is_empty() {
            self.txns.push(Txn {
                from: (index, me),
                proof,
                items,
            });
        }
    }

    pub(crate) fn item(
        &self,
        index: usize,
        shard: usize,
        step: Step,
        me: Life,
    ) -> (Item, Option<(usize, Option<u64>)>) {
        let (kind, proof) = self.kind_of(index, shard, step);
        let (guard, owner, parcel) = match step {
            Step::Claim => (0, Some(me), None),
            Step::TakeOver(at) => (at.get(), Some(me), None),
            Step::HandOver(at, shipment) => {
                let (node, life) = proof.expect("a target");
                let to = life.map(|life| (node, life));
                (at.get(), to, Some(shipment.parcel))
            }
            Step::Restamp(at) => (at.get(), Some(me), Some(Parcel::empty(at))),
            Step::Release(at) => (at.get(), None, None),
            Step::Open(_)
            | Step::Close(_)
            | Step::SendAhead(_, _)
            | Step::End(_)
            | Step::LetGo
            | Step::Discard => unreachable!("{step:?} is no transaction"),
        };
        let item = Item {
            shard,
            kind,
            guard,
            owner,
            parcel,
            awaited: true,
        };
        (item, proof)
    }

    /// Returns what kind of transaction a step is, and in which life which other node must be.
    pub(crate) fn kind_of(
        &self,
        index: usize,
        shard: usize,
        step: Step,
    ) -> (Kind, Option<(usize, Option<u64>)>) {
        let known = &self.processes[index].known;
        match step {
            Step::Claim => (Kind::Claim, None),
            Step::TakeOver(_) => {
                // An earlier life of this very node is over if this one lives.
                let owner = known.owner(shard).owner;
                let other = owner.filter(|(node, _)| *node != self.processes[index].name);
                let proof = other.map(|(node, _)| (node, known.life(node)));
                (Kind::TakeOver, proof)
            }
            Step::HandOver(_, Shipment { to, .. }) => {
                let mut nodes = 0..self.store.lives.len();
                let node = nodes.find(|node| known.life(*node) == Some(to.get()));
                (Kind::HandOver, node.map(|node| (node, Some(to.get()))))
            }
            Step::Restamp(_) => (Kind::Restamp, None),
            Step::Release(_) => (Kind::Release, None),
            Step::Open(_)
            | Step::Close(_)
            | Step::SendAhead(_, _)
            | Step::End(_)
            | Step::LetGo
            | Step::Discard => unreachable!("{step:?} is no transaction"),
        }
    }

    pub(crate) fn begin(&mut self, index: usize, shard: usize, step: Step, bounds: Bounds) {
        match step {
            Step::Open(at) => self.open(index, shard, at, bounds),
            Step::LetGo => self.let_go(index, shard, bounds),
            Step::Discard => self.processes[index].shards[shard].objects = None,
            Step::SendAhead(_, _) => {
                let local = &mut self.processes[index].shards[shard];
                local.attempt = 1 + local.attempt % 2;
            }
            Step::Claim
            | Step::TakeOver(_)
            | Step::Close(_)
            | Step::HandOver(_, _)
            | Step::End(_)
            | Step::Release(_)
            | Step::Restamp(_) => {}
        }
        self.processes[index].shards[shard].phase = Phase::after_start(step);
        // What ends from now on is the end of something older.
        self.await_nothing(index, |of| of == shard);
    }

    fn await_nothing(&mut self, index: usize, which: impl Fn(usize) -> bool) {
        let txns = self.txns.iter_mut().filter(|txn| txn.from.0 == index);
        let replies = self.replies.iter_mut().filter(|reply| reply.to.0 == index);
        let items = txns.flat_map(|txn| &mut txn.items);
        let replied = replies.flat_map(|reply| reply.items.iter_mut().map(|(item, _)| item));
        for item in items.chain(replied).filter(|item| which(item.shard)) {
            item.awaited = false;
        }
    }

    pub(crate) fn resume(&mut self, index: usize, bounds: Bounds) {
        let process = &mut self.processes[index];
        process.fence_open = true;
        for (shard, value) in self.store.values.iter().enumerate() {
            let is_known_absent = process.known.owner(shard).owner.is_none();
            match value.owner {
                Some(_) => process.known.learn(shard, *value, bounds.broken),
                None if is_known_absent => {}
                None => {
                    let absent = Value {
                        revision: self.store.revision,
                        ..Value::default()
                    };
                    process.known.learn(shard, absent, bounds.broken);
                }
            }
        }
    }

    pub(crate) fn die(&mut self, index: usize, bounds: Bounds) {
        let process = &mut self.processes[index];
        if self.store.lives[process.name] == process.life {
            self.troubles += 1;
        }
        (process.life, process.fence_open) = (None, false);
        if bounds.broken == Broken::ObjectsOutliveLease {
            return;
        }
        for local in &mut process.shards {
            *local = Local::default();
        }
        if bounds.broken != Broken::ReplyOfEarlierLife {
            self.await_nothing(index, |_| true);
        }
    }

    pub(crate) fn join(&mut self, index: usize) {
        self.store.revision += 1;
        let (name, life) = (self.processes[index].name, self.store.revision);
        self.store.lives[name] = Some(life);
        self.events.push(Event::Node(name, Some(life), life));
        let process = &mut self.processes[index];
        (process.life, process.fence_open) = (Some(life), true);
    }
}

pub(crate) fn is_sent(step: Step) -> bool {
    match step {
        Step::Claim
        | Step::TakeOver(_)
        | Step::HandOver(_, _)
        | Step::Release(_)
        | Step::Restamp(_) => true,
        Step::Open(_)
        | Step::Close(_)
        | Step::SendAhead(_, _)
        | Step::End(_)
        | Step::LetGo
        | Step::Discard => false,
    }
}

/// The real decision, but for what is broken.
pub(crate) fn next_step(phase: Phase, mut facts: Facts, broken: Broken) -> Option<Step> {
    if broken == Broken::ProofOfDeath && facts.newest == Newest::Other {
        facts.newest = Newest::Gone;
    }
    let step = phase.next_step(facts);
    match (broken, phase, step) {
        (Broken::ReadReopens, Phase::Unresolved(at), Some(Step::Restamp(_)))
            if facts.newest.is_me() =>
        {
            Some(Step::Open(at))
        }
        (Broken::DoubtStays, Phase::Unresolved(_), Some(Step::Restamp(_))) => None,
        (Broken::HandOverWhileOpen, Phase::Closing(at), None) => match facts.wish {
            Wish::There(to) => {
                let parcel = Parcel::empty(at);
                Some(Step::HandOver(at, Shipment { to, parcel }))
            }
            Wish::Here | Wish::Anywhere | Wish::Nowhere => None,
        },
        (Broken::ParcelPassedBy, Phase::Idle, Some(Step::Open(at))) => match facts.wish {
            Wish::There(to) => Some(Step::SendAhead(at, to)),
            Wish::Here | Wish::Anywhere | Wish::Nowhere => step,
        },
        (Broken::AnyOwnNewsKeepsObjects, _, Some(Step::LetGo)) if facts.newest.is_me() => {
            Some(Step::Open(facts.revision))
        }
        (_, _, step) => step,
    }
}

/// The real phase after an ending, but for what is broken.
pub(crate) fn after_end(phase: Phase, ending: Ending, stored: Value, bounds: Bounds) -> Phase {
    match (bounds.broken, phase, ending) {
        (Broken::UnknownReleaseIsFailure, Phase::Releasing(at), Ending::Unknown) => {
            Phase::Ended(at)
        }
        (Broken::UnknownHandOverIsFailure, Phase::HandingOver(at, shipment), Ending::Unknown) => {
            Phase::Sent(at, shipment)
        }
        (Broken::UnknownHandOverIsSuccess, Phase::HandingOver(_, _), Ending::Unknown) => {
            Phase::Idle
        }
        (Broken::UnknownClaimIsSuccess, Phase::Claiming, Ending::Unknown) => {
            Phase::Open(Revision::new(stored.revision))
        }
        // What was sent too early ends while turns run, or have ended meanwhile.
        (
            Broken::HandOverWhileOpen,
            Phase::Open(_) | Phase::Closing(_) | Phase::Closed(_) | Phase::Sending(_, _),
            _,
        ) => phase,
        (_, phase, ending) => phase.after_end(ending),
    }
}
