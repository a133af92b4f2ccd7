//! Host names of requests, and the names that a server answers to.
//!
//! A page can point its own name at 127.0.0.1 (DNS rebinding). Its requests are then of the same
//! origin as the server for the browser, and only the name in `Host` gives them away.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A host: a lower-case name without its final dot, or an IP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// An address; one of IPv4 written as IPv6 counts as IPv4.
    Ip(IpAddr),
    /// A name.
    Name(String),
}

/// The hosts that a server answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hosts {
    /// The loopback interface of this machine, and these.
    Local(Vec<HostName>),
    /// Every IP address, the loopback interface, and these.
    Listed(Vec<HostName>),
    /// All.
    Any,
}

impl Hosts {
    pub(super) fn accept(&self, host: &HostName) -> bool {
        match self {
            Self::Local(more) => host.is_local() || more.contains(host),
            // An address is not looked up, so no page can point it elsewhere.
            Self::Listed(listed) => {
                matches!(host, HostName::Ip(_)) || host.is_local() || listed.contains(host)
            }
            Self::Any => true,
        }
    }
}

impl HostName {
    /// Reads what `Host` holds: a host, and perhaps a port. Returns `None` if it is malformed.
    pub(super) fn of_authority(text: &str) -> Option<Self> {
        let end = match text.find(']') {
            Some(bracket) => bracket + 1,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at(end);
        if let Some(port) = port.strip_prefix(':') {
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| port.parse::<u16>().ok())??;
        } else if !port.is_empty() {
            return None;
        }
        Self::read(host)
    }

    /// Reads a host; an address of IPv6 is in brackets.
    fn read(host: &str) -> Option<Self> {
        if let Some(v6) = host.strip_prefix('[') {
            let address: Ipv6Addr = v6.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Ip(IpAddr::V6(address).to_canonical()));
        }
        if let Ok(address) = host.parse::<Ipv4Addr>() {
            return Some(Self::Ip(address.into()));
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = !name.is_empty() && !name.ends_with('.') && name.bytes().all(is_plain);
        is_name.then(|| Self::Name(name.to_ascii_lowercase()))
    }

    fn is_local(&self) -> bool {
        match self {
            Self::Ip(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }
}

impl FromStr for HostName {
    type Err = &'static str;

    /// Reads a host as a setting gives it: without scheme and port; IPv6 with brackets or without.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(address.to_canonical()));
        }
        let wrong = "it must be a host name or an IP address, without scheme and port";
        Self::read(text).ok_or(wrong)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().expect("a host")
    }

    #[test]
    fn reads_hosts_with_and_without_port() {
        for (text, host) in [
            ("localhost", "localhost"),
            ("LocalHost:7480", "localhost"),
            ("localhost.:7480", "localhost"),
            ("n1.example.", "n1.example"),
            ("my_pod-0:1", "my_pod-0"),
            ("127.0.0.1:65535", "127.0.0.1"),
            ("[::1]", "::1"),
            ("[0:0:0:0:0:0:0:1]:7480", "::1"),
            ("[::ffff:127.0.0.1]:7480", "127.0.0.1"),
            ("127.1", "127.1"), // A name: browsers write addresses in full.
        ] {
            assert_eq!(HostName::of_authority(text), Some(name(host)), "{text}");
        }
    }

    #[test]
    fn rejects_malformed_hosts() {
        for text in [
            "",
            ".",
            "a..",
            ":80",
            "localhost:",
            "localhost:x",
            "localhost:+80",
            "localhost:65536",
            "localhost:80:80",
            "me@localhost",
            "localhost@evil.example",
            "evil.example#localhost",
            "localhost/x",
            "localhost evil",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]]",
            "[fe80::1%25lo]",
            "[localhost]",
            "loc%61lhost",
            "localhost,evil.example",
            "löcalhost",
        ] {
            assert_eq!(HostName::of_authority(text), None, "{text}");
        }
    }

    #[test]
    fn a_local_server_answers_to_local_names() {
        let hosts = Hosts::Local(vec![name("steading.test")]);
        for text in [
            "localhost",
            "LOCALHOST.",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "steading.test",
        ] {
            assert!(hosts.accept(&name(text)), "{text}");
        }
        for text in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "a.localhost",
            "0.0.0.0",
            "10.0.0.1",
            "::",
            "2130706433",
        ] {
            assert!(!hosts.accept(&name(text)), "{text}");
        }
    }

    #[test]
    fn listed_hosts_leave_addresses_open() {
        let hosts = Hosts::Listed(vec![name("gate.example")]);
        for text in ["gate.example", "10.0.0.1", "fd00::1", "localhost"] {
            assert!(hosts.accept(&name(text)), "{text}");
        }
        assert!(!hosts.accept(&name("evil.example")));
        assert!(Hosts::Any.accept(&name("evil.example")));
    }

    #[test]
    fn a_setting_names_a_host_alone() {
        for text in [
            "",
            "*",
            "*.example",
            "http://a",
            "a:80",
            "[::1]:80",
            "a/b",
            "a b",
        ] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
        assert_eq!(name("[::1]"), name("::1"));
    }
}
