//! Calls from programs that are not nodes: one unary gRPC request each, in JSON.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanBuilder, SpanKind, TraceContextExt};
use steading_proto::v1::objects_server::Objects;
use steading_proto::v1::{CallReply, CallRequest, LocateReply, LocateRequest};
use tokio::time::Instant;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status};

use super::Router;
use crate::connections::InFlight;
use crate::error::{CallError, Outcome};
use crate::ids::{NodeId, ObjectKey, ShardId, Token};
use crate::memory_budget::BytesFor;
use crate::object::{CALL_TIMEOUT_DEFAULT, CallPath, EncodedCall, Format, RemoteCalls};
use crate::telemetry::{Trace, TraceContext};

/// The metadata entry that names the kind of failure: [`CallError::code`].
const CODE_KEY: &str = "steading-code";

/// The metadata entry that says whether the method may have run.
const OUTCOME_KEY: &str = "steading-outcome";

/// The longest time a client may wait: one day.
const TIMEOUT_MAX: Duration = Duration::from_hours(24);

/// The method that calls objects, as spans name it.
const METHOD: &str = "steading.v1.Objects/Call";

/// Serves foreign clients.
#[derive(Debug)]
pub(super) struct ObjectsService(pub(super) Arc<Router>);

#[tonic::async_trait]
impl Objects for ObjectsService {
    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallReply>, Status> {
        let timeout = timeout(request.metadata()).map_or(CALL_TIMEOUT_DEFAULT, less_the_way_back);
        let trace = self.begin_span(request.metadata());
        let in_flight = request.extensions().get::<InFlight>().cloned();
        let request = request.into_inner();
        let reply = self.answer(request, timeout, &trace).await;
        let reply = reply.and_then(|reply| hold(in_flight.as_ref(), reply));
        end_span(&trace, reply.as_ref().err().map(Status::code));
        reply.map(Response::new)
    }

    async fn locate(
        &self,
        request: Request<LocateRequest>,
    ) -> Result<Response<LocateReply>, Status> {
        let request = request.into_inner();
        let found = self.0.locate(&key(request.r#type, request.id)?);
        let found = found.map_err(|e| status(&CallError::InvalidId(e.to_string())))?;
        Ok(Response::new(LocateReply {
            shard: found.shard.map(ShardId::get),
            owner: found.owner.as_ref().map(NodeId::to_string),
            token: found.token.map(Token::get),
        }))
    }
}

impl ObjectsService {
    fn begin_span(&self, metadata: &MetadataMap) -> Trace {
        let text = |key| metadata.get(key).and_then(|value| value.to_str().ok());
        let state = || text("tracestate").unwrap_or_default();
        let caller = || TraceContext::read(text("traceparent")?, state());
        self.0.inner.settings.host.traces().door(caller, || {
            SpanBuilder::from_name(METHOD)
                .with_kind(SpanKind::Server)
                .with_attributes([
                    KeyValue::new("rpc.system.name", "grpc"),
                    KeyValue::new("rpc.method", METHOD),
                ])
        })
    }

    async fn answer(
        &self,
        request: CallRequest,
        timeout: Duration,
        trace: &Trace,
    ) -> Result<CallReply, Status> {
        let call = EncodedCall {
            key: key(request.r#type, request.id)?,
            method: request.method.into(),
            args: request.json,
            format: Format::Json,
            deadline: Instant::now() + timeout.min(TIMEOUT_MAX),
            path: CallPath::default(),
            trace: trace.clone(),
        };
        let result = self.0.call(call).await;
        let json = result.map_err(|error| status(&error))?;
        Ok(CallReply { json })
    }
}

/// Reserves room for a reply until it is sent: a client may read slowly.
fn hold(in_flight: Option<&InFlight>, reply: CallReply) -> Result<CallReply, Status> {
    let held = in_flight.map_or(Ok(()), |of| of.hold(BytesFor::Reply, reply.json.len()));
    match held {
        Ok(()) => Ok(reply),
        Err(error) => Err(overloaded(error.to_string(), Outcome::Ran)),
    }
}

/// Returns the status of a request that does not fit into the memory budget, or for which no
/// connection is left.
pub(super) fn overloaded(why: String, outcome: Outcome) -> Status {
    let mut metadata = MetadataMap::new();
    let code = CallError::Overloaded(String::new()).code();
    metadata.insert(CODE_KEY, MetadataValue::from_static(code));
    metadata.insert(OUTCOME_KEY, MetadataValue::from_static(outcome.as_str()));
    Status::with_metadata(Code::ResourceExhausted, why, metadata)
}

/// Ends the span of a request; a client's own mistakes are no errors of this server.
fn end_span(trace: &Trace, failed: Option<Code>) {
    let Some(context) = trace.context() else {
        return;
    };
    let name = failed.map_or("OK", name_of);
    let status = KeyValue::new("rpc.response.status_code", name);
    context.span().set_attribute(status);
    let is_ours = !matches!(
        failed,
        None | Some(Code::InvalidArgument | Code::Unimplemented | Code::FailedPrecondition)
    );
    trace.end(is_ours.then_some(name));
}

/// Returns what a status is called in the protocol, for those that are answered here.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn key(object_type: String, id: String) -> Result<ObjectKey, Status> {
    let key = ObjectKey::new(object_type, id);
    key.map_err(|error| status(&CallError::InvalidId(error.to_string())))
}

/// Returns the status that says the same as the error, with its code and outcome as metadata.
fn status(error: &CallError) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(CODE_KEY, MetadataValue::from_static(error.code()));
    let outcome = error.outcome().as_str();
    metadata.insert(OUTCOME_KEY, MetadataValue::from_static(outcome));
    Status::with_metadata(grpc_code(error), error.to_string(), metadata)
}

fn grpc_code(error: &CallError) -> Code {
    match error {
        CallError::InvalidId(_) | CallError::BadArguments(_) | CallError::TooLarge(_) => {
            Code::InvalidArgument
        }
        CallError::UnknownType(_) | CallError::UnknownMethod(_) => Code::Unimplemented,
        CallError::Overloaded(_) | CallError::ReplyTooLarge(_) => Code::ResourceExhausted,
        CallError::NoOwner(_)
        | CallError::Unreachable(_)
        | CallError::Disconnected(_)
        | CallError::Stopping(_)
        | CallError::Fenced(_) => Code::Unavailable,
        CallError::DeadlineBeforeStart(_) | CallError::Deadline(_) => Code::DeadlineExceeded,
        CallError::Cycle(_) => Code::FailedPrecondition,
        CallError::Panicked(_) | CallError::BadReply(_) | CallError::Protocol(_) => Code::Internal,
        CallError::Activation(_) | CallError::NotStored(_) => Code::Aborted,
    }
}

/// Returns how long a call may take so that the client still hears how it went. The server ends
/// a request by itself when its time is over, and then says nothing about the outcome.
fn less_the_way_back(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 20).min(Duration::from_millis(50)))
}

/// Reads how long a client waits, from `grpc-timeout`: up to 8 digits and a unit.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None; // `parse` alone would take a sign too.
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 60 * 60),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_tells_its_code_and_outcome() {
        for (code, outcome) in CallError::CODES {
            let status = status(&CallError::from_parts(code, "why".into()));
            let entry = |key| status.metadata().get(key).unwrap().to_str().unwrap();
            assert_eq!(
                (entry(CODE_KEY), entry(OUTCOME_KEY)),
                (*code, outcome.as_str())
            );
            assert!(status.message().contains("why"));
        }
    }

    #[test]
    fn g12_a_clients_timeout_is_read_in_every_unit() {
        let read = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            timeout(&metadata)
        };
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("500m"), Some(Duration::from_millis(500)));
        assert_eq!(read("1H"), Some(Duration::from_hours(1)));
        assert_eq!(read("3M"), Some(Duration::from_mins(3)));
        assert_eq!(read("70u"), Some(Duration::from_micros(70)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "S", "5", "5x", "-5S", "123456789S", "5ä"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
