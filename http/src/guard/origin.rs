//! Origins of pages that a setting lets use a server.

use std::fmt;
use std::str::FromStr;

use axum::http::{HeaderValue, Uri};

/// Where a page comes from, as browsers write it: `https://app.example`, with a port unless it is the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin(String);

impl WebOrigin {
    /// Whether the text of an `Origin` header is this one.
    pub(super) fn is(&self, text: &str) -> bool {
        self.0 == text
    }

    pub(super) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("made from a URL")
    }
}

impl FromStr for WebOrigin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str =
            "it must be SCHEME://HOST or SCHEME://HOST:PORT with http or https, and no path";
        let text = text.trim().to_ascii_lowercase();
        let (scheme, place) = text.split_once("://").ok_or(FORM)?;
        let own_port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return Err(FORM),
        };
        super::hosts::HostName::of_authority(place).ok_or(FORM)?;
        let uri: Uri = text.parse().map_err(|_| FORM)?;
        uri.host().ok_or(FORM)?;
        let place = place.strip_suffix(own_port).unwrap_or(place);
        Ok(Self(format!("{scheme}://{place}")))
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_do() {
        for (text, want) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            let origin: WebOrigin = text.parse().expect(text);
            assert!(origin.is(want), "{text}: {origin}");
        }
    }

    #[test]
    fn only_whole_origins_can_be_listed() {
        for text in [
            "",
            "*",
            "null",
            "app.example",
            "https://",
            "https://a/",
            "https://*.a",
            "ftp://a",
            "https://a:x",
        ] {
            assert!(text.parse::<WebOrigin>().is_err(), "{text}");
        }
    }
}
