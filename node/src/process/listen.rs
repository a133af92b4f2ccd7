//! The addresses of a process's servers, and telling them.

use std::net::SocketAddr;

use serde_json::json;
use steading::Node;
use steading::routing::network::listen;
use tokio::net::TcpListener;
use tracing::warn;

use super::ProcessError;
use crate::output;
use crate::settings::{Address, Settings};

/// Listens on the address of a setting and returns which it became.
///
/// # Errors
///
/// [`ProcessError::Listen`], which names the setting and the address.
pub(crate) async fn bind(
    setting: &'static str,
    address: &Address,
) -> Result<(TcpListener, SocketAddr), ProcessError> {
    let failed = |source| {
        let address = address.to_string();
        ProcessError::Listen {
            setting,
            address,
            source,
        }
    };
    let listener = listen(&address.to_string()).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Warns of every server that other machines can reach without TLS.
pub(crate) fn warn_if_open(settings: &Settings) {
    let plain = settings.tls.tls_ca.is_none();
    let page = &settings.inspector;
    let page_plain = page.inspector_tls_cert.is_none();
    let listens = [
        ("grpc_listen", plain.then_some(&settings.grpc_listen)),
        ("http_listen", plain.then_some(&settings.http_listen)),
        (
            "inspector_listen",
            page.inspector_listen.as_ref().filter(|_| page_plain),
        ),
    ];
    for (setting, address) in listens {
        if let Some(address) = address.filter(|address| !address.is_loopback()) {
            warn!(setting, %address, "other machines can reach this address, and it has no TLS");
        }
    }
}

/// The servers of one node.
#[derive(Debug)]
pub(crate) struct Listening<'a> {
    pub(crate) node: &'a Node,
    pub(crate) http: SocketAddr,
    /// Whether the HTTP server speaks TLS.
    pub(crate) encrypted: bool,
    pub(crate) inspector: Option<&'a str>,
    /// Whether the Inspector's page does.
    pub(crate) page_encrypted: bool,
}

impl Listening<'_> {
    /// Prints a line for each server, or one line of JSON.
    pub(crate) fn announce(&self, json: bool) {
        let (id, grpc) = (self.node.id(), self.node.grpc_address());
        if json {
            output::json_line(&json!({
                "event": "listening",
                "node": id.as_str(),
                "grpc": grpc.to_string(),
                "http": self.http.to_string(),
                "inspector": self.inspector,
            }));
            return;
        }
        output::line(format_args!("{id}: gRPC on {grpc}"));
        let scheme = |encrypted| if encrypted { "https" } else { "http" };
        let (http, page) = (scheme(self.encrypted), scheme(self.page_encrypted));
        output::line(format_args!("{id}: HTTP on {http}://{}", self.http));
        if let Some(inspector) = self.inspector {
            output::line(format_args!("{id}: Inspector on {page}://{inspector}"));
        }
    }
}
