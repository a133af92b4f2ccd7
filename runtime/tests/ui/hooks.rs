#![allow(unused, reason = "only the errors count")]

use steading::{Object, methods};

#[derive(Default, Object)]
struct Counter;

struct Broken;

#[methods]
impl Counter {
    #[activate]
    async fn wake(&mut self, n: i64) {}

    #[deactivate]
    fn sleep(&mut self) -> i64 {
        0
    }

    #[deactivate]
    fn rest(&mut self) -> Result<(), Broken> {
        Ok(())
    }

    #[deactivate]
    fn sleep_again(&mut self) {}

    #[activate]
    #[private]
    fn both(&mut self) {}
}

fn main() {}
