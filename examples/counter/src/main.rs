//! The smallest program: one type of objects, one node, nothing to install.

use serde::{Deserialize, Serialize};
use steading::{Node, Object, methods};

#[derive(Default, Serialize, Deserialize, Object)]
struct Counter {
    total: i64,
}

#[methods]
impl Counter {
    /// Adds `n` and returns the new total.
    async fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }
}

#[allow(clippy::print_stdout, reason = "a program for a terminal")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let node = Node::builder().register::<Counter>().start().await?;
    let counter = node.object::<Counter>("my-counter");
    for n in 1..=5 {
        println!("+{n} = {}", counter.add(n).await?);
    }
    node.stop().await;
    Ok(())
}
