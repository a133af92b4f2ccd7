//! Who may look, and who may act.
//!
//! - A server that only this machine reaches may be read by anybody on it, under a name of this
//!   machine: a page from elsewhere cannot point its own name here.
//! - A server that others reach wants the token for everything, as a bearer or as the password of
//!   basic auth.
//! - Actions want the token in a header that no browser sends by itself, and must come from our own
//!   page. So no other site can make a browser act, whatever it remembers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use steading_http::Problem;
use steading_settings::Secret;
use subtle::ConstantTimeEq;

use crate::board::Board;

/// The header that carries the token of an action.
pub(crate) const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-steading-token");

/// The header in which an operator says who they are, for the log.
pub(crate) const OPERATOR_HEADER: HeaderName = HeaderName::from_static("x-steading-operator");

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
}

impl Access {
    /// Returns access for those on this machine who only look.
    pub fn read_only() -> Self {
        Self {
            token: None,
            allow_actions: false,
            is_local: true,
        }
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
    match check_look(&board.access, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let is_unknown = problem.status == StatusCode::UNAUTHORIZED.as_u16();
            let mut response = problem.into_response();
            if is_unknown {
                let headers = response.headers_mut();
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(BASIC));
            }
            response
        }
    }
}

/// Lets requests through that may act, and says who acts.
pub(crate) async fn may_act(
    State(board): State<Arc<Board>>,
    mut request: Request,
    next: Next,
) -> Response {
    let from = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(address)| address.ip());
    match check_act(&board.access, request.headers(), from) {
        Ok(operator) => {
            request.extensions_mut().insert(operator);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn check_look(access: &Access, headers: &HeaderMap) -> Result<(), Problem> {
    if access.is_local {
        return match host(headers) {
            Some(host) if !is_local_name(host) => Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "wrong_host",
                "Wrong host",
                "this Inspector answers only to names of its own machine, such as localhost",
            )),
            Some(_) | None => Ok(()),
        };
    }
    let shown = given(headers);
    let is_shown = shown.is_some_and(|(_, token)| access.is_token(&token));
    is_shown.then_some(()).ok_or_else(|| {
        let detail = "show the token as a bearer, or as the password of basic auth";
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Who are you?",
            detail,
        )
    })
}

fn check_act(
    access: &Access,
    headers: &HeaderMap,
    from: Option<IpAddr>,
) -> Result<Operator, Problem> {
    let refuse = |code, detail: &str| {
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            code,
            "Not allowed",
            detail,
        ))
    };
    if !access.allow_actions {
        return refuse(
            "read_only",
            "this Inspector only looks: it was not started with --allow-actions",
        );
    }
    if is_from_elsewhere(headers) {
        return refuse("cross_site", "actions come from the Inspector's own page");
    }
    let bearer =
        text(headers, &header::AUTHORIZATION).and_then(|text| text.strip_prefix("Bearer "));
    let token = text(headers, &TOKEN_HEADER).or(bearer).unwrap_or_default();
    if !access.is_token(token) {
        return refuse("bad_token", "actions need the Inspector's token");
    }
    let said = text(headers, &OPERATOR_HEADER).map(ToOwned::to_owned);
    let name = said.or_else(|| given(headers).and_then(|(name, _)| name));
    let name = name.filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| "somebody".into());
    let clean = name.chars().filter(|c| !c.is_control());
    let name: String = clean.take(OPERATOR_LEN_MAX).collect();
    Ok(Operator {
        name: match from {
            Some(address) => format!("{name} from {address}"),
            None => name,
        },
    })
}

/// Whether a browser says that the request comes from another site's page.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let site = text(headers, &HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return true;
    }
    let Some(origin) = text(headers, &header::ORIGIN) else {
        return headers.contains_key(header::ORIGIN);
    };
    let place = origin.split_once("://").map(|(_, place)| place);
    place.is_none() || place != text(headers, &header::HOST)
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

/// Returns the host that a request names, without the port.
fn host(headers: &HeaderMap) -> Option<&str> {
    let host = text(headers, &header::HOST)?;
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => host.split(':').next(),
    }
}

fn is_local_name(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
