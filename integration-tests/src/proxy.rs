//! A network path to servers that a test can break, or lead elsewhere.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::until;

/// How the path behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Everything goes through.
    Open,
    /// Connections stay, and new ones are accepted, but nothing goes through.
    Silent,
    /// All connections break, and new ones do so at once.
    Broken,
}

#[derive(Clone, Copy, Debug)]
struct State {
    path: Path,
    /// How often all connections were broken.
    breaks: u64,
}

/// What is under way, so that a change of the path can wait for it.
#[derive(Debug, Default)]
struct UnderWay {
    connections: AtomicUsize,
    writes: AtomicUsize,
}

/// Counts one while it lives. Taken before the state is read: a change of the state thus either is
/// seen by its holder, or sees the holder.
struct Counted(Arc<UnderWay>, fn(&UnderWay) -> &AtomicUsize);

impl Counted {
    fn new(under_way: &Arc<UnderWay>, counter: fn(&UnderWay) -> &AtomicUsize) -> Self {
        counter(under_way).fetch_add(1, Ordering::SeqCst);
        Self(under_way.clone(), counter)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}

/// Forwards TCP connections to servers. Ends, with all connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    servers: watch::Sender<Vec<String>>,
    under_way: Arc<UnderWay>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Begins to forward to the server at this address.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = watch::Sender::new(State {
            path: Path::Open,
            breaks: 0,
        });
        let servers = watch::Sender::new(vec![server]);
        let under_way = Arc::<UnderWay>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            servers.subscribe(),
            state.clone(),
            under_way.clone(),
        ));
        Self {
            address,
            state,
            servers,
            under_way,
            _tasks: tasks,
        }
    }

    /// Returns its host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Leads new connections to these servers in turn; those that are open stay where they are. A service of Kubernetes
    /// does the same.
    pub fn lead_to<'a>(&self, servers: impl IntoIterator<Item = &'a str>) {
        let servers = servers.into_iter().map(str::to_owned).collect();
        self.servers.send_replace(servers);
    }

    /// Changes the path, and returns once it behaves so: no connection that was to break is open,
    /// and no write that a silent path must hold back is under way.
    ///
    /// # Panics
    ///
    /// If a write does not end, since its reader does not read.
    pub async fn set(&self, path: Path) {
        self.state.send_modify(|state| {
            state.path = path;
            state.breaks += u64::from(path == Path::Broken);
        });
        until(&format!("the path is {path:?}"), async || {
            let left = match path {
                Path::Open => 0,
                Path::Silent => self.under_way.writes.load(Ordering::SeqCst),
                Path::Broken => self.under_way.connections.load(Ordering::SeqCst),
            };
            (left == 0)
                .then_some(())
                .ok_or_else(|| format!("{left} left"))
        })
        .await;
    }
}

async fn accept(
    listener: TcpListener,
    servers: watch::Receiver<Vec<String>>,
    state: watch::Sender<State>,
    under_way: Arc<UnderWay>,
) {
    let mut connections = JoinSet::new();
    let mut accepted = 0;
    while let Ok((client, _)) = listener.accept().await {
        let server = {
            let servers = servers.borrow();
            servers.get(accepted % servers.len().max(1)).cloned()
        };
        accepted += 1;
        let open = Counted::new(&under_way, |under_way| &under_way.connections);
        let State { path, breaks } = *state.borrow();
        match server {
            Some(server) if path != Path::Broken => {
                connections.spawn(forward(client, server, state.subscribe(), breaks, open));
            }
            Some(_) | None => {} // The connection ends at once.
        }
    }
}

/// Forwards one connection until either side closes it, or all were broken since `breaks`.
async fn forward(
    client: TcpStream,
    server: String,
    state: watch::Receiver<State>,
    breaks: u64,
    open: Counted,
) {
    let under_way = &open.0;
    let copied = async {
        let server = TcpStream::connect(server).await?;
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        tokio::select! {
            biased;
            copied = copy(client_read, server_write, state.clone(), under_way) => copied,
            copied = copy(server_read, client_write, state.clone(), under_way) => copied,
        }
    };
    let mut broken = state.clone();
    tokio::select! {
        biased;
        _ = broken.wait_for(|state| state.breaks != breaks) => {}
        _ = copied => {} // The sockets are closed now, whatever the outcome.
    }
}

async fn copy(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    under_way: &Arc<UnderWay>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        loop {
            let writing = Counted::new(under_way, |under_way| &under_way.writes);
            if state.borrow_and_update().path == Path::Open {
                to.write_all(&buffer[..len]).await?;
                break;
            }
            // What was on its way when the path fell silent arrives when it opens again.
            drop(writing);
            state.changed().await.map_err(io::Error::other)?;
        }
    }
}
