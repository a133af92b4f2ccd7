//! What is wrong with IDs, as far as IDs alone tell (`docs/choosing-ids.md`).
//!
//! Rules of thumb: each says what it saw and shows examples, and some are only notes.

use std::collections::HashMap;

use serde::Serialize;

use super::keys::Keys;
use super::looks;
use super::numbers::{as_f64, short};

/// A lint about looks speaks when at least this part of the IDs looks so, in hundredths.
const LOOKS_PERCENT_MIN: usize = 5;

/// So many IDs are shown with a lint.
const EXAMPLES: usize = 3;

/// From which part of a node's share on one object, or one placement key, is too hot to be balanced:
/// the planner's own measure of a shard that dominates its node.
const DOMINANT: f64 = 0.5;

/// Chance makes nodes differ by more than this part where they have too few keys each.
const CHANCE_MAX: f64 = 0.1;

/// How much a lint weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// It will hurt.
    Warning,
    /// It may be as wanted.
    Note,
}

/// Something about the IDs that hurts, or may.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Lint {
    pub(crate) level: Level,
    /// Its stable name.
    pub(crate) name: &'static str,
    /// How many IDs it is about.
    pub(crate) ids: usize,
    /// What was seen, and what follows.
    pub(crate) says: String,
    /// Some of the IDs.
    pub(crate) examples: Vec<String>,
}

/// What is known of the IDs beside their texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) keys: &'a Keys,
    /// What part of all load goes to each, in their order.
    pub(super) shares: &'a [f64],
    /// How many nodes take shards.
    pub(super) nodes: usize,
}

/// One look: its name, level, test, and what it means.
type Look = (&'static str, Level, fn(&str) -> bool, &'static str);

const LOOKS: [Look; 5] = [
    (
        "status-word",
        Level::Warning,
        looks::is_status,
        "have a word that says how something stands; an ID never changes, and there are few such words",
    ),
    (
        "empty-looking",
        Level::Warning,
        looks::is_nothing,
        "stand for something that is missing; all such callers would share one object",
    ),
    (
        "timestamp",
        Level::Warning,
        looks::has_time,
        "have a date or time; calls go to the newest few objects, and the others are never called again",
    ),
    (
        "mutable-looking",
        Level::Warning,
        looks::is_mutable,
        "are addresses, which people change; with another ID it is another object, without the state",
    ),
    (
        "bound",
        Level::Note,
        is_bound,
        "name a shard or a node themselves; they are not spread, and those of a node die with it",
    ),
];

/// Returns what is wrong with the IDs, warnings first.
pub(super) fn lints(facts: Facts<'_>) -> Vec<Lint> {
    let mut lints: Vec<Lint> = LOOKS
        .iter()
        .filter_map(|look| of_looks(facts.keys, look))
        .collect();
    lints.extend(monotonic(facts.keys));
    lints.extend(look_alikes(facts.keys));
    let groups = Groups::of(facts);
    lints.extend(low_cardinality(facts, &groups));
    lints.extend(hot_key(facts));
    lints.extend(hot_placement_key(facts, &groups));
    lints.sort_by_key(|lint| lint.level);
    lints
}

fn is_bound(id: &str) -> bool {
    id.starts_with("shard#") || id.starts_with("node#")
}

fn of_looks(keys: &Keys, (name, level, looks, says): &Look) -> Option<Lint> {
    let ids = || keys.each.iter().map(|key| key.key.id());
    let count = ids().filter(|id| looks(id)).count();
    // What stands for nothing is wrong even once.
    let is_enough = match *name {
        "empty-looking" => count > 0,
        _ => count > 0 && count * 100 >= keys.len() * LOOKS_PERCENT_MIN,
    };
    is_enough.then(|| Lint {
        level: *level,
        name,
        ids: count,
        says: format!("{count} of {} IDs {says}", keys.len()),
        examples: ids()
            .filter(|id| looks(id))
            .take(EXAMPLES)
            .map(Into::into)
            .collect(),
    })
}

/// Numbers that go up: harmless for placement, since the hash spreads them.
fn monotonic(keys: &Keys) -> Option<Lint> {
    let ends = keys
        .each
        .iter()
        .map(|key| looks::number_at_end(key.key.id()));
    let ends: Vec<(&str, u64)> = ends.collect::<Option<_>>()?;
    let prefix = ends.first()?.0;
    let numbers = || ends.iter().map(|(_, number)| *number);
    let span = numbers().max()? - numbers().min()?;
    let is_dense = ends.len() > 1
        && ends.iter().all(|(text, _)| *text == prefix)
        && span < 2 * ends.len() as u64;
    is_dense.then(|| Lint {
        level: Level::Note,
        name: "monotonic",
        ids: ends.len(),
        says:
            "IDs count up: fine for placement, since the hash spreads them, but anybody can guess \
               the next, and two who count at once give one ID twice"
                .into(),
        examples: examples(keys.each.iter().map(|key| key.key.id())),
    })
}

/// IDs that differ only by case or by blanks at their ends.
fn look_alikes(keys: &Keys) -> Option<Lint> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    let mut alike = Vec::new();
    for key in &keys.each {
        let id = key.key.id();
        if let Some(first) = seen.insert(id.trim().to_lowercase(), id) {
            alike.push(format!("{first:?} and {id:?}"));
        }
    }
    (!alike.is_empty()).then(|| Lint {
        level: Level::Warning,
        name: "look-alike",
        ids: alike.len(),
        says: "IDs differ only by case or blanks: each is an object of its own".into(),
        examples: examples(alike.iter().map(String::as_str)),
    })
}

fn examples<'a>(ids: impl Iterator<Item = &'a str>) -> Vec<String> {
    ids.take(EXAMPLES).map(Into::into).collect()
}

/// The placement keys: what decides about the shard.
struct Groups<'a> {
    /// Each with its IDs, its share of the load, and whether braces name it; in order of the IDs.
    each: Vec<Group<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Group<'a> {
    name: &'a str,
    ids: usize,
    share: f64,
    is_braced: bool,
}

impl<'a> Groups<'a> {
    fn of(facts: Facts<'a>) -> Self {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut each: Vec<Group<'_>> = Vec::new();
        for (key, share) in facts.keys.each.iter().zip(facts.shares) {
            let id = key.key.id();
            let braced = braced(id);
            let name = braced.unwrap_or(id);
            let place = *places.entry(name).or_insert(each.len());
            if place == each.len() {
                each.push(Group {
                    name,
                    ids: 0,
                    share: 0.0,
                    is_braced: braced.is_some(),
                });
            }
            each[place].ids += 1;
            each[place].share += share;
        }
        Self { each }
    }
}

/// Returns the placement key that an ID names in braces, as `ObjectKey::place` reads it.
fn braced(id: &str) -> Option<&str> {
    let (inside, _) = id.split_once('{')?.1.split_once('}')?;
    (!inside.is_empty() && !is_bound(id)).then_some(inside)
}

fn low_cardinality(facts: Facts<'_>, groups: &Groups<'_>) -> Option<Lint> {
    let (keys, nodes) = (groups.each.len(), facts.nodes);
    let chance = (as_f64(nodes as u64) / as_f64(keys as u64)).sqrt();
    (nodes > 1 && chance > CHANCE_MAX).then(|| Lint {
        level: Level::Warning,
        name: "low-cardinality",
        ids: facts.keys.len(),
        says: format!(
            "{keys} placement keys for {nodes} nodes: chance alone makes nodes differ by {} % or so \
             (unless this is a sample of many more)",
            short(chance * 100.0).round()
        ),
        examples: examples(groups.each.iter().map(|group| group.name)),
    })
}

fn hot_key(facts: Facts<'_>) -> Option<Lint> {
    let shares = facts.shares.iter().zip(&facts.keys.each);
    let (share, key) = shares.max_by(|a, b| a.0.total_cmp(b.0))?;
    let of_node = share * as_f64(facts.nodes as u64);
    (facts.nodes > 1 && facts.keys.len() > 1 && of_node >= DOMINANT).then(|| Lint {
        level: Level::Warning,
        name: "hot-key",
        ids: 1,
        says: format!(
            "one object has {:.0} % of all load, {:.0} % of a node's share: no placement helps, it has \
             to be split or to do less",
            share * 100.0,
            of_node * 100.0
        ),
        examples: vec![key.key.id().into()],
    })
}

fn hot_placement_key(facts: Facts<'_>, groups: &Groups<'_>) -> Option<Lint> {
    let braced = groups
        .each
        .iter()
        .filter(|group| group.is_braced && group.ids > 1);
    let hot = braced.max_by(|a, b| a.share.total_cmp(&b.share))?;
    let of_node = hot.share * as_f64(facts.nodes as u64);
    (facts.nodes > 1 && of_node >= DOMINANT).then(|| Lint {
        level: Level::Warning,
        name: "hot-placement-key",
        ids: hot.ids,
        says: format!(
            "the placement key {{{}}} keeps {} objects with {:.0} % of all load, {:.0} % of a node's \
             share, in one shard: choose a narrower one",
            hot.name,
            hot.ids,
            hot.share * 100.0,
            of_node * 100.0
        ),
        examples: vec![hot.name.into()],
    })
}

#[cfg(test)]
mod tests {
    use super::super::distribution::Distribution;
    use super::super::keys;
    use super::*;

    fn names(ids: &[String], nodes: usize) -> Vec<&'static str> {
        let keys = keys::read("T", ids.join("\n").as_bytes()).expect("good IDs");
        let total = keys.calls();
        let shares: Vec<f64> = keys.each.iter().map(|key| key.calls / total).collect();
        let lints = lints(Facts {
            keys: &keys,
            shares: &shares,
            nodes,
        });
        lints.iter().map(|lint| lint.name).collect()
    }

    fn ids(count: u32, id: impl Fn(u32) -> String) -> Vec<String> {
        (0..count).map(id).collect()
    }

    /// Scatters numbers, so that they do not count up.
    fn scattered(number: u32) -> String {
        format!("{:08x}", number.wrapping_mul(0x9e37_79b1))
    }

    #[test]
    fn s0_37_good_ids_raise_nothing() {
        assert_eq!(
            names(&ids(1000, |n| format!("u{}x", scattered(n))), 3),
            [""; 0]
        );
    }

    #[test]
    fn s0_37_each_kind_of_bad_id_raises_its_lint() {
        let good = |n| format!("u{}x", scattered(n));
        let some_bad = |bad: &str| {
            let mut ids = ids(1000, good);
            for (number, id) in ids.iter_mut().enumerate().take(60) {
                *id = format!("{bad}/{number}x");
            }
            ids
        };
        assert_eq!(names(&some_bad("pending"), 3), ["status-word"]);
        assert_eq!(names(&some_bad("2026-11-26"), 3), ["timestamp"]);
        assert_eq!(names(&some_bad("null"), 3), ["empty-looking"]);
        assert_eq!(names(&some_bad("shard#5"), 3), ["bound"]);
        assert_eq!(
            names(&ids(1000, |n| format!("{}@example.org", good(n))), 3),
            ["mutable-looking"]
        );
        assert_eq!(names(&ids(1000, |n| format!("user-{n}")), 3), ["monotonic"]);
        assert_eq!(names(&ids(20, good), 3), ["low-cardinality"]);
        let alike = [ids(1000, good), vec![good(5).to_uppercase()]].concat();
        assert_eq!(names(&alike, 3), ["look-alike"]);
    }

    #[test]
    fn s0_37_a_hot_object_and_a_hot_placement_key_are_found() {
        let mut lines = ids(1000, |n| format!("u{}x", scattered(n)));
        lines[7].push_str("\t1000");
        assert_eq!(names(&lines, 3), ["hot-key"]);
        let tenants = ids(1000, |n| match n % 2 {
            0 => format!("{{big}}/{}x", scattered(n)),
            _ => format!("{{{}x}}/1x", scattered(n)),
        });
        assert_eq!(names(&tenants, 3), ["hot-placement-key"]);
        assert_eq!(
            names(&tenants, 1),
            [""; 0],
            "there is nothing to be balanced"
        );
    }

    #[test]
    fn one_look_alone_among_many_is_no_lint_but_nothing_is() {
        let mut lines = ids(1000, |n| format!("u{}x", scattered(n)));
        lines[7] = "done".into();
        assert_eq!(names(&lines, 3), [""; 0]);
        lines[8] = "undefined".into();
        assert_eq!(names(&lines, 3), ["empty-looking"]);
    }

    #[test]
    fn shares_of_a_steep_law_raise_the_hot_key() {
        let keys = keys::made("T", &"{n}x".parse().expect("good"), 1000).expect("good");
        let shares = Distribution::Zipf(1.5).shares(keys.len(), 1);
        let lints = lints(Facts {
            keys: &keys,
            shares: &shares,
            nodes: 3,
        });
        assert!(lints.iter().any(|lint| lint.name == "hot-key"), "{lints:?}");
    }
}
