//! Every small world of the ownership protocol, visited by a model checker.
//!
//! The worlds are those of `world`; what holds in each of them is in `properties`; the rules that
//! are broken on purpose, to show that the worlds are wild enough to notice, in `rules`. There is
//! nothing here but tests.
#![cfg(test)]

mod action;
mod calm;
mod host;
mod known;
mod node;
mod numbers;
mod properties;
mod renumber;
mod rules;
mod store;
mod tests;
mod world;
