#![allow(unused, reason = "only the errors count")]

use steading::Object;

#[derive(Object)]
struct Counter {
    total: i64,
}

fn main() {}
