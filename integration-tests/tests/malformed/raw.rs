//! Bytes over connections of their own.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connections at once: below every limit of one address.
const CONNECTIONS_MAX: usize = 12;

/// How long one connection may take; an answer comes in milliseconds, or not at all.
const LIMIT: Duration = Duration::from_secs(3);

/// Sends each input over a connection of its own. Returns how many were taken by the server.
pub(crate) async fn send_all(address: &str, inputs: Vec<Vec<u8>>) -> usize {
    let sent = stream::iter(inputs).map(|input| async move {
        let sent = timeout(LIMIT, send(address, &input)).await;
        usize::from(sent.is_ok_and(|sent| sent.is_ok()))
    });
    let sent = sent.buffer_unordered(CONNECTIONS_MAX);
    sent.fold(0, |all, one| std::future::ready(all + one)).await
}

/// Sends an input, then the end, and waits for the first bytes of an answer, or the end. A server
/// may refuse the connection, or close it before it has read everything.
async fn send(address: &str, input: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let written = stream.write_all(input).await;
    if written.is_ok() {
        let _ = stream.shutdown().await;
    }
    let _ = stream.read(&mut [0; 4096]).await;
    Ok(())
}
