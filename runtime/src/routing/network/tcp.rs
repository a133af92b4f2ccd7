//! The real network.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use super::{Io, Listener, Network, Origin};
use crate::connections::{Acceptor, Connections};

/// How many connections the system keeps that clients have made and a server has not yet taken. The
/// system may allow fewer: on Linux `net.core.somaxconn`, 4096 by default.
///
/// When a gate or a node comes back, all its clients come at once. Whom the system cannot keep
/// waits a second and more until it tries again, and may even believe to be connected.
const BACKLOG: u32 = 1024;

/// Listens on the first address of `host:port` that can be had, as all of Steading's servers do;
/// port 0 stands for any free one. Up to 1024 connections wait for a server that is busy.
///
/// # Errors
///
/// Whatever the system says: the port is in use, the address is not of this machine.
pub async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "the host has no address");
    for address in lookup_host(address).await? {
        match listen_at(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A process that begins anew must not wait until the connections of its last life are forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

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

    async fn listen(&self, address: &str, connections: &Connections) -> io::Result<Listener> {
        let listener = listen(address).await?;
        let address = listener.local_addr()?;
        let acceptor = Acceptor::new(listener, connections.clone());
        let incoming = acceptor.into_stream().map(|(stream, address, slot)| {
            Ok(Io::new(stream).with_origin(Origin {
                address: Some(address),
                slot: Some(slot),
                role: None,
            }))
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
    use futures::future::try_join_all;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    #[tokio::test]
    async fn bytes_go_both_ways() {
        let mut listener = TcpNetwork
            .listen("127.0.0.1:0", &Connections::for_tests())
            .await
            .unwrap();
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
    async fn a_crowd_that_connects_at_once_is_kept_until_it_is_taken() {
        const CROWD: usize = 500;
        const LIMIT: Duration = Duration::from_secs(45);
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
        let allowed = allowed.map(|text| text.trim().parse().unwrap_or(0));
        if allowed.is_ok_and(|allowed: usize| allowed < CROWD) {
            println!("not shown: this system keeps fewer");
            return;
        }
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let crowd = (0..CROWD).map(|_| TcpStream::connect(address));
        let crowd = timeout(LIMIT, try_join_all(crowd)).await;
        let crowd = crowd.expect("nobody waits for another try").unwrap();
        let mut theirs: Vec<_> = crowd.iter().map(|one| one.local_addr().unwrap()).collect();
        let mut taken = Vec::new();
        for _ in 0..CROWD {
            taken.push(listener.accept().await.unwrap().1);
        }
        theirs.sort_unstable();
        taken.sort_unstable();
        assert_eq!(theirs, taken);
    }

    #[tokio::test]
    async fn an_address_is_looked_up_and_one_that_cannot_be_had_is_refused() {
        let named = listen("localhost:0").await.unwrap();
        assert!(named.local_addr().unwrap().ip().is_loopback());
        for (address, kind) in [
            ("192.0.2.1:0", io::ErrorKind::AddrNotAvailable),
            ("127.0.0.1", io::ErrorKind::InvalidInput),
        ] {
            let refused = listen(address).await.unwrap_err();
            assert_eq!(refused.kind(), kind, "{address}: {refused}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_refused() {
        let first = TcpNetwork
            .listen("127.0.0.1:0", &Connections::for_tests())
            .await
            .unwrap();
        let second = TcpNetwork
            .listen(&first.address.to_string(), &Connections::for_tests())
            .await;
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
