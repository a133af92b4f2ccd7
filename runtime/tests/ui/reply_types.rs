#![allow(unused, reason = "only the errors count")]

use steading::{Object, methods};

#[derive(Default, Object)]
struct Counter {
    name: String,
}

#[methods]
impl Counter {
    async fn name(&self) -> &str {
        &self.name
    }

    async fn named(&self) -> impl Sized {
        1
    }
}

fn main() {}
