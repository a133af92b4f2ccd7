//! Asks another node, before this one joins it, whether the two can talk at all.
//!
//! A node without the cluster's certificates must not become a member: it would be given shards that
//! nobody reaches. So it says the first words of HTTP/2, which every node answers, and goes by that.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::network::{Io, Network};
use crate::tls::{INADEQUATE_SECURITY, Mistrust, mistrust_in};

/// How long one node may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a client says first: the preface, and a frame of no settings.
const FIRST_WORDS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// The flag of a SETTINGS frame that answers ours.
const ACK: u8 = 1;

/// How many frames may come before the answer to ours. A server sends two or three.
const FRAMES_MAX: usize = 16;

/// The longest frame that is read: what a server may send to a client that said nothing of it.
const FRAME_LEN_MAX: usize = 16 << 10;

/// What asking showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// The two can talk.
    Fine,
    /// They cannot, and will not until somebody changes their settings.
    Mistrust(Mistrust),
    /// Nobody answered, which says nothing about settings.
    Silent,
}

/// Asks the node at `address`. Takes at most a second.
pub(crate) async fn probe(network: &dyn Network, address: &str) -> Probe {
    let asking = async { ask(network.connect(address).await?).await };
    match timeout(PROBE_TIMEOUT, asking).await {
        Ok(Ok(probe)) => probe,
        Ok(Err(error)) => mistrust_in(&error).map_or(Probe::Silent, Probe::Mistrust),
        Err(_) => Probe::Silent,
    }
}

async fn ask(mut io: Io) -> io::Result<Probe> {
    io.write_all(FIRST_WORDS).await?;
    io.flush().await?;
    for _ in 0..FRAMES_MAX {
        let mut header = [0; 9];
        io.read_exact(&mut header).await?;
        let [high, middle, low, kind, flags, ..] = header;
        let len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if len > FRAME_LEN_MAX {
            return Ok(Probe::Silent); // Whatever that is, it is no node.
        }
        let mut payload = vec![0; len];
        io.read_exact(&mut payload).await?;
        match kind {
            SETTINGS if flags & ACK != 0 => return Ok(Probe::Fine),
            GOAWAY => return Ok(refused(&payload)),
            _ => {}
        }
    }
    Ok(Probe::Silent)
}

fn refused(go_away: &[u8]) -> Probe {
    match go_away.get(4..8) {
        Some(code) if code == INADEQUATE_SECURITY.to_be_bytes() => {
            let why =
                "it speaks TLS only, and this process has no `tls_ca`, `tls_cert` and `tls_key`";
            Probe::Mistrust(Mistrust(why.into()))
        }
        Some(_) | None => Probe::Silent,
    }
}
