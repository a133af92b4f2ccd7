//! What is kept open to etcd: watches and keep-alives.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use etcd_client::{
    Client, Error, LeaseKeepAliveStream, LeaseKeeper, WatchOptions, WatchResponse,
    WatchStream as EtcdWatchStream,
};
use futures::{Stream, stream};
use tokio::sync::watch;

use super::failure::{self, Context};
use super::members::Members;
use super::{ANSWER_LEN_MAX, convert};
use crate::coordination::store::{KeepAlive, StoreError, WatchBatch};
use crate::ids::{LeaseId, Revision};

/// One open watch.
pub(super) struct EtcdWatch {
    stream: EtcdWatchStream,
    members: Arc<Members>,
    member: usize,
    /// Changes when the store turns to another member: this one may be silent for ever.
    left: watch::Receiver<usize>,
}

impl EtcdWatch {
    /// Opens a watch, and waits until etcd says that it has.
    pub(super) async fn open(
        client: Client,
        members: Arc<Members>,
        member: usize,
        prefix: &str,
        from: Revision,
    ) -> Result<Self, StoreError> {
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(convert::raw(from).max(1)) // To etcd, zero means now.
            .with_progress_notify();
        let left = members.left();
        let mut client = client
            .watch_client()
            .max_decoding_message_size(ANSWER_LEN_MAX);
        let opened = client.watch(prefix, Some(options)).await;
        let mut watch = Self {
            stream: opened.map_err(|error| Context::READ.classify(&error))?,
            members,
            member,
            left,
        };
        let first = watch.message().await?;
        if first.created() {
            Ok(watch)
        } else {
            Err(StoreError::Protocol("a watch that begins amidst".into()))
        }
    }

    /// Returns the batches, until and with the first error.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<WatchBatch, StoreError>> + Send {
        stream::unfold(Some(self), async |watch| {
            let mut watch = watch?;
            match watch.next_batch().await {
                Ok(batch) => Some((Ok(batch), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next_batch(&mut self) -> Result<WatchBatch, StoreError> {
        let mut left = self.left.clone();
        let message = tokio::select! {
            message = self.message() => message?,
            _ = left.changed() => {
                return Err(StoreError::Unavailable("left its etcd member".into()));
            }
        };
        convert::batch(message.events(), message.header())
    }

    /// Returns the next answer; an end of any kind is an error.
    async fn message(&mut self) -> Result<WatchResponse, StoreError> {
        match self.stream.message().await {
            Ok(Some(message)) if message.compact_revision() > 0 => Err(StoreError::Compacted(
                convert::revision(message.compact_revision()),
            )),
            Ok(Some(message)) if message.canceled() => {
                Err(failure::of_cancelled_watch(message.cancel_reason()))
            }
            Ok(Some(message)) => {
                self.members.admit(self.member, message.header())?;
                Ok(message)
            }
            Ok(None) => Err(StoreError::Unavailable("etcd ended the watch".into())),
            Err(error) => Err(Context::READ.classify(&error)),
        }
    }
}

/// One stream of keep-alives.
pub(super) struct EtcdKeepAlive {
    keeper: LeaseKeeper,
    stream: LeaseKeepAliveStream,
    lease: LeaseId,
    members: Arc<Members>,
    member: usize,
}

impl EtcdKeepAlive {
    /// Opens a stream of keep-alives. This sends one, and waits for its reply.
    pub(super) async fn open(
        client: Client,
        members: Arc<Members>,
        member: usize,
        lease: LeaseId,
    ) -> Result<Self, StoreError> {
        match client.lease_client().keep_alive(lease.get()).await {
            Ok((keeper, stream)) => Ok(Self {
                keeper,
                stream,
                lease,
                members,
                member,
            }),
            // The client's words for a reply without time to live.
            Err(Error::LeaseKeepAliveError(why)) if why == "lease not found" => {
                Err(StoreError::LeaseGone(lease))
            }
            Err(error) => Err(Context::READ.classify(&error)),
        }
    }

    async fn exchange(&mut self) -> Result<Revision, StoreError> {
        let sent = self.keeper.keep_alive().await;
        sent.map_err(|error| Context::READ.classify(&error))?;
        match self.stream.message().await {
            Ok(Some(reply)) if reply.ttl() > 0 => self.members.admit(self.member, reply.header()),
            Ok(Some(_)) => Err(StoreError::LeaseGone(self.lease)),
            Ok(None) => Err(StoreError::Unavailable("etcd ended the stream".into())),
            Err(error) => Err(Context::READ.classify(&error)),
        }
    }
}

#[async_trait]
impl KeepAlive for EtcdKeepAlive {
    async fn ping(&mut self) -> Result<Revision, StoreError> {
        let members = self.members.clone();
        let answer = members.limited(Context::READ, self.exchange()).await;
        answer.inspect_err(|error| members.leave_failed(self.member, error))
    }
}

impl fmt::Debug for EtcdKeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdKeepAlive")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
