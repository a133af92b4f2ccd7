//! Mistakes with the macros: each gets one message, at the place where the user can mend it.
//!
//! After a change of a message: `TRYBUILD=overwrite cargo test -p steading --test ui`, then read
//! the difference.

#[test]
fn o15_each_mistake_gets_one_clear_message() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
