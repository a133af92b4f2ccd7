#![allow(unused, reason = "only the errors count")]

use steading::Object;

#[derive(Default, Object)]
enum Switch {
    #[default]
    Off,
    On,
}

#[derive(Default, Object)]
struct List<T> {
    items: Vec<T>,
}

fn main() {}
