//! Decides from a request's head whether a server takes it: pure functions of values.
//!
//! Three questions, each of which stops other attacks:
//! - Is `Host` a name of this server? (DNS rebinding)
//! - Does a browser say that the request comes from another site's page? (requests across sites)
//! - Could a form have sent it? (the same, from browsers that say nothing)

use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, Uri, Version};

use super::hosts::{HostName, Hosts};
use super::origin::WebOrigin;

/// The header of commands without a body. No page can send it to another site without being allowed to.
pub const COMMAND_HEADER: HeaderName = HeaderName::from_static("x-steading-command");

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// What a server takes.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) hosts: Hosts,
    /// The origins of pages that may ask for anything.
    pub(super) origins: Vec<WebOrigin>,
    /// The paths that links on other sites may lead to.
    pub(super) pages: &'static [&'static str],
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) version: Version,
    pub(super) headers: &'a HeaderMap,
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejection {
    /// There is no host, or more than one, or it is malformed.
    #[error("send one valid `Host` header")]
    BadHost,
    /// Another server's name.
    #[error("this server does not answer to the name `{0}`")]
    WrongHost(HostName),
    /// The page that sent it is of another origin.
    #[error("pages of other origins may not send requests to this server")]
    ForeignOrigin,
    /// The page that sent it is of another site, and its origin is not known.
    #[error("other sites' pages may not use this server")]
    CrossSite,
    /// A form could have sent it.
    #[error("send `Content-Type: application/json`, or, without a body, `X-Steading-Command: 1`")]
    NotJson,
}

impl Policy {
    /// Checks who sent a request, and to which name.
    pub(super) fn check_sender(&self, head: &Head<'_>) -> Result<(), Rejection> {
        let host = host(head)?;
        if let Some(host) = host {
            let name = HostName::of_authority(host).ok_or(Rejection::BadHost)?;
            if !self.hosts.accept(&name) {
                return Err(Rejection::WrongHost(name));
            }
        }
        match origin(head.headers)? {
            Some(origin) if self.origins.iter().any(|known| known.is(origin)) => return Ok(()),
            Some(origin) if !is_same_place(origin, host) => return Err(Rejection::ForeignOrigin),
            Some(_) | None => {}
        }
        if names_other_site(head.headers) && !self.is_visit(head) {
            return Err(Rejection::CrossSite);
        }
        Ok(())
    }

    /// Whether a browser shows a page in a window of its own, say after a click on a link.
    fn is_visit(&self, head: &Head<'_>) -> bool {
        [Method::GET, Method::HEAD].contains(head.method)
            && self.pages.contains(&head.uri.path())
            && has_value(head.headers, &FETCH_MODE, "navigate")
            && has_value(head.headers, &FETCH_DEST, "document")
    }
}

/// Checks that no form can have sent a request that changes something.
///
/// Forms and requests across sites without a preflight can have but three content types, and no header
/// of their own. So the type of JSON is enough, also where there is nothing to read.
pub(super) fn check_form(head: &Head<'_>, has_body: bool) -> Result<(), Rejection> {
    if head.method.is_safe() {
        return Ok(());
    }
    let mut types = head.headers.get_all(CONTENT_TYPE).iter();
    let good = match (types.next(), types.next()) {
        (Some(one), None) => one.to_str().is_ok_and(is_json),
        (None, _) => !has_body && head.headers.contains_key(COMMAND_HEADER),
        (Some(_), Some(_)) => false,
    };
    good.then_some(()).ok_or(Rejection::NotJson)
}

/// Returns what names the server. Only requests of HTTP/1.0 may name none.
fn host<'a>(head: &Head<'a>) -> Result<Option<&'a str>, Rejection> {
    let mut headers = head.headers.get_all(HOST).iter();
    let header = headers.next().map(|host| host.to_str());
    let header = header.transpose().map_err(|_| Rejection::BadHost)?;
    if headers.next().is_some() {
        return Err(Rejection::BadHost);
    }
    // HTTP/2, or a whole URL as a proxy is sent it.
    let target = head.uri.authority().map(Authority::as_str);
    match (target, header) {
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => Err(Rejection::BadHost),
        (Some(name), _) | (None, Some(name)) => Ok(Some(name)),
        (None, None) if head.version <= Version::HTTP_10 => Ok(None),
        (None, None) => Err(Rejection::BadHost),
    }
}

fn origin(headers: &HeaderMap) -> Result<Option<&str>, Rejection> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = origins.next().map(|origin| origin.to_str());
    let origin = origin.transpose().map_err(|_| Rejection::ForeignOrigin)?;
    match origins.next() {
        None => Ok(origin),
        Some(_) => Err(Rejection::ForeignOrigin),
    }
}

/// Whether an origin is that of this server. The scheme does not matter: a proxy may add TLS.
fn is_same_place(origin: &str, host: Option<&str>) -> bool {
    let place = ["http://", "https://"]
        .iter()
        .find_map(|scheme| origin.strip_prefix(scheme));
    place
        .zip(host)
        .is_some_and(|(place, host)| place.eq_ignore_ascii_case(host))
}

/// Whether a browser says that another site's page sent it. Other clients say nothing.
fn names_other_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(FETCH_SITE).iter();
    sites.any(|site| site != "same-origin" && site != "none")
}

fn has_value(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    values.next().is_some_and(|value| value == wanted) && values.next().is_none()
}

/// Whether a content type is that of JSON, which is always UTF-8.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    is_json && parts.all(is_utf8)
}

fn is_utf8(parameter: &str) -> bool {
    let charset = parameter
        .split_once('=')
        .filter(|(name, _)| name.eq_ignore_ascii_case("charset"));
    charset.is_some_and(|(_, value)| value.trim_matches('"').eq_ignore_ascii_case("utf-8"))
}

#[cfg(test)]
mod tests;
