//! Asks another node's operator service. Connects for each question: they are rare.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use steading_proto::v1::order_reply::Reply;
use steading_proto::v1::{self as proto, operator_client};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use super::wire::{read_done, read_insight, read_refusal, written};
use crate::coordination::commands::{Command, Done, Refusal, RefusalCode};
use crate::coordination::leader::Insight;
use crate::ids::{NodeId, ShardCount, ShardId};
use crate::routing::network::Network;
use crate::routing::why;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a node may take to begin to drain.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Another node's operator service.
pub(in crate::node) struct OperatorClient {
    client: operator_client::OperatorClient<Channel>,
    shards: ShardCount,
}

impl OperatorClient {
    pub(in crate::node) fn new(
        network: Arc<dyn Network>,
        address: &str,
        shards: ShardCount,
    ) -> Self {
        let target = address.to_owned();
        let connector = tower::service_fn(move |_| {
            let (network, target) = (network.clone(), target.clone());
            async move { network.connect(&target).await.map(TokioIo::new) }
        });
        // The connector alone decides where to; the address here is only the `:authority`.
        let endpoint = Endpoint::from_static("http://peer").connect_timeout(CONNECT_TIMEOUT);
        let channel = endpoint.connect_with_connector_lazy(connector);
        Self {
            client: operator_client::OperatorClient::new(channel),
            shards,
        }
    }

    pub(in crate::node) async fn order(
        mut self,
        command: Command,
        via: &NodeId,
        limit: Duration,
    ) -> Result<Done, Refusal> {
        let mut request = Request::new(written(command, via, limit));
        request.set_timeout(limit);
        let answer = self.client.order(request).await;
        self.read(answer)
    }

    pub(in crate::node) async fn drain(
        mut self,
        via: &NodeId,
        undo: bool,
    ) -> Result<Done, Refusal> {
        let via = via.to_string();
        let mut request = Request::new(proto::DrainRequest { via, undo });
        request.set_timeout(DRAIN_TIMEOUT);
        let answer = self.client.drain(request).await;
        self.read(answer)
    }

    pub(in crate::node) async fn ask(
        mut self,
        shard: Option<ShardId>,
        limit: Duration,
    ) -> Result<Insight, Refusal> {
        let shard = shard.map(ShardId::get);
        let mut request = Request::new(proto::AskRequest { shard });
        request.set_timeout(limit);
        let answer = self.client.ask(request).await;
        read_insight(answer.map_err(|status| no_answer(&status))?.into_inner())
    }

    fn read(
        &self,
        answer: Result<tonic::Response<proto::OrderReply>, tonic::Status>,
    ) -> Result<Done, Refusal> {
        let reply = answer.map_err(|status| no_answer(&status))?.into_inner();
        match reply.reply {
            Some(Reply::Done(done)) => read_done(done, self.shards),
            Some(Reply::Refused(refusal)) => Err(read_refusal(refusal)),
            None => Err(Refusal::new(RefusalCode::NoAnswer, "an empty answer")),
        }
    }
}

fn no_answer(status: &tonic::Status) -> Refusal {
    let detail = format!("the node does not answer: {}", why(status));
    Refusal::new(RefusalCode::NoAnswer, detail)
}
