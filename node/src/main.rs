//! The stock binary: the whole program, with sample objects.

use std::process::ExitCode;

use steading_node::App;
use steading_node::samples::{Account, Counter, Word};

fn main() -> ExitCode {
    App::new()
        .register::<Counter>()
        .register::<Account>()
        .register::<Word>()
        .run()
}
