//! The commands that ask a running node and show what it says, and those that need none.

mod call;
mod explain;
mod operate;
mod raise;
mod show;
mod simulate;

pub(crate) use call::call;
pub(crate) use explain::explain;
pub(crate) use operate::{Operate, operate};
pub(crate) use raise::{RaiseArgs, RaiseTokensError, raise};
pub(crate) use show::{nodes, objects, shards, status};
pub(crate) use simulate::{SimulateArgs, simulate};
