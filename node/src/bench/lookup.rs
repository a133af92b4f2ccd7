//! From an object's key to its owner.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

use steading::Node;
use steading::ids::ObjectKey;
use tokio::time::Instant;

use super::BenchArgs;
use super::report::{Figure, Goal};

/// So many keys are looked up in turn.
const KEYS: usize = 1024;

/// Measures hash and table, beside a hash map that knows the keys already.
pub(super) async fn measure(args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let node = Node::builder().start().await?;
    let keys: Vec<_> = (0..KEYS)
        .map(|i| ObjectKey::new("Tally", format!("object-{i:09}")).expect("a good key"))
        .collect();
    let known: HashMap<_, _> = keys.iter().map(|key| (key.clone(), 1_u32)).collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        ours.push(nanos_each(&keys, args.time, |key| node.locate(key).is_ok()));
        theirs.push(nanos_each(&keys, args.time, |key| known.contains_key(key)));
    }
    node.stop().await;
    let figure = Figure::new("routing lookup, 16-byte ID", "ns", ours);
    Ok(vec![
        figure
            .beside("HashMap of known keys", theirs)
            .goal(Goal::AtMost(50.0)),
    ])
}

fn nanos_each(keys: &[ObjectKey], time: Duration, look: impl Fn(&ObjectKey) -> bool) -> f64 {
    let (start, mut looked) = (Instant::now(), 0_u32);
    while start.elapsed() < time {
        for key in keys {
            assert!(black_box(look(black_box(key))), "every key has a place");
        }
        looked += 1;
    }
    #[allow(clippy::cast_precision_loss, reason = "it is 1024")]
    let each = keys.len() as f64;
    start.elapsed().as_secs_f64() * 1e9 / f64::from(looked) / each
}
