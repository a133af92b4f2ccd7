//! A network path to a server that a test can break.

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

/// Forwards TCP connections to a server. Ends, with all connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
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
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, state.clone()));
        Self {
            address,
            state,
            _tasks: tasks,
        }
    }

    /// Returns its host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Makes the path behave so from now on.
    pub fn set(&self, path: Path) {
        self.state.send_modify(|state| {
            state.path = path;
            state.breaks += u64::from(path == Path::Broken);
        });
    }
}

async fn accept(listener: TcpListener, server: String, state: watch::Sender<State>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if state.borrow().path == Path::Broken {
            continue;
        }
        connections.spawn(forward(client, server.clone(), state.subscribe()));
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
