//! How operators' commands go from the node that was asked to the one that carries them out.

mod client;
mod service;
mod wire;

use std::sync::Weak;

use steading_proto::v1::operator_server::OperatorServer;
use tonic::service::Routes;

use super::{Node, Shared};

pub(super) use client::OperatorClient;

/// Adds the operator service of a node to what its gRPC server serves.
pub(super) fn add_to(routes: Routes, node: Weak<Shared>) -> Routes {
    routes.add_service(OperatorServer::new(service::OperatorService(node)))
}
