//! The members of the etcd cluster, and which of them is asked.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use etcd_client::{Client, ResponseHeader};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tracing::{debug, error};

use super::failure::Context;
use super::settings::EtcdSettings;
use crate::coordination::evidence::Evidence;
use crate::coordination::store::StoreError;
use crate::ids::Revision;

/// All members; requests go to the current one.
pub(super) struct Members {
    all: Vec<Member>,
    current: watch::Sender<usize>,
    /// The etcd cluster ID of the first answer.
    cluster: OnceLock<u64>,
    settings: EtcdSettings,
}

struct Member {
    endpoint: String,
    /// The etcd cluster that it last said to be of, if that is another one than ours; else zero.
    foreign: AtomicU64,
    login: Mutex<Option<Login>>,
}

/// A client that has logged in.
#[derive(Clone)]
struct Login {
    client: Client,
    /// Whether a request succeeded with it. If etcd then refuses access, it may have run out.
    proved: Arc<AtomicBool>,
    /// Which certificates it has: those that were replaced this often.
    certificates: u64,
}

impl Members {
    pub(super) fn new(settings: &EtcdSettings) -> Result<Self, StoreError> {
        settings.check()?;
        let member = |endpoint: &String| Member {
            endpoint: endpoint.clone(),
            foreign: AtomicU64::new(0),
            login: Mutex::new(None),
        };
        Ok(Self {
            all: settings.endpoints.iter().map(member).collect(),
            current: watch::Sender::new(0),
            cluster: OnceLock::new(),
            settings: settings.clone(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn endpoint(&self, index: usize) -> &str {
        &self.all[index].endpoint
    }

    /// Sends a request once, to the current member, and leaves that one if it fails.
    pub(super) async fn ask_current<T, F>(
        &self,
        context: Context,
        request: impl FnOnce(usize, Client) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let index = self.current();
        let result = self.ask(index, context, request).await;
        result.map_err(|error| {
            self.leave_failed(index, &error);
            error.at(self.endpoint(index))
        })
    }

    /// Sends a request once, to one member, within the time limit.
    pub(super) async fn ask<T, F>(
        &self,
        index: usize,
        context: Context,
        request: impl FnOnce(usize, Client) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        // The request is not sent before there is a client, so failing to log in has no effect.
        // Both are boxed for they are large, beside what etcd takes for an answer.
        let login = self.limited(Context::READ, Box::pin(self.login(index)));
        let login = login.await?;
        if self.all[index].foreign.load(Ordering::Relaxed) != 0 {
            // It must first say that it is of our cluster again: it would carry a write out.
            let client = login.client.clone();
            self.limited(Context::READ, Box::pin(self.identify(index, client)))
                .await?;
        }
        let result = self.limited(context, Box::pin(request(index, login.client)));
        match result.await {
            Ok(answer) => {
                login.proved.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Err(StoreError::Refused(why))
                if self.settings.user.is_some() && login.proved.load(Ordering::Relaxed) =>
            {
                debug!(why, "logging in to etcd again");
                *self.all[index].login.lock().await = None;
                Err(StoreError::Unavailable(why))
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses an answer of another etcd cluster, and returns the revision of every other one. A
    /// proxy may leave out the cluster ID, and the revision; those are zero.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replaced`] once every endpoint is of another cluster than ours. Until then such
    /// an endpoint is as good as down, and so [`StoreError::Unavailable`]: our cluster did nothing.
    pub(super) fn admit(
        &self,
        index: usize,
        header: Option<&ResponseHeader>,
    ) -> Result<Revision, StoreError> {
        let found = header.map_or(0, ResponseHeader::cluster_id);
        let revision = header.map_or(0, ResponseHeader::revision);
        let revision = Revision::new(u64::try_from(revision).unwrap_or_default());
        let joined = match found {
            0 => return Ok(revision),
            found => *self.cluster.get_or_init(|| found),
        };
        let member = &self.all[index];
        if found == joined {
            member.foreign.store(0, Ordering::Relaxed);
            return Ok(revision);
        }
        let endpoint = &member.endpoint;
        if member.foreign.swap(found, Ordering::Relaxed) != found {
            error!(
                endpoint,
                found = format!("{found:x}"),
                joined = format!("{joined:x}"),
                "this endpoint belongs to another etcd cluster: not using it"
            );
        }
        let is_foreign = |member: &Member| member.foreign.load(Ordering::Relaxed) != 0;
        if self.all.iter().all(is_foreign) {
            return Err(StoreError::Replaced(Evidence::OtherEtcd {
                endpoint: endpoint.clone(),
                joined,
                found,
            }));
        }
        Err(StoreError::Unavailable(format!(
            "it belongs to etcd cluster {found:x}, not to {joined:x}"
        )))
    }

    /// Checks that no endpoint which answered is of another etcd cluster than the others.
    ///
    /// # Errors
    ///
    /// [`StoreError::Protocol`], which names one that is.
    pub(super) fn agree(&self) -> Result<(), StoreError> {
        let joined = self.cluster.get().copied().unwrap_or_default();
        for member in &self.all {
            let found = member.foreign.load(Ordering::Relaxed);
            if found != 0 {
                return Err(StoreError::Protocol(format!(
                    "the endpoints belong to different etcd clusters: {} to {found:x}, others to {joined:x}",
                    member.endpoint
                )));
            }
        }
        Ok(())
    }

    async fn identify(&self, index: usize, client: Client) -> Result<(), StoreError> {
        let status = client.maintenance_client().status().await;
        let status = status.map_err(|error| Context::READ.classify(&error))?;
        self.admit(index, status.header()).map(drop)
    }

    /// Fails a request that takes too long.
    pub(super) async fn limited<T>(
        &self,
        context: Context,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit = self.settings.request_timeout;
        timeout(limit, request)
            .await
            .unwrap_or_else(|_| Err(context.effect.unanswered(format!("no answer in {limit:?}"))))
    }

    /// Returns the member that requests go to.
    pub(super) fn current(&self) -> usize {
        *self.current.borrow()
    }

    /// Turns to the next member after a transient error, unless that happened already.
    pub(super) fn leave_failed(&self, index: usize, error: &StoreError) {
        let next = (index + 1) % self.len();
        if !error.is_transient() || next == index {
            return;
        }
        self.current.send_if_modified(|current| {
            let leaves = *current == index;
            if leaves {
                debug!(from = self.endpoint(index), %error, "left an etcd member");
                *current = next;
            }
            leaves
        });
    }

    /// Returns what ends once another member is turned to.
    pub(super) fn left(&self) -> watch::Receiver<usize> {
        self.current.subscribe()
    }

    async fn login(&self, index: usize) -> Result<Login, StoreError> {
        let member = &self.all[index];
        // Held while logging in, so that many requests at once log in once.
        let mut login = member.login.lock().await;
        // A connection of old certificates lives as long as it may; whatever opens one has new ones.
        let certificates = match &self.settings.tls {
            Some(tls) => tls.number().await,
            None => 0,
        };
        if let Some(login) = &*login
            && login.certificates == certificates
        {
            return Ok(login.clone());
        }
        // Without a user this sends nothing; the connection is made by the first request.
        let options = self.settings.connect_options();
        let connected = Client::connect([&member.endpoint], Some(options)).await;
        let client = connected.map_err(|error| Context::READ.classify(&error))?;
        let proved = Arc::default();
        let new = Login {
            client,
            proved,
            certificates,
        };
        Ok(login.insert(new).clone())
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.all.iter().map(|member| &member.endpoint);
        f.debug_list().entries(endpoints).finish()
    }
}
