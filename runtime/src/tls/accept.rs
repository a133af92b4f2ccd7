//! Handshakes of clients that connect: many at a time, each with a time limit, none waits for
//! another.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures::future::{AbortHandle, Abortable};
use futures::stream::{FuturesUnordered, Stream, StreamExt, unfold};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::cluster::Cluster;
use super::role::Role;
use super::watched::Current;
use super::{ServerTls, Tls, plain, words};
use crate::telemetry::{CertificateMetrics, HandshakeLabels};
use crate::write_through::write_through;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many handshakes may be under way at a server. One more ends the oldest: a client that means
/// it has long been done by then, and clients that stall cannot keep others out.
const HANDSHAKES_MAX: usize = 512;

/// Clients that fail are logged as a warning once in this time, and otherwise for debugging: anyone
/// can connect in vain as often as they like.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// How many bytes of a connection are read to see whether they are TLS.
const START_LEN: usize = 16;

/// Which clients a server takes, and with which certificate of its own.
#[derive(Clone, Debug)]
pub enum Clients {
    /// Those that show a certificate of the cluster.
    Certified(Tls),
    /// Those without any certificate too. A bad one is worse than none, and refused.
    All(Tls),
    /// Anybody: none is asked for a certificate.
    Anybody(ServerTls),
}

impl Clients {
    fn terms(&self) -> Terms {
        match self {
            Self::Certified(tls) => {
                let cluster = tls.current();
                let config = cluster.material.strict_server.clone();
                (config, Some(cluster))
            }
            Self::All(tls) => {
                let cluster = tls.current();
                let config = cluster.material.lenient_server.clone();
                (config, Some(cluster))
            }
            Self::Anybody(tls) => (tls.config(), None),
        }
    }
}

/// How a server shakes hands, and the cluster whose certificates it asks for.
type Terms = (Arc<ServerConfig>, Option<Arc<Current<Cluster>>>);

/// A connection after its handshake.
#[derive(Debug)]
pub struct Accepted<T, A> {
    /// The connection.
    pub io: TlsStream<Begun<T>>,
    /// What the client is by the certificate that it showed.
    pub role: Role,
    /// Where it comes from.
    pub from: A,
}

/// Shakes hands with all that come, and passes on those with whom that succeeds, in the order in
/// which they are done. Failures are counted and logged. Errors of `incoming` are passed on.
///
/// Handshakes go on while the stream is polled.
pub fn accept<T, A>(
    incoming: impl Stream<Item = io::Result<(T, A)>> + Send + Unpin + 'static,
    clients: Clients,
    metrics: CertificateMetrics,
) -> impl Stream<Item = io::Result<Accepted<T, A>>> + Send
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: fmt::Debug + Send + 'static,
{
    let handshakes = Handshakes {
        incoming,
        under_way: FuturesUnordered::new(),
        handles: BTreeMap::new(),
        begun: 0,
        clients,
        failures: Failures {
            metrics,
            warned: None,
        },
    };
    unfold(handshakes, |mut handshakes| async move {
        let next = handshakes.next().await?;
        Some((next, handshakes))
    })
}

type Handshake<T, A> = Pin<Box<dyn Future<Output = Ended<T, A>> + Send>>;

/// Which handshake it was, who it was with, and how it ended.
type Ended<T, A> = (u64, A, Result<(TlsStream<Begun<T>>, Role), Failure>);

struct Handshakes<S, T, A> {
    incoming: S,
    under_way: FuturesUnordered<Handshake<T, A>>,
    /// By age.
    handles: BTreeMap<u64, AbortHandle>,
    begun: u64,
    clients: Clients,
    failures: Failures,
}

/// Why there is no connection.
#[derive(Debug)]
enum Failure {
    /// It closed without a word, as probes of ports do.
    Silent,
    /// It does not speak TLS.
    Plain,
    /// It took too long.
    Late,
    /// Too many others came while it took its time.
    Crowded,
    /// One end refused the other, in words.
    Refused(String),
}

impl Failure {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Plain => "plain",
            Self::Late => "late",
            Self::Crowded => "crowded",
            Self::Refused(_) => "refused",
        }
    }
}

/// What may come of a handshake.
pub(crate) const OUTCOMES: [&str; 6] = ["done", "silent", "plain", "late", "crowded", "refused"];

impl<S, T, A> Handshakes<S, T, A>
where
    S: Stream<Item = io::Result<(T, A)>> + Unpin,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: fmt::Debug + Send + 'static,
{
    /// Cancel-safe: handshakes that are under way stay so.
    async fn next(&mut self) -> Option<io::Result<Accepted<T, A>>> {
        loop {
            tokio::select! {
                Some((id, from, ended)) = self.under_way.next() => {
                    self.handles.remove(&id);
                    match ended {
                        Ok((io, role)) => {
                            self.failures.count("done");
                            return Some(Ok(Accepted { io, role, from }));
                        }
                        Err(failure) => self.failures.tell(&failure, &from),
                    }
                }
                arrived = self.incoming.next() => match arrived? {
                    Ok((io, from)) => self.begin(io, from),
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }

    fn begin(&mut self, io: T, from: A) {
        if self.handles.len() >= HANDSHAKES_MAX
            && let Some((_, oldest)) = self.handles.pop_first()
        {
            oldest.abort();
        }
        let id = self.begun;
        self.begun += 1;
        let terms = self.clients.terms();
        let (handle, registration) = AbortHandle::new_pair();
        self.handles.insert(id, handle);
        let handshake = Abortable::new(
            timeout(HANDSHAKE_TIMEOUT, shake_hands(io, terms)),
            registration,
        );
        self.under_way.push(Box::pin(async move {
            let ended = match handshake.await {
                Ok(Ok(ended)) => ended,
                Ok(Err(_)) => Err(Failure::Late),
                Err(_) => Err(Failure::Crowded),
            };
            (id, from, ended)
        }));
    }
}

async fn shake_hands<T>(
    mut io: T,
    (config, cluster): Terms,
) -> Result<(TlsStream<Begun<T>>, Role), Failure>
where
    T: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut start = [0; START_LEN];
    let len = match io.read(&mut start).await {
        Ok(0) | Err(_) => return Err(Failure::Silent),
        Ok(len) => len,
    };
    let start = &start[..len];
    if !plain::is_tls(start) {
        // It may be gone already.
        drop(plain::answer(&mut io, start).await);
        return Err(Failure::Plain);
    }
    let begun = Begun {
        start: start.to_vec(),
        io,
    };
    let accepted = TlsAcceptor::from(config).accept(begun).await;
    let stream = accepted.map_err(|error| Failure::Refused(words::of_io(&error).to_string()))?;
    let shown = stream.get_ref().1.peer_certificates();
    let role = cluster.map_or(Role::Anonymous, |cluster| {
        cluster.material.roles.of(shown, SystemTime::now())
    });
    Ok((stream, role))
}

/// Counts failures, and logs some of them.
struct Failures {
    metrics: CertificateMetrics,
    warned: Option<Instant>,
}

impl Failures {
    fn count(&self, outcome: &'static str) {
        let labels = HandshakeLabels { outcome };
        self.metrics.handshakes.get_or_create(&labels).inc();
    }

    fn tell(&mut self, failure: &Failure, from: &dyn fmt::Debug) {
        self.count(failure.outcome());
        let why = match failure {
            Failure::Silent => {
                debug!(?from, "a client closed before the handshake");
                return;
            }
            Failure::Plain => "it speaks no TLS",
            Failure::Late => "it took too long",
            Failure::Crowded => "too many others came while it took its time",
            Failure::Refused(why) => why,
        };
        let now = Instant::now();
        let is_due = self.warned.is_none_or(|last| now - last >= WARN_INTERVAL);
        if is_due {
            self.warned = Some(now);
            warn!(
                ?from,
                why, "refused a client; more within {WARN_INTERVAL:?} are not told"
            );
        } else {
            debug!(?from, why, "refused a client");
        }
    }
}

/// A connection of which some bytes were read already.
#[derive(Debug)]
pub struct Begun<T> {
    /// What was read, until it has been passed on.
    start: Vec<u8>,
    io: T,
}

impl<T: AsyncRead + Unpin> AsyncRead for Begun<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.start.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let len = self.start.len().min(buffer.remaining());
        buffer.put_slice(&self.start[..len]);
        self.start.drain(..len);
        Poll::Ready(Ok(()))
    }
}

write_through!(impl<T> for Begun<T>, io);

#[cfg(test)]
mod tests;
