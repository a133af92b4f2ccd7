#![allow(unused, reason = "only the errors count")]

use std::sync::Arc;

use steading::{Context, Object, methods};

#[derive(Default, Object)]
struct Counter;

#[methods]
impl Counter {
    async fn by_value(self) {}

    async fn boxed(self: Box<Self>) {}

    async fn shared(self: &Arc<Self>) {}

    async fn forgotten(ctx: &Context, n: i64) {}

    async fn renamed(this: &mut Self, n: i64) {}

    #[activate]
    async fn wake() {}
}

fn main() {}
