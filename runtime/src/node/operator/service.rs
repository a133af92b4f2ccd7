//! What other nodes ask this one on behalf of operators, concerning the cluster.

use std::sync::Weak;
use std::time::Duration;

use steading_proto::v1::operator_server::Operator;
use steading_proto::v1::{self as proto};
use tonic::{Request, Response, Status};

use super::wire::{read_command, written_answer, written_insight};
use super::{Node, Shared};
use crate::coordination::commands::{Refusal, RefusalCode};
use crate::ids::{NodeId, ShardId};

/// The longest that a command may wait here, whatever the asking node says.
const ORDER_LIMIT: Duration = Duration::from_secs(30);

/// How long a question may wait.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// Answers for a node while it exists.
#[derive(Debug)]
pub(super) struct OperatorService(pub(super) Weak<Shared>);

impl OperatorService {
    fn node(&self) -> Result<Node, Status> {
        let shared = self.0.upgrade();
        let shared = shared.ok_or_else(|| Status::unavailable("this node ends"))?;
        Ok(Node { shared })
    }
}

#[tonic::async_trait]
impl Operator for OperatorService {
    async fn order(
        &self,
        request: Request<proto::OrderRequest>,
    ) -> Result<Response<proto::OrderReply>, Status> {
        let node = self.node()?;
        let request = request.into_inner();
        let limit = Duration::from_millis(request.timeout_ms).min(ORDER_LIMIT);
        let answer = match (
            read_command(request, node.view().meta.shard_count),
            node.shared.taking.get(),
        ) {
            (Ok((command, via)), Some(taking)) => taking.leader.order(command, via, limit).await,
            (Ok(_), None) => Err(Refusal::not_leader(None)),
            (Err(refusal), _) => Err(refusal),
        };
        Ok(Response::new(written_answer(answer)))
    }

    async fn ask(
        &self,
        request: Request<proto::AskRequest>,
    ) -> Result<Response<proto::AskReply>, Status> {
        let node = self.node()?;
        let count = node.view().meta.shard_count;
        let shard = request.into_inner().shard;
        let shard = shard.map(|number| ShardId::new(number, count)).transpose();
        let answer = match (shard, node.shared.taking.get()) {
            (Ok(shard), Some(taking)) => taking.leader.insight(shard, QUESTION_LIMIT).await,
            (Ok(_), None) => Err(Refusal::not_leader(None)),
            (Err(error), _) => Err(Refusal::new(RefusalCode::UnknownShard, error.to_string())),
        };
        Ok(Response::new(written_insight(answer)))
    }

    async fn drain(
        &self,
        request: Request<proto::DrainRequest>,
    ) -> Result<Response<proto::OrderReply>, Status> {
        let node = self.node()?;
        let proto::DrainRequest { via, undo } = request.into_inner();
        let answer = match NodeId::new(&via) {
            Err(error) => Err(Refusal::new(RefusalCode::Malformed, error.to_string())),
            Ok(via) => {
                tracing::info!(%via, undo, "an operator's command to drain");
                if undo { node.undrain() } else { node.drain() }
            }
        };
        Ok(Response::new(written_answer(answer)))
    }
}
