//! The values of settings that have a form of their own.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns the text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The URL of an etcd server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Returns the URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Endpoint {
    /// Whether it uses TLS.
    pub fn is_encrypted(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let with_scheme = match text.split_once("://") {
            Some(("http" | "https", _)) => text.to_owned(),
            Some((scheme, _)) => return Err(format!("`{scheme}` is not http or https")),
            None => format!("http://{text}"),
        };
        let uri: http::Uri = with_scheme
            .parse()
            .map_err(|_| "it is not a URL such as http://127.0.0.1:2379".to_owned())?;
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => {
                Err("put user and password into etcd_user and etcd_password".into())
            }
            Some(authority) if authority.host().is_empty() => Err("it names no host".into()),
            // The library takes `etcd:2379x` for a host and no port.
            Some(authority)
                if authority.port_u16().is_none() && authority.as_str() != authority.host() =>
            {
                Err("what stands behind its last `:` is no port".into())
            }
            Some(_) => Ok(Self(with_scheme)),
            None => Err("it names no host".into()),
        }
    }
}

/// The prefix of a cluster's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Returns the text, slashes included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Prefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = text.len() > 2 && text.starts_with('/') && text.ends_with('/');
        if good && !text.contains("//") {
            Ok(Self(text.to_owned()))
        } else {
            Err("it must begin and end with a slash, with a name between them, such as /steading/")
        }
    }
}

/// Where a server listens, or is reached: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Returns the same host with another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self {
            host: self.host.clone(),
            port,
        }
    }

    /// Returns the address whose port is greater by `number`. Port 0 stays 0: any free port.
    ///
    /// Returns `None` if there is no such port.
    #[must_use]
    pub fn numbered(&self, number: u16) -> Option<Self> {
        match self.port {
            0 => Some(self.clone()),
            port => port.checked_add(number).map(|port| self.with_port(port)),
        }
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether only this machine reaches it.
    pub fn is_loopback(&self) -> bool {
        match self.to_string().parse::<SocketAddr>() {
            Ok(address) => address.ip().is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }

    /// Whether it stands for every address of the machine: good to listen on, and nowhere to connect to.
    pub fn is_unspecified(&self) -> bool {
        let address = self.to_string().parse::<SocketAddr>();
        address.is_ok_and(|address| address.ip().is_unspecified())
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "it must be HOST:PORT, such as 127.0.0.1:7400 or [::1]:7400";
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        if host.is_empty() || bare_v6 || host.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(FORM);
        }
        let port = port
            .parse()
            .ok()
            .filter(|number: &u16| number.to_string() == port)
            .ok_or("the port must be a number up to 65535")?;
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// Text on a terminal, JSON elsewhere.
    Auto,
}

/// Reads a duration such as `5s` or `300ms`.
///
/// # Errors
///
/// In words, with the form that is wanted.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it like 5s, 300ms or 1m 30s"))
}
