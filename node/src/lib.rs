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

/// Gives memory back to the system some seconds after a load peak, from a thread of its own; glibc keeps
/// most of it (ADR-0040).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
