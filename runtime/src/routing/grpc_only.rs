//! Rejects requests to the gRPC server that have no gRPC content type, which tonic does not look at.
//!
//! Without this, a page could make a browser that holds a certificate of the cluster send calls: a
//! request of any other type needs no leave of the server.

use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use tonic::body::Body;
use tonic::codegen::http::header::CONTENT_TYPE;
use tonic::codegen::http::{HeaderMap, Request, Response, StatusCode};
use tower::Service;

/// What gRPC's content types begin with.
const GRPC: &[u8] = b"application/grpc";

/// A service behind the check.
#[derive(Clone, Debug)]
pub(super) struct GrpcOnly<S>(pub(super) S);

impl<S, B> Service<Request<B>> for GrpcOnly<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_grpc(request.headers()) {
            return Either::Left(self.0.call(request));
        }
        let mut rejection = Response::new(Body::empty());
        *rejection.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Either::Right(ready(Ok(rejection)))
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(one), None) = (types.next(), types.next()) else {
        return false;
    };
    let rest = one.as_bytes().strip_prefix(GRPC);
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_types_of_grpc_pass() {
        let passes = |types: &[&'static str]| {
            let types = types
                .iter()
                .map(|one| (CONTENT_TYPE, one.parse().expect("text")));
            let mut headers = HeaderMap::new();
            types.for_each(|(name, value)| {
                headers.append(name, value);
            });
            is_grpc(&headers)
        };
        for good in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;x=y",
        ] {
            assert!(passes(&[good]), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/json",
            "application/grpc-web",
            "application/grpc, text/plain",
        ] {
            assert!(!passes(&[bad]), "{bad}");
        }
        assert!(!passes(&[]));
        assert!(!passes(&["application/grpc", "text/plain"]));
    }
}
