//! What etcd's errors mean: above all, whether a failed write may have happened.

use std::error::Error as _;

use etcd_client::Error;
use tonic::{Code, ConnectError, Status};

use super::limits::{REQUEST_LEN_NEEDED, TOO_LARGE, TOO_MANY_OPERATIONS};
use crate::coordination::effect::Effect;
use crate::coordination::store::{StoreError, TXN_OPS_MAX};
use crate::ids::LeaseId;

/// What a request is about, as far as its error needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) effect: Effect,
    /// The lease it names.
    lease: Option<LeaseId>,
}

impl Context {
    /// A request that changes nothing.
    pub(super) const READ: Self = Self {
        effect: Effect::None,
        lease: None,
    };

    /// A request that changes something, and names at most this lease.
    pub(super) fn write(lease: Option<LeaseId>) -> Self {
        Self {
            effect: Effect::Possible,
            lease,
        }
    }

    /// Tells what an error of etcd's client means.
    pub(super) fn classify(self, error: &Error) -> StoreError {
        match error {
            Error::GRpcStatus(status) => self.classify_status(status),
            Error::TransportError(_) | Error::EndpointError(_) => {
                StoreError::Protocol(chain(error))
            }
            Error::IoError(_) | Error::WatchError(_) | Error::LeaseKeepAliveError(_) => {
                self.effect.unanswered(error.to_string())
            }
            Error::InvalidArgs(_)
            | Error::InvalidUri(_)
            | Error::Utf8Error(_)
            | Error::ElectError(_)
            | Error::InvalidMetadataValue(_)
            | Error::EndpointsNotManaged
            | Error::Internal(_) => StoreError::Protocol(error.to_string()),
        }
    }

    /// Tells what a gRPC status means. What is not known to have had no effect may have had one.
    pub(super) fn classify_status(self, status: &Status) -> StoreError {
        let detail = chain(status);
        if let Some(limit) = limit_exceeded(status.message()) {
            return StoreError::Limits(format!("{limit} ({detail})"));
        }
        if was_never_sent(status) {
            return StoreError::Unavailable(detail);
        }
        match status.code() {
            Code::Unavailable if status.message() == "etcdserver: no leader" => {
                StoreError::Unavailable(detail) // Said before the request is looked at.
            }
            // Too many requests, or no space left: etcd says so instead of going on.
            Code::ResourceExhausted if status.message().starts_with("etcdserver:") => {
                StoreError::Unavailable(detail)
            }
            Code::ResourceExhausted if status.message().starts_with("grpc:") => {
                StoreError::Protocol(detail) // An answer is too large.
            }
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::Internal
            | Code::Unknown => self.effect.unanswered(detail),
            Code::Unauthenticated | Code::PermissionDenied => StoreError::Refused(detail),
            Code::InvalidArgument | Code::FailedPrecondition if is_about_access(status) => {
                StoreError::Refused(detail)
            }
            Code::NotFound => match self.lease {
                Some(lease) if status.message() == LEASE_NOT_FOUND => StoreError::LeaseGone(lease),
                Some(_) | None => StoreError::Protocol(detail),
            },
            Code::Ok
            | Code::InvalidArgument
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss => StoreError::Protocol(detail),
        }
    }
}

const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";

/// Tells why etcd cancelled a watch; it gives nothing but words.
pub(super) fn of_cancelled_watch(reason: &str) -> StoreError {
    let reason = match reason {
        "" => "etcd cancelled the watch",
        reason => reason,
    };
    if ["permission denied", "auth token", "user name"]
        .iter()
        .any(|word| reason.contains(word))
    {
        StoreError::Refused(reason.into())
    } else {
        StoreError::Unavailable(reason.into())
    }
}

/// Returns which limit of etcd a request exceeded, and what it must be.
fn limit_exceeded(message: &str) -> Option<String> {
    if message.contains(TOO_MANY_OPERATIONS) {
        return Some(format!("--max-txn-ops must be at least {TXN_OPS_MAX}"));
    }
    let is_too_large = TOO_LARGE.iter().any(|part| message.contains(part));
    is_too_large.then(|| format!("--max-request-bytes must be at least {REQUEST_LEN_NEEDED}"))
}

/// Whether no connection could be made, so that the request surely did not leave this process.
fn was_never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn is_about_access(status: &Status) -> bool {
    [
        "etcdserver: authentication failed",
        "etcdserver: authentication is not enabled",
        "etcdserver: user name",
        "etcdserver: revision of auth store is old",
    ]
    .iter()
    .any(|start| status.message().starts_with(start))
}

/// Writes an error with all its causes, each once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<Status>() {
        Some(status) if !status.message().is_empty() => status.message().to_owned(),
        Some(status) => status.code().description().to_owned(),
        None => error.to_string(),
    };
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: LeaseId = LeaseId::new(7);

    fn write(code: Code, message: &str) -> StoreError {
        Context::write(Some(LEASE)).classify_status(&Status::new(code, message))
    }

    #[test]
    fn a_write_that_may_have_happened_is_unknown() {
        for (code, message) in [
            (Code::Unavailable, "etcdserver: request timed out"),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to connection lost",
            ),
            (Code::Unavailable, "etcdserver: server stopped"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unavailable, "keep-alive timed out"),
            (Code::Unavailable, "transport is closing"),
            (Code::Unknown, "transport error"),
            (Code::Unknown, "raft proposal dropped"),
            (Code::Internal, "h2 protocol error: stream reset"),
            (Code::Cancelled, "operation was canceled"),
            (Code::ResourceExhausted, "h2 protocol error: too many pings"),
            (Code::DeadlineExceeded, "context deadline exceeded"),
        ] {
            let error = write(code, message);
            assert!(
                matches!(error, StoreError::Unknown(_)),
                "{message}: {error}"
            );
        }
    }

    #[test]
    fn a_read_is_never_unknown() {
        for code in (0..17).map(Code::from) {
            let error = Context::READ.classify_status(&Status::new(code, "etcdserver: whatever"));
            assert!(
                !matches!(error, StoreError::Unknown(_)),
                "{code:?}: {error}"
            );
        }
    }

    #[test]
    fn a_write_that_surely_did_not_happen_is_unavailable() {
        for (code, message) in [
            (Code::Unavailable, "etcdserver: no leader"),
            (Code::ResourceExhausted, "etcdserver: too many requests"),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
        ] {
            let error = write(code, message);
            assert!(
                matches!(error, StoreError::Unavailable(_)),
                "{message}: {error}"
            );
        }
        let refused = ConnectError("connection refused".into());
        let unsent = Context::write(None).classify_status(&Status::from_error(refused.into()));
        assert!(matches!(unsent, StoreError::Unavailable(_)), "{unsent}");
        assert!(
            unsent.to_string().contains("connection refused"),
            "{unsent}"
        );
    }

    #[test]
    fn limits_of_etcd_are_named() {
        for (code, message, limit) in [
            (
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request",
                "--max-txn-ops must be at least 128",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                "--max-request-bytes must be at least 1048576",
            ),
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (1048600 vs. 544288)",
                "--max-request-bytes must be at least 1048576",
            ),
        ] {
            let error = write(code, message);
            assert!(matches!(error, StoreError::Limits(_)), "{message}: {error}");
            assert!(error.to_string().contains(limit), "{message}: {error}");
        }
    }

    #[test]
    fn refused_access_is_told_from_malformed_requests() {
        for (code, message) in [
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
            ),
            (Code::InvalidArgument, "etcdserver: user name is empty"),
            (
                Code::InvalidArgument,
                "etcdserver: revision of auth store is old",
            ),
            (
                Code::FailedPrecondition,
                "etcdserver: authentication is not enabled",
            ),
            (Code::PermissionDenied, "etcdserver: permission denied"),
            (Code::Unauthenticated, "etcdserver: invalid auth token"),
        ] {
            let error = write(code, message);
            assert!(
                matches!(error, StoreError::Refused(_)),
                "{message}: {error}"
            );
        }
        for (code, message) in [
            (Code::InvalidArgument, "etcdserver: duplicate key given"),
            (Code::ResourceExhausted, "grpc: received message too large"),
            (Code::DataLoss, "etcdserver: corrupt cluster"),
            (Code::Unimplemented, "unknown service"),
        ] {
            let error = write(code, message);
            assert!(
                matches!(error, StoreError::Protocol(_)),
                "{message}: {error}"
            );
        }
    }

    #[test]
    fn a_lost_lease_is_named() {
        let error = write(Code::NotFound, LEASE_NOT_FOUND);
        assert!(matches!(error, StoreError::LeaseGone(LEASE)), "{error}");
    }

    #[test]
    fn a_watch_cancelled_for_access_is_refused_and_else_may_be_opened_again() {
        let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert!(matches!(of_cancelled_watch(reason), StoreError::Refused(_)));
        assert!(matches!(of_cancelled_watch(""), StoreError::Unavailable(_)));
    }
}
