#![allow(unused, reason = "only the errors count")]

use std::rc::Rc;

use steading::{Object, methods};

#[derive(Default, Object)]
struct Counter;

#[methods]
impl Counter {
    async fn add(&mut self, n: i64) -> i64 {
        let shared = Rc::new(n);
        tokio::task::yield_now().await;
        *shared
    }
}

fn main() {}
