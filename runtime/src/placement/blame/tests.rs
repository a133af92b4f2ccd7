//! Evidence in a few letters: shards by number, nodes by letter.

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::ids::{Revision, ShardCount};
use crate::placement::{ClusterMeta, News, NodeRecord, OwnerRecord};

const MINUTE: Duration = Duration::from_mins(1);

#[test]
fn a_shard_noted_at_two_deaths_is_quarantined() {
    let mut world = World::new();
    world.die("a", &[1]);
    assert_eq!((world.deaths(1), world.is_quarantined(1)), (2, false));
    world.die("b", &[1]);
    assert!(world.is_quarantined(1));
    assert_eq!(world.deaths(0), 0, "its neighbour is innocent");
}

#[test]
fn a_death_without_a_note_blames_nothing() {
    let mut world = World::new();
    world.own(1, "a");
    for name in ["a", "b", "c"] {
        world.view.apply(News::Node(node(name), None));
        assert!(world.judge().is_empty());
    }
}

#[test]
fn prime_suspects_that_die_together_share_no_blame() {
    let mut world = World::new();
    world.die("a", &[1, 2]);
    world.die("b", &[1, 2]);
    assert_eq!((world.deaths(1), world.deaths(2)), (2, 2));
    world.die("c", &[2]);
    assert!(!world.is_quarantined(1) && world.is_quarantined(2));
}

#[test]
fn a_newcomer_in_the_note_does_not_shield_the_prime_suspect() {
    let mut world = World::new();
    world.die("a", &[1]);
    world.die("b", &[1, 3]);
    assert!(world.is_quarantined(1));
    assert_eq!((world.deaths(3), world.is_quarantined(3)), (2, false));
}

#[test]
fn a_live_node_is_not_judged() {
    let mut world = World::new();
    world.note("a", &[1], &[]);
    assert!(world.judge().is_empty());
    assert!(!awaits_verdict(&world.view, shard(1)));
}

#[test]
fn nobody_claims_what_awaits_a_verdict() {
    let mut world = World::new();
    world.own(1, "a");
    world.own(2, "a");
    world.note("a", &[1], &[]);
    world.view.apply(News::Node(node("a"), None));
    assert!(awaits_verdict(&world.view, shard(1)));
    assert!(!awaits_verdict(&world.view, shard(2)));
    world.apply();
    assert!(!awaits_verdict(&world.view, shard(1)));
}

#[test]
fn a_quarantine_ends_and_doubles() {
    let mut world = World::new();
    world.die("a", &[1]);
    world.die("b", &[1]);
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        world.now += MINUTE * (minutes - 1) + Duration::from_secs(59);
        let verdicts = world.judge();
        assert!(verdicts.is_empty(), "{minutes} min are not over");
        assert_eq!(verdicts.next_at, Some(world.now + Duration::from_secs(1)));
        world.now += Duration::from_secs(1);
        world.apply();
        assert!(!world.is_quarantined(1));
        world.join("d");
        world.die("d", &[1]);
        assert!(world.is_quarantined(1), "one death is enough then");
    }
}

#[test]
fn a_suspect_that_survives_is_cleared() {
    let mut world = World::new();
    world.die("a", &[1]);
    world.own(1, "b");
    world.note("b", &[], &[1, 2]);
    world.apply();
    assert_eq!(world.target(1).suspicion, None);
    world.die("c", &[1]);
    assert_eq!(world.deaths(1), 2, "it begins anew");
}

#[test]
fn only_the_owner_clears_a_suspect() {
    let mut world = World::new();
    world.die("a", &[1]);
    world.own(1, "c");
    world.note("b", &[], &[1]);
    world.apply();
    assert_eq!(world.deaths(1), 2);
}

#[test]
fn an_old_suspicion_is_forgotten() {
    let mut world = World::new();
    world.die("a", &[1]);
    assert_eq!(world.judge().next_at, Some(world.now + DEATHS_KEPT));
    world.now += DEATHS_KEPT;
    world.apply();
    assert_eq!(world.target(1).suspicion, None);
}

#[test]
fn a_time_in_the_future_counts_as_now() {
    let mut world = World::new();
    world.die("a", &[1]);
    world.die("b", &[1]);
    world.now -= MINUTE * 30; // A leader whose clock is right follows one whose clock was ahead.
    world.apply();
    assert_eq!(world.target(1).suspicion.map(|s| s.at), Some(world.now));
    world.now += MINUTE;
    world.apply();
    assert!(!world.is_quarantined(1));
}

#[test]
fn too_many_shards_are_not_quarantined() {
    let mut world = World::new();
    for number in [1, 2] {
        world.join("d");
        world.die("d", &[number]);
        world.join("e");
        world.die("e", &[number]);
    }
    assert!(world.is_quarantined(1) && !world.is_quarantined(2));
    world.join("d");
    world.note("d", &[2], &[]);
    world.view.apply(News::Node(node("d"), None));
    assert_eq!(world.judge().spared, 1);
}

#[test]
fn blame_can_be_turned_off() {
    let mut world = World::new();
    world.settings.quarantine_deaths = 0;
    for name in ["a", "b", "c"] {
        world.die(name, &[1]);
    }
    assert_eq!(world.target(1).suspicion, None);
    assert!(
        world.view.activity.is_empty(),
        "notes are deleted all the same"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever dies with whatever note: only shards that were in the notes of two dead nodes are
    /// quarantined, never two for one death, and judging twice changes nothing.
    #[test]
    fn only_noted_shards_are_blamed(
        deaths in prop::collection::vec(prop::collection::btree_set(0_u32..8, 0..4), 0..12),
        pauses in any::<u64>(),
    ) {
        let mut world = World::new();
        world.settings.quarantine_share_max_permille = 1000;
        let mut noted = [0; 8];
        for (number, running) in (0..).zip(&deaths) {
            world.now += MINUTE * u32::try_from(pauses >> (number * 4) & 15).expect("small");
            world.apply();
            let before = world.quarantined();
            world.join("d");
            let running: Vec<u32> = running.iter().copied().collect();
            for shard in &running {
                noted[*shard as usize] += 1;
            }
            world.die("d", &running);
            let after = world.quarantined();
            let new: Vec<_> = after.difference(&before).copied().collect();
            prop_assert!(new.len() <= 1, "{new:?}");
            prop_assert!(new.iter().all(|shard| noted[*shard as usize] >= 2));
            prop_assert!(new.iter().all(|shard| running.contains(shard)));
            prop_assert!(world.judge().is_empty(), "it is judged");
        }
        world.now += MINUTE * 60 * 3;
        world.apply();
        world.now += MINUTE * 60 * 3;
        world.apply();
        prop_assert_eq!(world.quarantined(), BTreeSet::new(), "every quarantine ends");
        prop_assert_eq!(world.judge().next_at, None, "everything is forgotten");
    }

    /// A shard that is noted at each of its owners' deaths is caught at the second note, whatever
    /// else is noted there once.
    #[test]
    fn a_killer_is_caught_by_its_second_note(
        first in prop::collection::btree_set(1_u32..8, 0..7),
        second in prop::collection::btree_set(1_u32..8, 0..7),
    ) {
        let mut world = World::new();
        let with_killer = |others: &BTreeSet<u32>| -> Vec<u32> {
            others.iter().copied().chain([0]).collect()
        };
        world.die("a", &with_killer(&first));
        // A node has one prime suspect at a time in its note.
        let others: BTreeSet<u32> = second.difference(&first).copied().collect();
        world.die("b", &with_killer(&others));
        prop_assert_eq!(world.quarantined(), BTreeSet::from([0]));
    }
}

/// Eight shards, three nodes, and what they noted.
struct World {
    view: ClusterView,
    settings: PlanSettings,
    now: Duration,
    revision: u64,
}

impl World {
    fn new() -> Self {
        let count = ShardCount::new(8).expect("a power of two");
        let mut world = Self {
            view: ClusterView::empty(ClusterMeta::new("test", count)),
            settings: PlanSettings::default(),
            now: Duration::from_secs(1_700_000_000),
            revision: 10,
        };
        for name in ["a", "b", "c"] {
            world.join(name);
        }
        world
    }

    fn join(&mut self, name: &str) {
        self.revision += 1;
        let record = NodeRecord::of(Incarnation::new(self.revision));
        self.view.apply(News::Node(node(name), Some(record)));
    }

    fn incarnation(&self, name: &str) -> Incarnation {
        self.view.nodes[&node(name)].incarnation
    }

    fn own(&mut self, number: u32, name: &str) {
        self.revision += 1;
        let owner = Owner {
            node: node(name),
            incarnation: self.incarnation(name),
        };
        let record = OwnerRecord {
            revision: Revision::new(self.revision),
            owner: Some(owner),
            parcel: None,
        };
        self.view.apply(News::Owner(shard(number), record));
    }

    fn note(&mut self, name: &str, running: &[u32], survived: &[u32]) {
        let shards = |numbers: &[u32]| numbers.iter().map(|number| shard(*number)).collect();
        let note = ActivityNote {
            node: node(name),
            running: shards(running),
            survived: shards(survived),
        };
        let incarnation = self.incarnation(name);
        self.view.apply(News::Activity(incarnation, Some(note)));
    }

    /// Lets a node die with this note, and the leader judge that.
    fn die(&mut self, name: &str, running: &[u32]) {
        self.note(name, running, &[]);
        self.view.apply(News::Node(node(name), None));
        self.apply();
    }

    fn judge(&self) -> Verdicts {
        judge(&self.view, &self.settings, self.now)
    }

    fn apply(&mut self) {
        let verdicts = self.judge();
        for (shard, target) in verdicts.targets {
            self.view.targets.set(shard, target);
        }
        for incarnation in verdicts.judged {
            self.view.apply(News::Activity(incarnation, None));
        }
    }

    fn target(&self, number: u32) -> &Target {
        self.view.targets.get(shard(number))
    }

    fn deaths(&self, number: u32) -> u32 {
        self.target(number)
            .suspicion
            .map_or(0, |suspicion| suspicion.deaths)
    }

    fn is_quarantined(&self, number: u32) -> bool {
        self.target(number).quarantined
    }

    fn quarantined(&self) -> BTreeSet<u32> {
        let targets = self.view.targets.iter();
        let quarantined = targets.filter(|(_, target)| target.quarantined);
        quarantined.map(|(shard, _)| shard.get()).collect()
    }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a letter")
}

fn shard(number: u32) -> ShardId {
    ShardId::new(number, ShardCount::DEFAULT).expect("in range")
}
