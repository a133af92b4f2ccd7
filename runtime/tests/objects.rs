//! Objects on one host: turns, order, ends, failures and storage. Nothing is called remotely but
//! what the tests send away themselves.

#![allow(clippy::unused_self, reason = "a method has a receiver, used or not")]

#[path = "objects/alarms.rs"]
mod alarms;
#[path = "objects/world.rs"]
mod world;

#[path = "objects/closing.rs"]
mod closing;
#[path = "objects/encoded.rs"]
mod encoded;
#[path = "objects/life.rs"]
mod life;
#[path = "objects/load.rs"]
mod load;
#[path = "objects/moved_timers.rs"]
mod moved_timers;
#[path = "objects/nested.rs"]
mod nested;
#[path = "objects/stored.rs"]
mod stored;
#[path = "objects/stress.rs"]
mod stress;
#[path = "objects/timers.rs"]
mod timers;
#[path = "objects/travel.rs"]
mod travel;
#[path = "objects/turns.rs"]
mod turns;
