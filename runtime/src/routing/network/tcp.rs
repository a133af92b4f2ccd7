//! The real network.

use std::io;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;

use super::{Io, Listener, Network};

/// TCP without Nagle's delay: a batch is never held back for the acknowledgement of the last one,
/// which would cost 40 ms and more.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpNetwork;

#[async_trait]
impl Network for TcpNetwork {
    async fn connect(&self, address: &str) -> io::Result<Io> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Io::new(stream))
    }

    async fn listen(&self, address: &str) -> io::Result<Listener> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let incoming = TcpListenerStream::new(listener).map(|accepted| {
            let stream = accepted?;
            stream.set_nodelay(true)?;
            Ok(Io::new(stream))
        });
        Ok(Listener {
            address,
            incoming: incoming.boxed(),
        })
    }

    fn has_settings(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_go_both_ways() {
        let mut listener = TcpNetwork.listen("127.0.0.1:0").await.unwrap();
        let mut here = TcpNetwork
            .connect(&listener.address.to_string())
            .await
            .unwrap();
        let mut there = listener.incoming.next().await.unwrap().unwrap();
        here.write_all(b"ping").await.unwrap();
        there.write_all(b"pong").await.unwrap();
        let (mut at_here, mut at_there) = ([0; 4], [0; 4]);
        here.read_exact(&mut at_here).await.unwrap();
        there.read_exact(&mut at_there).await.unwrap();
        assert_eq!((&at_here, &at_there), (b"pong", b"ping"));
    }

    #[tokio::test]
    async fn a_port_in_use_is_refused() {
        let first = TcpNetwork.listen("127.0.0.1:0").await.unwrap();
        let second = TcpNetwork.listen(&first.address.to_string()).await;
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
