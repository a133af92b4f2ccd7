//! An answer for clients that speak no TLS, in a language they understand.
//!
//! Without it they would see a few bytes that mean nothing to them, and their operators would look
//! for the fault everywhere else.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// What is said to them.
const DETAIL: &str = "this server speaks TLS: write https://; nodes, gates and commands also need tls_ca, \
                      tls_cert and tls_key";

/// How a connection of HTTP/2 begins.
const PREFACE_START: &[u8] = b"PRI * HTTP/2";

/// The header of an empty SETTINGS frame, which must be the first.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// `GOAWAY`, the kind of frame.
const GOAWAY: u8 = 7;

/// `INADEQUATE_SECURITY` of HTTP/2.
pub(crate) const INADEQUATE_SECURITY: u32 = 0xc;

/// How long the client may take to read the answer and close.
const LINGER: Duration = Duration::from_secs(1);

/// How much of what the client still sends is read: a connection that is closed with unread bytes
/// is reset, and the answer lost.
const LINGER_BYTES_MAX: u64 = 64 << 10;

/// The first byte of every TLS connection: a record of a handshake.
const TLS_START: u8 = 0x16;

/// Whether these first bytes of a connection are of TLS.
pub(super) fn is_tls(start: &[u8]) -> bool {
    start.first() == Some(&TLS_START)
}

/// Tells a client that began like this what it should speak, and closes.
pub(super) async fn answer<T>(io: &mut T, start: &[u8]) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    if start.starts_with(PREFACE_START) {
        io.write_all(&go_away()).await?;
    } else if start.first().is_some_and(u8::is_ascii_uppercase) {
        io.write_all(bad_request().as_bytes()).await?;
    }
    io.shutdown().await?;
    let mut rest = io.take(LINGER_BYTES_MAX);
    let mut nowhere = tokio::io::sink();
    // Whoever does not close in time is closed.
    drop(timeout(LINGER, tokio::io::copy(&mut rest, &mut nowhere)).await);
    Ok(())
}

fn go_away() -> Vec<u8> {
    let len = u8::try_from(8 + DETAIL.len()).expect("it is short");
    let mut frames = SETTINGS.to_vec();
    frames.extend([0, 0, len, GOAWAY, 0, 0, 0, 0, 0]);
    frames.extend(0_u32.to_be_bytes()); // No stream was looked at.
    frames.extend(INADEQUATE_SECURITY.to_be_bytes());
    frames.extend(DETAIL.as_bytes());
    frames
}

fn bad_request() -> String {
    let problem = serde_json::json!({
        "type": "about:blank#tls_required",
        "title": "TLS required",
        "status": 400,
        "code": "tls_required",
        "outcome": "not_run",
        "detail": DETAIL,
    });
    let body = problem.to_string();
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
