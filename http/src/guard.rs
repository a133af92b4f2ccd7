//! Keeps web pages from using a server through the browsers of its users.
//!
//! A server that only this machine reaches is still reached by every page that a browser on this
//! machine shows. So requests must name this server (`Host`), must not come from another site's
//! page (`Origin`, `Sec-Fetch-Site`), and must, if they change something, have a content type or a
//! header that no form can send. Clients that are no browsers send nothing else.
//!
//! Says nothing about who a client is: that is for tokens and certificates.

mod decide;
mod hosts;
mod origin;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::cors::CorsLayer;

use crate::Problem;
use decide::{Head, Policy, Rejection, check_form};
use hosts::Hosts;

pub use decide::COMMAND_HEADER;
pub use hosts::HostName;
pub use origin::WebOrigin;

/// How long browsers may remember that a page of a listed origin may send a request.
const PREFLIGHT_AGE: Duration = Duration::from_mins(10);

/// What every answer tells browsers: the type is right, and no other site may use it, not even as a picture.
const ANSWER_HEADERS: [(HeaderName, HeaderValue); 2] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Which requests a server takes. A cheap handle.
#[derive(Clone, Debug)]
pub struct Guard {
    policy: Arc<Policy>,
    /// The setting with more host names, for errors.
    hosts_setting: &'static str,
}

impl Guard {
    /// Makes the guard of a server that listens on an address, and answers to more `hosts` by the
    /// setting of this name.
    ///
    /// On the loopback interface it answers to `localhost`, loopback addresses and `hosts`. On
    /// others it answers to all names, unless there are `hosts`: then to those, to IP addresses,
    /// which probes use, and to `localhost`.
    pub fn new(listens: IpAddr, hosts: Vec<HostName>, hosts_setting: &'static str) -> Self {
        let hosts = if listens.to_canonical().is_loopback() {
            Hosts::Local(hosts)
        } else if hosts.is_empty() {
            Hosts::Any
        } else {
            Hosts::Listed(hosts)
        };
        let policy = Arc::new(Policy {
            hosts,
            origins: Vec::new(),
            pages: &[],
        });
        Self {
            policy,
            hosts_setting,
        }
    }

    /// Lets pages of these origins send any request (CORS). Default: none.
    #[must_use]
    pub fn origins(self, origins: Vec<WebOrigin>) -> Self {
        self.with(|policy| policy.origins = origins)
    }

    /// Lets links on other sites lead to these paths, with GET. Default: none.
    #[must_use]
    pub fn pages(self, pages: &'static [&'static str]) -> Self {
        self.with(|policy| policy.pages = pages)
    }

    fn with(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(Arc::make_mut(&mut self.policy));
        self
    }

    /// Puts the guard in front of routes and their fallbacks.
    pub fn protect(&self, routes: Router) -> Router {
        let routes = routes.layer(from_fn_with_state(self.clone(), without_forms));
        let routes = if self.policy.origins.is_empty() {
            routes
        } else {
            routes.layer(cors(&self.policy.origins))
        };
        routes.layer(from_fn_with_state(self.clone(), from_known_senders))
    }

    fn problem(&self, rejection: &Rejection) -> Problem {
        let setting = self.hosts_setting;
        let (status, code, title, hint) = match rejection {
            Rejection::BadHost => (
                StatusCode::BAD_REQUEST,
                "bad_host",
                "Bad host",
                String::new(),
            ),
            Rejection::WrongHost(_) => (
                StatusCode::MISDIRECTED_REQUEST,
                "wrong_host",
                "Wrong host",
                format!(
                    "; use `localhost` or an IP address of the server, or add the name to `{setting}`"
                ),
            ),
            Rejection::ForeignOrigin => {
                let hint = "; a node lets origins use it that are listed in `http_cors_origins`";
                (
                    StatusCode::FORBIDDEN,
                    "cross_site",
                    "Cross-site request",
                    hint.into(),
                )
            }
            Rejection::CrossSite => {
                let hint = "; open the address in a window of its own";
                (
                    StatusCode::FORBIDDEN,
                    "cross_site",
                    "Cross-site request",
                    hint.into(),
                )
            }
            Rejection::NotJson => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Unsupported media type",
                String::new(),
            ),
        };
        Problem::new(status, code, title, format!("{rejection}{hint}"))
    }
}

/// Lets requests through that name this server and come from no other site.
async fn from_known_senders(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let checked = guard.policy.check_sender(&head(&request));
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(rejection) => guard.problem(&rejection).into_response(),
    };
    for (name, value) in ANSWER_HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Lets requests through that no form can have sent.
async fn without_forms(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let has_body = !request.body().is_end_stream();
    match check_form(&head(&request), has_body) {
        Ok(()) => next.run(request).await,
        Err(rejection) => guard.problem(&rejection).into_response(),
    }
}

fn head(request: &Request) -> Head<'_> {
    Head {
        method: request.method(),
        uri: request.uri(),
        version: request.version(),
        headers: request.headers(),
    }
}

/// Answers preflights of pages of these origins, and lets them read answers.
fn cors(origins: &[WebOrigin]) -> CorsLayer {
    let names = [
        "content-type",
        "x-steading-timeout-ms",
        "traceparent",
        "tracestate",
    ];
    let names = names.map(HeaderName::from_static).into_iter();
    CorsLayer::new()
        .allow_origin(origins.iter().map(WebOrigin::to_header).collect::<Vec<_>>())
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(names.chain([COMMAND_HEADER]).collect::<Vec<_>>())
        // Browsers show a certificate only with requests that may have credentials.
        .allow_credentials(true)
        .allow_private_network(true)
        .max_age(PREFLIGHT_AGE)
}

#[cfg(test)]
mod tests;
