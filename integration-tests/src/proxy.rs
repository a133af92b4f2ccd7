//! A network path to servers that a test can break, or lead elsewhere.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::sync::watch;
use tokio::task::JoinSet;

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

/// Forwards TCP connections to servers. Ends, with all connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    servers: watch::Sender<Vec<String>>,
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
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, servers.subscribe(), state.clone()));
        Self {
            address,
            state,
            servers,
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

    /// Makes the path behave so from now on.
    pub fn set(&self, path: Path) {
        self.state.send_modify(|state| {
            state.path = path;
            state.breaks += u64::from(path == Path::Broken);
        });
    }
}

async fn accept(
    listener: TcpListener,
    servers: watch::Receiver<Vec<String>>,
    state: watch::Sender<State>,
) {
    let mut connections = JoinSet::new();
    let mut accepted = 0;
    while let Ok((client, _)) = listener.accept().await {
        let server = {
            let servers = servers.borrow();
            servers.get(accepted % servers.len().max(1)).cloned()
        };
        accepted += 1;
        match server {
            Some(server) if state.borrow().path != Path::Broken => {
                connections.spawn(forward(client, server, state.subscribe()));
            }
            Some(_) | None => {} // The connection ends at once.
        }
    }
}

async fn forward(client: TcpStream, server: String, mut state: watch::Receiver<State>) {
    let breaks = state.borrow().breaks;
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        _ = copy(client_read, server_write, state.clone()) => {}
        _ = copy(server_read, client_write, state.clone()) => {}
        _ = state.wait_for(|state| state.breaks != breaks) => {}
    }
}

async fn copy(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = from.read(&mut buffer).await?;
        // What was on its way when the path fell silent arrives when it opens again.
        let open = state
            .wait_for(|state| state.path == Path::Open)
            .await
            .is_ok();
        if len == 0 || !open {
            return Ok(());
        }
        to.write_all(&buffer[..len]).await?;
    }
}
