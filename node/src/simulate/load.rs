//! What objects make their shards do: calls, CPU time, memory.

use std::time::Duration;

use steading::ids::{InvalidObjectKey, Layout, Place, ShardId};
use steading::placement::planner::ShardRates;

use super::distribution::Distribution;
use super::keys::Keys;
use super::numbers::{as_f64, rounded};

/// What an object in memory takes beside its state, in bytes (`docs/benchmarks.md`).
pub(crate) const OBJECT_BYTES: u64 = 300;

/// What a call costs beside its turn, in microseconds of CPU time, as the planner counts it.
const CALL_MICROS: u64 = 5;

/// What objects do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadSpec {
    /// Calls a second to all objects together; `None`: one to each, or as the lines say.
    pub(crate) calls_per_s: Option<f64>,
    /// How they are divided over the objects; `None`: evenly, or as the lines say.
    pub(crate) calls_by: Option<Distribution>,
    /// Bytes of state that an object has on average.
    pub(crate) state_bytes: u64,
    /// How they are divided over the objects.
    pub(crate) state_by: Distribution,
    /// CPU time of one turn.
    pub(crate) cpu_per_call: Duration,
    /// How many live objects the keys stand for; `None`: as many as they are.
    pub(crate) objects: Option<u64>,
    /// Decides who is of which rank.
    pub(crate) seed: u64,
}

/// What each shard does, as the keys say.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// For the planner, by shard.
    pub(super) rates: Vec<ShardRates>,
    /// Keys of each shard.
    pub(super) keys: Vec<u64>,
    /// Calls a second to each shard.
    pub(super) calls: Vec<f64>,
    /// Where each key lives, in their order; none for those that name a node.
    pub(super) shards: Vec<Option<ShardId>>,
    /// What part of all calls goes to each key, in their order.
    pub(super) shares: Vec<f64>,
    /// Calls a second to all.
    pub(super) calls_per_s: f64,
}

impl Load {
    /// Finds where each key lives, and what that makes its shard do.
    ///
    /// # Errors
    ///
    /// The number of a key, from 1, that names a shard or node that cannot exist.
    pub(super) fn of(
        keys: &Keys,
        layout: &Layout,
        spec: &LoadSpec,
    ) -> Result<Self, (usize, InvalidObjectKey)> {
        let shards = (1..).zip(&keys.each).map(|(number, key)| {
            let place = key.key.place(layout).map_err(|error| (number, error))?;
            Ok(match place {
                Place::Shard(shard) => Some(shard),
                Place::Node(_) => None,
            })
        });
        let shards: Vec<Option<ShardId>> = shards.collect::<Result<_, _>>()?;
        let shares = call_shares(keys, spec);
        let calls_per_s = spec.calls_per_s.unwrap_or_else(|| keys.calls());
        let state = spec.state_by.shares(keys.len(), spec.seed.wrapping_add(1));
        let objects_per_key = spec
            .objects
            .map_or(1.0, |objects| as_f64(objects) / as_f64(keys.len() as u64));
        let all_state = as_f64(spec.state_bytes) * as_f64(keys.len() as u64);
        let mut each = vec![Sum::default(); layout.count().get() as usize];
        for ((shard, calls), state) in shards.iter().zip(&shares).zip(&state) {
            let Some(shard) = shard else { continue };
            let sum = &mut each[shard.index()];
            sum.keys += 1;
            sum.calls += calls * calls_per_s;
            sum.objects += objects_per_key;
            sum.bytes += objects_per_key * (as_f64(OBJECT_BYTES) + state * all_state);
        }
        Ok(Self {
            rates: each.iter().map(|sum| sum.rates(spec)).collect(),
            keys: each.iter().map(|sum| sum.keys).collect(),
            calls: each.iter().map(|sum| sum.calls).collect(),
            shards,
            shares,
            calls_per_s,
        })
    }
}

/// Returns what part of all calls goes to each key.
fn call_shares(keys: &Keys, spec: &LoadSpec) -> Vec<f64> {
    let stated = keys.calls();
    match spec.calls_by {
        None if keys.are_weighed && stated > 0.0 => {
            keys.each.iter().map(|key| key.calls / stated).collect()
        }
        None => Distribution::Uniform.shares(keys.len(), spec.seed),
        Some(distribution) => distribution.shares(keys.len(), spec.seed),
    }
}

/// What the keys of one shard do together.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    keys: u64,
    calls: f64,
    objects: f64,
    bytes: f64,
}

impl Sum {
    /// Whole numbers, as nodes report them. What is left of the last whole call counts as CPU time,
    /// so that shards of rare calls cost what they cost.
    fn rates(&self, spec: &LoadSpec) -> ShardRates {
        let calls = self.calls.floor();
        let turns = self.calls * spec.cpu_per_call.as_secs_f64() * 1e6;
        let rest = (self.calls - calls) * as_f64(CALL_MICROS);
        ShardRates {
            cpu_micros_per_s: rounded(turns + rest),
            calls_per_s: rounded(calls),
            objects: rounded(self.objects),
            state_bytes: rounded(self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use steading::ids::{Regions, ShardCount};

    use super::super::keys;
    use super::*;

    fn spec() -> LoadSpec {
        LoadSpec {
            calls_per_s: None,
            calls_by: None,
            state_bytes: 100,
            state_by: Distribution::Uniform,
            cpu_per_call: Duration::from_micros(20),
            objects: None,
            seed: 1,
        }
    }

    fn layout(count: u32) -> Layout {
        let count = ShardCount::new(count).expect("a power of two");
        Layout::new(count, Regions::default())
    }

    #[test]
    fn a_shard_does_what_its_keys_do_together() {
        let keys = keys::read("T", &b"a\t10.5\nb\t1\n"[..]).expect("good");
        let load = Load::of(&keys, &layout(1), &spec()).expect("good IDs");
        let rates = load.rates[0];
        assert_eq!(
            (rates.calls_per_s, rates.objects, rates.state_bytes),
            (11, 2, 800)
        );
        // 11.5 calls of 20 µs, and half a call's 5 µs.
        assert_eq!(rates.cpu_micros_per_s, 233);
        assert!((load.shares[0] - 10.5 / 11.5).abs() < 1e-9);
    }

    #[test]
    fn a_total_and_a_law_go_before_what_lines_say() {
        let keys = keys::read("T", &b"a\t10\nb\t1\n"[..]).expect("good");
        let spec = LoadSpec {
            calls_per_s: Some(1000.0),
            calls_by: Some(Distribution::Uniform),
            objects: Some(2000),
            ..spec()
        };
        let load = Load::of(&keys, &layout(1), &spec).expect("good IDs");
        assert_eq!(load.shares, [0.5, 0.5]);
        assert_eq!(load.rates[0].calls_per_s, 1000);
        assert_eq!(
            (load.rates[0].objects, load.rates[0].state_bytes),
            (2000, 800_000)
        );
    }

    #[test]
    fn keys_of_a_node_burden_no_shard_and_impossible_ones_are_named() {
        let keys = keys::read("T", &b"node#a/x\nshard#1/x\n"[..]).expect("good");
        let load = Load::of(&keys, &layout(2), &spec()).expect("good IDs");
        assert_eq!(load.keys, [0, 1]);
        let error = Load::of(&keys, &layout(1), &spec()).expect_err("there is no shard 1");
        assert_eq!(error.0, 2);
    }
}
