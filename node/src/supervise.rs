//! `--supervise`: a parent process that ends its node's lease the moment the node's process dies.
//!
//! Without it a killed process is missed only when its lease runs out. The parent learns of the
//! exit from the kernel (SIGCHLD), so the others can take the shards
//! over within a tenth of a second. It starts nothing again: that is for whoever started it.
//!
//! The parent runs this same program again, with a socket as its standard input. Over it the child
//! tells the lease of each of its lives, and that it has left its cluster in order. The parent
//! revokes only a lease that it was told, so never that of another process with the same node ID.
//! If the parent dies, the child reads the end of the socket and drains as on SIGTERM: no node
//! goes on without whoever was to watch it.
//!
//! The parent passes signals on over the socket rather than as signals: terminals and service
//! managers signal both processes, and the child must tell these from a second request, which
//! would force its shutdown.
//!
//! The parent also works as the first process of a container: it passes signals and the exit code
//! on, and reaps whatever else its descendants leave behind.

mod child;
mod parent;
mod reaper;
mod words;

pub(crate) use child::{FromSupervisor, Tether};
pub(crate) use parent::run;

/// Tells a process that it is the child.
pub(crate) const CHILD_VARIABLE: &str = "STEADING_SUPERVISED";

/// What the child says when it has left its cluster: its lease is revoked already.
const LEFT: &str = "left";

/// What begins a line of the parent that passes a signal on; its number follows.
const SIGNAL: &str = "signal ";

/// Whether this process is to be the parent of another.
pub(crate) fn is_wanted(settings: &crate::settings::Settings) -> bool {
    settings.supervise && std::env::var_os(CHILD_VARIABLE).is_none()
}
