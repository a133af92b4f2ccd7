//! A real etcd of one member, on ports from the system.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, Identity, KeyValue, PutOptions, TlsOptions,
};
use rustix::process::test_kill_process;

use crate::certificates::Files;
use crate::process::Process;
use crate::{signals, until};

/// How often another pair of ports is tried, if somebody else takes one first.
const START_ATTEMPTS_MAX: usize = 5;

/// A running etcd. Killed when dropped, and when the test process ends in any way.
#[derive(Debug)]
pub struct Etcd {
    name: String,
    data: PathBuf,
    tls: Option<TlsPaths>,
    /// More of its flags.
    flags: Vec<String>,
    client_port: u16,
    peer_port: u16,
    process: Process,
}

/// The files of an etcd that speaks TLS only and asks for a client certificate, read when it starts.
#[derive(Clone, Debug)]
struct TlsPaths {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    /// What the tests themselves show it.
    client: (PathBuf, PathBuf),
}

impl Etcd {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(None, &[]).await
    }

    /// Starts one with more flags.
    pub async fn start_flagged(flags: &[&str]) -> Self {
        Self::start_with(None, flags).await
    }

    /// Starts `etcd grpc-proxy` before it, and waits until that listens. Returns it with its endpoint.
    pub async fn proxied(&self) -> (Process, String) {
        let address = format!("127.0.0.1:{}", free_ports().0);
        let proxy = Process::start(
            "proxy",
            "etcd",
            [
                "grpc-proxy".into(),
                "start".into(),
                format!("--endpoints={}", self.address()),
                format!("--listen-addr={address}"),
            ],
        );
        until("the proxy listens", async || {
            assert!(proxy.ended().is_none(), "{}", proxy.output());
            let connected = tokio::net::TcpStream::connect(&address).await;
            connected.map_err(|error| error.to_string())
        })
        .await;
        (proxy, format!("http://{address}"))
    }

    /// Starts one that speaks TLS only, and asks for a client certificate; see [`tls`].
    pub async fn start_tls() -> Self {
        let tls = TlsPaths {
            ca: tls::file("ca"),
            cert: tls::file("server"),
            key: tls::file("server-key"),
            client: (tls::file("client"), tls::file("client-key")),
        };
        Self::start_with(Some(tls), &[]).await
    }

    /// The same with these files: it takes clients of their authorities, and shows their certificate.
    pub async fn start_certified(files: &Files) -> Self {
        let [ca, cert, key] = ["ca.crt", "tls.crt", "tls.key"].map(|file| files.path(file));
        let client = (cert.clone(), key.clone());
        let tls = TlsPaths {
            ca,
            cert,
            key,
            client,
        };
        Self::start_with(Some(tls), &[]).await
    }

    async fn start_with(tls: Option<TlsPaths>, flags: &[&str]) -> Self {
        let mut attempts = 1;
        loop {
            let etcd = Self::launch(tls.clone(), flags);
            if etcd.answers().await {
                return etcd;
            }
            assert!(attempts < START_ATTEMPTS_MAX, "{}", etcd.process.output());
            attempts += 1;
        }
    }

    fn launch(tls: Option<TlsPaths>, flags: &[&str]) -> Self {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let data = data_folder();
        let name = data
            .file_name()
            .and_then(|name| name.to_str())
            .expect("made of ASCII")
            .to_owned();
        let (client_port, peer_port) = free_ports();
        let process = run(&name, &data, tls.as_ref(), &flags, client_port, peer_port);
        Self {
            name,
            data,
            tls,
            flags,
            client_port,
            peer_port,
            process,
        }
    }

    /// Waits until this etcd answers, or has ended.
    async fn answers(&self) -> bool {
        until("etcd answers", async || {
            if self.process.ended().is_some() {
                return Ok(false); // Another process has one of the ports.
            }
            // The name tells whether it is ours, and not another that took the port first.
            let names = self.member_names().await?;
            if names == [self.name.as_str()] {
                Ok(true)
            } else {
                Err(format!("{names:?} answer"))
            }
        })
        .await
    }

    async fn member_names(&self) -> Result<Vec<String>, String> {
        let ask = async {
            let mut client = self.try_client().await?;
            client.member_list().await
        };
        let members = ask.await.map_err(|error| error.to_string())?;
        let names = members
            .members()
            .iter()
            .map(|member| member.name().to_owned());
        Ok(names.collect())
    }

    /// Returns its address as clients take it.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", scheme(self.tls.as_ref()), self.address())
    }

    /// Returns its host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Returns a raw client, for what our store does not offer.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub async fn client(&self) -> Client {
        self.try_client().await.expect("etcd runs")
    }

    async fn try_client(&self) -> Result<Client, etcd_client::Error> {
        let mut options = ConnectOptions::new();
        if let Some(TlsPaths { ca, client, .. }) = &self.tls {
            let read = |file: &Path| fs::read(file).expect("a certificate of the tests");
            let identity = Identity::from_pem(read(&client.0), read(&client.1));
            let tls = TlsOptions::new()
                .ca_certificate(Certificate::from_pem(read(ca)))
                .identity(identity);
            options = options.with_tls(tls);
        }
        Client::connect([self.endpoint()], Some(options)).await
    }

    /// Returns all keys with a prefix, with their values.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub async fn entries(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let prefixed = GetOptions::new().with_prefix();
        let reply = self.client().await.get(prefix, Some(prefixed)).await;
        let reply = reply.expect("etcd answers");
        let entry = |kv: &KeyValue| (kv.key_str().expect("UTF-8").to_owned(), kv.value().to_vec());
        reply.kvs().iter().map(entry).collect()
    }

    /// Returns a lease of a minute that no one keeps alive.
    ///
    /// # Panics
    ///
    /// If it cannot be granted.
    pub async fn lease(&self) -> i64 {
        let granted = self.client().await.lease_grant(60, None).await;
        granted.expect("etcd runs").id()
    }

    /// Writes a key that ends with a lease.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub async fn put_on(&self, lease: i64, key: String, value: String) {
        let options = PutOptions::new().with_lease(lease);
        let written = self.client().await.put(key, value, Some(options)).await;
        written.expect("etcd runs");
    }

    /// Kills it. Its data stays for [`Etcd::restart`].
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts it again on its data and ports, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If somebody else has taken one of its ports meanwhile.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = run(
            &self.name,
            &self.data,
            self.tls.as_ref(),
            &self.flags,
            self.client_port,
            self.peer_port,
        );
        assert!(self.answers().await, "{}", self.process.output());
    }

    /// Starts it again on its ports without any data, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If somebody else has taken one of its ports meanwhile.
    pub async fn lose_data(&mut self) {
        self.process.kill();
        fs::remove_dir_all(&self.data).expect("its own folder");
        self.restart().await;
    }

    /// Saves a snapshot of its data, and returns where.
    ///
    /// # Panics
    ///
    /// If it cannot be saved.
    pub fn snapshot(&self) -> PathBuf {
        let file = self.data.with_extension("snapshot");
        let endpoints = format!("--endpoints={}", self.endpoint());
        etcdctl(&[&endpoints, "snapshot", "save", path(&file)]);
        file
    }

    /// Goes back to a snapshot: all that was written since is forgotten. Waits until it answers.
    ///
    /// # Panics
    ///
    /// If the snapshot cannot be restored, or somebody else has taken one of its ports meanwhile.
    pub async fn restore(&mut self, snapshot: &Path) {
        self.process.kill();
        fs::remove_dir_all(&self.data).expect("its own folder");
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let name = &self.name;
        etcdctl(&[
            "snapshot",
            "restore",
            path(snapshot),
            &format!("--name={name}"),
            &format!("--data-dir={}", path(&self.data)),
            &format!("--initial-cluster={name}={peer}"),
            &format!("--initial-advertise-peer-urls={peer}"),
            &format!("--initial-cluster-token={name}-restored"),
        ]);
        self.restart().await;
    }

    /// Stops it, and returns once it has stopped. Connections stay open and silent.
    pub async fn freeze(&self) {
        signals::freeze(self.process.pid()).await;
    }

    /// Continues it, and returns once it runs.
    pub async fn thaw(&self) {
        signals::thaw(self.process.pid()).await;
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.process.kill();
        // What cannot be removed is swept by a later run.
        drop(fs::remove_dir_all(&self.data));
        drop(fs::remove_file(self.data.with_extension("snapshot")));
    }
}

fn path(of: &Path) -> &str {
    of.to_str().expect("made of ASCII")
}

/// Runs `etcdctl`, which must succeed.
fn etcdctl(args: &[&str]) {
    let output = process::Command::new("etcdctl").args(args).output();
    let output = output.expect("etcdctl is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
}

fn scheme(tls: Option<&TlsPaths>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

fn run(
    name: &str,
    data: &Path,
    tls: Option<&TlsPaths>,
    flags: &[String],
    client_port: u16,
    peer_port: u16,
) -> Process {
    let client = format!("{}://127.0.0.1:{client_port}", scheme(tls));
    let peer = format!("http://127.0.0.1:{peer_port}");
    let mut args = vec![
        format!("--name={name}"),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster={name}={peer}"),
        format!("--initial-cluster-token={name}"),
        "--logger=zap".into(),
        "--log-level=warn".into(),
    ];
    if let Some(TlsPaths { ca, cert, key, .. }) = tls {
        args.push("--client-cert-auth".into());
        args.push(format!("--trusted-ca-file={}", ca.display()));
        args.push(format!("--cert-file={}", cert.display()));
        args.push(format!("--key-file={}", key.display()));
    }
    args.extend(flags.iter().cloned());
    Process::start(name, "etcd", args)
}

/// The certificates of the tests.
pub mod tls {
    use std::path::{Path, PathBuf};

    /// Returns the path of `ca`, `other-ca`, `client`, `client-key`, or of etcd's own `server` and `server-key`.
    pub fn file(name: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls");
        folder.join(name).with_extension("pem")
    }
}

/// Returns two ports that are free at this moment.
fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
    let (one, other) = (bind(), bind());
    (port(&one), port(&other))
}

/// Makes a folder whose name no other etcd has, and sweeps those of test processes that are gone.
fn data_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let all = std::env::temp_dir().join("steading-tests");
    fs::create_dir_all(&all).expect("a temporary folder");
    sweep(&all);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = all.join(format!("etcd-{}-{count}", process::id()));
    let mut private = fs::DirBuilder::new();
    private
        .mode(0o700)
        .create(&folder)
        .expect("nobody else uses this name");
    folder
}

fn sweep(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix("etcd-")?.split('-').next()?.parse().ok())
            .and_then(rustix::process::Pid::from_raw);
        if pid.is_some_and(|pid| test_kill_process(pid).is_err()) {
            drop(fs::remove_dir_all(entry.path()));
            drop(fs::remove_file(entry.path()));
        }
    }
}
