//! Steading's gRPC services and messages: the `.proto` files and the code generated from them,
//! nothing else.
//!
//! Wire types stop at the inbound service and the client connections; no decision is made on
//! them.

/// The services and messages of the package `steading.v1`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; the `.proto` files carry the words"
)]
pub mod v1 {
    tonic::include_proto!("steading.v1");

    /// The services' descriptors, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("steading");
}
