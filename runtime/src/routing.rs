//! Brings each call to its object: key → shard → owner, over the network if that is elsewhere.
//!
//! The only thing routing looks at is the owner that the view proves. A call without a reachable
//! owner waits ("parks") until there is news or its deadline passes; it is tried again only while
//! it surely did not run. Knows the ids, `placement`'s values and `object`'s host; never the store.

mod admin_service;
mod channel;
mod connection;
mod ending;
mod forward;
mod frame;
mod grpc_only;
mod handshake;
mod heavy;
mod inbound;
mod lanes;
pub mod network;
mod news;
mod nodes_only;
mod objects_service;
mod parking;
mod peer;
pub(crate) mod probe;
mod queue;
mod report;
mod route;
mod router;
mod running;
mod serve;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transfer;
mod transfer_service;

pub(crate) use channel::why;
pub use news::OwnerClaims;
pub use report::{NodeLoad, NodeReport, Reports, Vitals};
pub use router::{Location, Router, RouterSettings};
pub use serve::{ServeError, serve};
pub use transfer::{TransferError, Transferred};
