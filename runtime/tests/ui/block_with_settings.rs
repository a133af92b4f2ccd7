#![allow(unused, reason = "only the errors count")]

use steading::{Object, methods};

#[derive(Default, Object)]
struct Counter;

#[methods(idle = "5m")]
impl Counter {
    fn add(&mut self, n: i64) {}
}

fn main() {}
