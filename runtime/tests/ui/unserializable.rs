#![allow(unused, reason = "only the errors count")]

use serde::{Deserialize, Serialize};
use steading::{Object, methods};

struct Opaque;

#[derive(Serialize)]
struct Half;

#[derive(Debug)]
struct Refused;

#[derive(Default, Object)]
struct Counter;

#[methods]
impl Counter {
    async fn takes(&self, n: i64, opaque: Opaque) {}

    async fn takes_many(&self, halves: Vec<Half>) {}

    async fn gives(&self) -> Option<Opaque> {
        None
    }

    async fn fails(&self) -> Result<i64, Refused> {
        Err(Refused)
    }

    async fn shares(&self, n: std::rc::Rc<i64>) {}
}

async fn calls(counter: CounterHandle) {
    let _ = counter.takes(1, Opaque).await;
    let _ = counter.fails().await;
}

fn main() {}
