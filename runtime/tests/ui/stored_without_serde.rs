#![allow(unused, reason = "only the errors count")]

use steading::Object;

#[derive(Default, Object)]
#[object(storage)]
struct Counter {
    total: i64,
}

fn main() {}
