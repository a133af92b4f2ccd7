//! The program of the tests: the stock one, with objects that the tests need beside its own.

use std::process::ExitCode;

use steading_integration_tests::objects::{Bomb, Holder, Relay, Scratch, Tally, now};
use steading_node::App;
use steading_node::samples::Counter;

fn main() -> ExitCode {
    App::new()
        .register::<Counter>()
        .register::<Relay>()
        .register::<Tally>()
        .register::<Scratch>()
        .register::<Holder>()
        .register::<Bomb>()
        .register::<now::Changed>()
        .run()
}
