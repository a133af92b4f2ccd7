#![allow(unused, reason = "only the errors count")]

use steading::{Object, methods};

#[derive(Default, Object)]
struct Counter;

#[methods]
impl Counter {
    async fn add(&mut self, n: i64) {}

    async fn add(&mut self, n: i64, m: i64) {}

    async fn delete(&mut self) {}

    async fn key(&self) -> String {
        String::new()
    }
}

fn main() {}
