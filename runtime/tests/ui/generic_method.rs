#![allow(unused, reason = "only the errors count")]

use steading::{Context, Object, methods};

#[derive(Default, Object)]
struct Counter;

#[methods]
impl Counter {
    async fn add<T: Into<i64>>(&mut self, n: T) {}

    async fn show<'a>(&self, ctx: &'a Context) {}

    async fn fill<const N: usize>(&mut self, n: [i64; N]) {}
}

fn main() {}
