#![allow(unused, reason = "only the errors count")]

use steading::{Object, methods};

#[derive(Default, Object)]
struct Counter;

trait Add {
    fn add(&mut self, n: i64);
}

#[methods]
impl Add for Counter {
    fn add(&mut self, n: i64) {}
}

fn main() {}
