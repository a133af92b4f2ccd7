#![allow(unused, reason = "only the errors count")]

use steading::methods;

struct Counter<T>(T);

#[methods]
impl<T> Counter<T> {
    fn add(&mut self, n: T) {}
}

#[methods]
impl Counter<i64> {
    fn sub(&mut self, n: i64) {}
}

fn main() {}
