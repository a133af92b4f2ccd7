#![allow(unused, reason = "only the errors count")]

use steading::{Context, Object, methods};

#[derive(Default, Object)]
struct Counter;

#[methods]
impl Counter {
    async fn text(&self, text: &str) {}

    async fn list(&self, list: &[i64]) {}

    async fn number(&self, number: Option<&i64>) {}

    async fn borrowed(&self, text: std::borrow::Cow<'_, str>) {}

    async fn any(&self, text: impl Into<String>) {}

    async fn pair(&self, (a, b): (i64, i64)) {}

    async fn nameless(&self, _: i64) {}

    async fn owned_context(&self, ctx: Context) {}

    async fn changed_context(&self, ctx: &mut Context) {}

    async fn two_contexts(&self, ctx: &Context, context: &Context) {}
}

fn main() {}
