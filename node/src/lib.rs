//! The steading program as a library: settings, servers, commands.
//!
//! [`App`] makes a program out of a user's own object types; the stock `steading` binary is one
//! with the [`samples`]. The runtime is in `steading`; here is only what a process adds to it.

mod app;
mod args;
mod bench;
mod client;
mod commands;
mod dev;
mod doctor;
mod exit;
pub mod http;
mod output;
mod process;
pub mod samples;
pub mod settings;
mod simulate;
mod supervise;

pub use app::App;
pub use exit::Exit;
