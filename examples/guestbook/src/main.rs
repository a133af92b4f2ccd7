//! The `steading` program with guestbooks in it.

use std::process::ExitCode;

use steading_example_guestbook::Guestbook;

fn main() -> ExitCode {
    steading_node::App::new().register::<Guestbook>().run()
}
