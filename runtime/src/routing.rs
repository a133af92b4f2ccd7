//! Brings each call to its object: key → shard → owner, over the network if that is elsewhere.
//!
//! The only thing routing looks at is the owner that the view proves. A call without a reachable
//! owner waits ("parks") until there is news or its deadline passes; it is tried again only while
//! it surely did not run. Knows the ids, `placement`'s values and `object`'s host; never the store.

pub mod network;
mod router;
mod serve;

pub use router::{Location, Router, RouterSettings};
pub use serve::{ServeError, serve};
