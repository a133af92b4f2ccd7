//! The next version of the program of the tests: one type has a form that cannot be read there.

use std::process::ExitCode;

use steading_integration_tests::objects::{Holder, Scratch, Tally, next};
use steading_node::App;
use steading_node::samples::Counter;

fn main() -> ExitCode {
    App::new()
        .register::<Counter>()
        .register::<Tally>()
        .register::<Scratch>()
        .register::<Holder>()
        .register::<next::Changed>()
        .run()
}
