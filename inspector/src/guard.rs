//! Checks tokens: who may look, and who may act.
//!
//! - A server that only this machine reaches may be read by every user of it. Web pages of other
//!   sites are kept out before: see [`Guard`].
//! - A server that others reach wants the token for everything, as a bearer or as the password of
//!   basic auth.
//! - Actions want the token in a header that no browser sends by itself. So no other site can make
//!   a browser act, whatever it remembers.
//!
//! Wrong tokens are limited for each address and in all: see [`Attempts`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use steading_http::{Attempts, Guard, HostName, Problem, TooManyAttempts};
use steading_settings::Secret;
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use tracing::warn;

use crate::board::Board;

/// The header that carries the token of an action.
pub(crate) const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-steading-token");

/// The header in which an operator says who they are, for the log.
pub(crate) const OPERATOR_HEADER: HeaderName = HeaderName::from_static("x-steading-operator");

/// The paths that links on other sites may lead to.
const PAGES: &[&str] = &["/", "/index.html"];

/// Asks a browser to ask its user for a name and the token.
const BASIC: &str = "Basic realm=\"Steading Inspector\", charset=\"UTF-8\"";

/// The longest name of an operator that is kept.
const OPERATOR_LEN_MAX: usize = 64;

/// Who may do what.
#[derive(Clone, Debug)]
pub struct Access {
    /// What actions, and all requests if others reach the server, must show.
    pub token: Option<Secret>,
    /// Whether anybody may act at all.
    pub allow_actions: bool,
    /// Whether only this machine reaches the server.
    pub is_local: bool,
    /// More host names that it answers to, see [`Guard::new`].
    pub hosts: Vec<HostName>,
}

impl Access {
    /// Returns access for those on this machine who only look.
    pub fn read_only() -> Self {
        Self {
            token: None,
            allow_actions: false,
            is_local: true,
            hosts: Vec::new(),
        }
    }

    /// Returns what keeps web pages of other sites out.
    pub(crate) fn guard(&self) -> Guard {
        let listens = if self.is_local {
            Ipv4Addr::LOCALHOST
        } else {
            Ipv4Addr::UNSPECIFIED
        };
        Guard::new(listens.into(), self.hosts.clone(), "inspector_hosts").pages(PAGES)
    }

    fn is_token(&self, given: &str) -> bool {
        self.token.as_ref().is_some_and(|token| {
            let same = token.reveal().as_bytes().ct_eq(given.as_bytes());
            !token.reveal().is_empty() && bool::from(same)
        })
    }
}

/// An operator who may act.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    /// Who they say they are, and from where they came.
    pub name: String,
}

/// Lets requests through that may look.
pub(crate) async fn may_look(
    State(board): State<Arc<Board>>,
    request: Request,
    next: Next,
) -> Response {
    match Checked::of(&board, &request).look() {
        Ok(()) => next.run(request).await,
        Err(denied) => denied.into_response(),
    }
}

/// Lets requests through that may act, and says who acts.
pub(crate) async fn may_act(
    State(board): State<Arc<Board>>,
    mut request: Request,
    next: Next,
) -> Response {
    match Checked::of(&board, &request).act() {
        Ok(operator) => {
            request.extensions_mut().insert(operator);
            next.run(request).await
        }
        Err(denied) => denied.into_response(),
    }
}

/// Why a request is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denied {
    /// It shows no token, or a wrong one.
    Unknown,
    /// Nobody may act.
    ReadOnly,
    /// An action shows no token, or a wrong one.
    BadToken,
    /// Its client showed too many wrong ones.
    TooMany(TooManyAttempts),
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let forbidden = |code, detail: &str| {
            Problem::new(StatusCode::FORBIDDEN, code, "Not allowed", detail).into_response()
        };
        match self {
            Self::Unknown => {
                let detail = "show the token as a bearer, or as the password of basic auth";
                let status = StatusCode::UNAUTHORIZED;
                let problem = Problem::new(status, "unauthorized", "Unauthorized", detail);
                ([(header::WWW_AUTHENTICATE, BASIC)], problem).into_response()
            }
            Self::ReadOnly => forbidden(
                "read_only",
                "this Inspector only looks: it was not started with --allow-actions",
            ),
            Self::BadToken => forbidden("bad_token", "actions need the Inspector's token"),
            Self::TooMany(error) => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                let title = "Too many wrong tokens";
                let problem = Problem::new(status, "too_many_attempts", title, error.to_string());
                let after = HeaderValue::from(error.seconds());
                ([(header::RETRY_AFTER, after)], problem).into_response()
            }
        }
    }
}

/// A request that is being checked.
struct Checked<'a> {
    access: &'a Access,
    attempts: &'a Mutex<Attempts>,
    headers: &'a HeaderMap,
    from: Option<IpAddr>,
    now: Instant,
}

impl<'a> Checked<'a> {
    fn of(board: &'a Board, request: &'a Request) -> Self {
        let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
        Self {
            access: &board.access,
            attempts: &board.attempts,
            headers: request.headers(),
            from: from.map(|ConnectInfo(address)| address.ip()),
            now: Instant::now(),
        }
    }

    fn look(&self) -> Result<(), Denied> {
        if self.access.is_local {
            return Ok(());
        }
        let (_, token) = given(self.headers).ok_or(Denied::Unknown)?;
        self.token(&token, Denied::Unknown)
    }

    fn act(&self) -> Result<Operator, Denied> {
        if !self.access.allow_actions {
            return Err(Denied::ReadOnly);
        }
        let bearer = text(self.headers, &header::AUTHORIZATION);
        let bearer = bearer.and_then(|text| text.strip_prefix("Bearer "));
        let token = text(self.headers, &TOKEN_HEADER).or(bearer);
        self.token(token.ok_or(Denied::BadToken)?, Denied::BadToken)?;
        Ok(self.operator())
    }

    fn token(&self, token: &str, denied: Denied) -> Result<(), Denied> {
        let is_right = || self.access.is_token(token);
        let checked = self.attempts.lock().check(self.from, self.now, is_right);
        if checked.map_err(Denied::TooMany)? {
            return Ok(());
        }
        // Not more often than tokens may fail.
        warn!(from = ?self.from, "rejected a wrong token");
        Err(denied)
    }

    /// Returns who a request says is behind it.
    fn operator(&self) -> Operator {
        let said = text(self.headers, &OPERATOR_HEADER).map(ToOwned::to_owned);
        let name = said.or_else(|| given(self.headers).and_then(|(name, _)| name));
        let name = name.filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| "somebody".into());
        let clean = name.chars().filter(|c| !c.is_control());
        let name: String = clean.take(OPERATOR_LEN_MAX).collect();
        Operator {
            name: match self.from {
                Some(address) => format!("{name} from {address}"),
                None => name,
            },
        }
    }
}

/// Returns the name and token that a request shows for looking.
fn given(headers: &HeaderMap) -> Option<(Option<String>, String)> {
    let shown = text(headers, &header::AUTHORIZATION)?;
    if let Some(token) = shown.strip_prefix("Bearer ") {
        return Some((None, token.to_owned()));
    }
    let basic = BASE64_STANDARD.decode(shown.strip_prefix("Basic ")?).ok()?;
    let basic = String::from_utf8(basic).ok()?;
    let (name, password) = basic.split_once(':')?;
    Some((Some(name.to_owned()), password.to_owned()))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests;
