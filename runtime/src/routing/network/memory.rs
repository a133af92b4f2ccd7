//! A network within one process, with faults on command.
//!
//! Works on a paused clock in a single thread: nothing here waits for real time.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{Io, Listener, Network};
use crate::connections::Connections;

/// Bytes under way in one direction of a connection.
const BUFFER_LEN: usize = 256 * 1024;

/// Connections that were opened but not yet accepted, a listener.
const BACKLOG_MAX: usize = 128;

/// A network that all nodes of a cluster in one process share. Cheap to clone.
///
/// Each node speaks through a port of its own, [`MemoryNetwork::port`], so that faults can be
/// put between any two of them.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    wires: Mutex<Wires>,
    /// Told at every change of the partitions, for those who wait to connect.
    healed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Wires {
    listeners: BTreeMap<SocketAddr, Listening>,
    next_port: u16,
    parted: Vec<Pair>,
    refused: Vec<String>,
    links: Vec<(Pair, Weak<Link>)>,
}

#[derive(Debug)]
struct Listening {
    name: String,
    connections: mpsc::Sender<io::Result<Io>>,
}

/// Two names, the smaller one first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair(String, String);

impl Pair {
    fn new(a: &str, b: &str) -> Self {
        Self(a.min(b).into(), a.max(b).into())
    }
}

impl MemoryNetwork {
    /// Begins with no listener and no fault.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the network as the node called `name` sees it.
    pub fn port(&self, name: &str) -> Arc<dyn Network> {
        Arc::new(Port {
            name: name.into(),
            shared: self.shared.clone(),
        })
    }

    /// Lets no byte pass between two nodes until [`MemoryNetwork::heal`]. Their connections stay
    /// but stall, and new ones hang, as when packets are dropped.
    pub fn partition(&self, a: &str, b: &str) {
        let mut wires = self.shared.wires.lock();
        let pair = Pair::new(a, b);
        wires.set_links(&pair, Health::Stalled);
        if !wires.parted.contains(&pair) {
            wires.parted.push(pair);
        }
    }

    /// Ends a partition: what was held back arrives.
    pub fn heal(&self, a: &str, b: &str) {
        let pair = Pair::new(a, b);
        let mut wires = self.shared.wires.lock();
        wires.parted.retain(|parted| *parted != pair);
        wires.set_links(&pair, Health::Good);
        drop(wires);
        self.shared.healed.send_replace(());
    }

    /// Breaks every connection there is between two nodes; new ones can be made.
    pub fn cut(&self, a: &str, b: &str) {
        let pair = Pair::new(a, b);
        self.shared.wires.lock().set_links(&pair, Health::Cut);
    }

    /// Breaks every connection of a node, as when its process dies.
    pub fn cut_all(&self, name: &str) {
        let wires = self.shared.wires.lock();
        for (pair, link) in &wires.links {
            if let (true, Some(link)) = (pair.0 == name || pair.1 == name, link.upgrade()) {
                link.set(Health::Cut);
            }
        }
    }

    /// Sets whether connections to a node are refused from now on.
    pub fn refuse(&self, name: &str, refuse: bool) {
        let refused = &mut self.shared.wires.lock().refused;
        refused.retain(|refused| refused != name);
        if refuse {
            refused.push(name.into());
        }
    }
}

impl Wires {
    fn set_links(&mut self, pair: &Pair, health: Health) {
        self.links.retain(|(_, link)| link.strong_count() > 0);
        for (between, link) in &self.links {
            if let (true, Some(link)) = (between == pair, link.upgrade()) {
                link.set(health);
            }
        }
    }
}

/// The network as one node sees it.
#[derive(Debug)]
struct Port {
    name: String,
    shared: Arc<Shared>,
}

#[async_trait]
impl Network for Port {
    async fn connect(&self, address: &str) -> io::Result<Io> {
        let address: SocketAddr = address
            .parse()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut healed = self.shared.healed.subscribe();
        let (connections, there) = loop {
            match self.reach(address)? {
                Some(reached) => break reached,
                None => healed
                    .changed()
                    .await
                    .expect("the network holds the sender"),
            }
        };
        connections
            .send(Ok(there.0))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(there.1)
    }

    async fn listen(&self, address: &str, _: &Connections) -> io::Result<Listener> {
        let mut address: SocketAddr = address
            .parse()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let (connections, accepted) = mpsc::channel(BACKLOG_MAX);
        let mut wires = self.shared.wires.lock();
        wires
            .listeners
            .retain(|_, listening| !listening.connections.is_closed());
        if address.port() == 0 {
            wires.next_port = wires.next_port.max(1023) + 1;
            address = (Ipv4Addr::LOCALHOST, wires.next_port).into();
        }
        if wires.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let name = self.name.clone();
        wires
            .listeners
            .insert(address, Listening { name, connections });
        Ok(Listener {
            address,
            incoming: ReceiverStream::new(accepted).boxed(),
        })
    }
}

/// Where to hand one end of a new connection, and both ends: theirs, ours.
type Reached = (mpsc::Sender<io::Result<Io>>, (Io, Io));

impl Port {
    /// Makes a connection; `None` while a partition is in the way.
    fn reach(&self, address: SocketAddr) -> io::Result<Option<Reached>> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let mut wires = self.shared.wires.lock();
        let listening = wires.listeners.get(&address).ok_or_else(refused)?;
        let (name, connections) = (listening.name.clone(), listening.connections.clone());
        let pair = Pair::new(&self.name, &name);
        if wires.parted.contains(&pair) {
            return Ok(None);
        }
        if connections.is_closed() || wires.refused.contains(&name) {
            return Err(refused());
        }
        let link = Arc::new(Link::default());
        wires.links.retain(|(_, link)| link.strong_count() > 0);
        wires.links.push((pair, Arc::downgrade(&link)));
        let (a, b) = tokio::io::duplex(BUFFER_LEN);
        let [a, b] = [a, b].map(|stream| {
            Io::new(LinkEnd {
                stream,
                link: link.clone(),
            })
        });
        Ok(Some((connections, (a, b))))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Health {
    #[default]
    Good,
    Stalled,
    Cut,
}

/// What both ends of a connection share.
#[derive(Debug, Default)]
struct Link {
    state: Mutex<(Health, Vec<Waker>)>,
}

impl Link {
    /// Changes the health; a cut connection stays cut.
    fn set(&self, health: Health) {
        let mut state = self.state.lock();
        if state.0 != Health::Cut {
            state.0 = health;
        }
        state.1.drain(..).for_each(Waker::wake);
    }

    /// Is ready while bytes may pass. Every caller is woken by a change of health.
    fn poll(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.lock();
        if !state.1.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.1.push(cx.waker().clone());
        }
        match state.0 {
            Health::Good => Poll::Ready(Ok(())),
            Health::Stalled => Poll::Pending,
            Health::Cut => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

struct LinkEnd {
    stream: DuplexStream,
    link: Arc<Link>,
}

impl AsyncRead for LinkEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.link.poll(cx))?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for LinkEnd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.link.poll(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.link.poll(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    /// A network, and a connection from `a` to a listener of `b`.
    async fn connected() -> (MemoryNetwork, Listener, Io, Io) {
        let network = MemoryNetwork::new();
        let mut listener = network
            .port("b")
            .listen("127.0.0.1:0", &Connections::for_tests())
            .await
            .unwrap();
        let address = listener.address.to_string();
        let here = network.port("a").connect(&address).await.unwrap();
        let there = listener.incoming.next().await.unwrap().unwrap();
        (network, listener, here, there)
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_holds_bytes_back_and_healing_lets_them_through() {
        let (network, _listener, mut here, mut there) = connected().await;
        network.partition("b", "a");
        let mut byte = [0];
        let second = Duration::from_secs(1);
        assert!(timeout(second, here.write_all(b"x")).await.is_err());
        assert!(timeout(second, there.read_exact(&mut byte)).await.is_err());
        let healing = async {
            tokio::time::sleep(second).await;
            network.heal("a", "b");
        };
        let (sent, read, ()) =
            tokio::join!(here.write_all(b"y"), there.read_exact(&mut byte), healing);
        assert!(sent.is_ok() && read.is_ok() && byte == *b"y");
    }

    #[tokio::test(start_paused = true)]
    async fn connecting_across_a_partition_hangs_until_it_heals() {
        let (network, listener, ..) = connected().await;
        let (address, port) = (listener.address.to_string(), network.port("a"));
        network.partition("a", "b");
        let mut connecting = port.connect(&address);
        assert!(
            timeout(Duration::from_secs(9), &mut connecting)
                .await
                .is_err()
        );
        network.heal("a", "b");
        assert!(connecting.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_breaks_both_ends_and_new_connections_work() {
        let (network, mut listener, mut here, mut there) = connected().await;
        network.cut("a", "b");
        let reset = io::ErrorKind::ConnectionReset;
        assert_eq!(here.write_all(b"x").await.unwrap_err().kind(), reset);
        assert_eq!(there.read_u8().await.unwrap_err().kind(), reset);
        let address = listener.address.to_string();
        let mut here = network.port("a").connect(&address).await.unwrap();
        let mut there = listener.incoming.next().await.unwrap().unwrap();
        here.write_all(b"z").await.unwrap();
        assert_eq!(there.read_u8().await.unwrap(), b'z');
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_refuses_or_stopped_listening_cannot_be_reached() {
        let (network, listener, ..) = connected().await;
        let (address, port) = (listener.address.to_string(), network.port("a"));
        network.refuse("b", true);
        let refused = io::ErrorKind::ConnectionRefused;
        assert_eq!(port.connect(&address).await.unwrap_err().kind(), refused);
        network.refuse("b", false);
        assert!(port.connect(&address).await.is_ok());
        drop(listener);
        assert_eq!(port.connect(&address).await.unwrap_err().kind(), refused);
    }
}
