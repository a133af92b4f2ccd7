//! Whether etcd takes transactions as large as a cluster needs.
//!
//! A plan is one transaction that proves the leader's term, so it cannot be split. An etcd with
//! lowered limits rejects it, and says so to nobody but the leader.

use super::EtcdStore;
use super::failure::Context;
use crate::coordination::etcd::convert;
use crate::coordination::store::{Compare, Op, StoreError, TXN_OPS_MAX, Txn};
use crate::ids::Revision;

/// The largest request that a cluster needs, in bytes, with some room: a plan of every shard, with the records of
/// other plans. etcd's own default is half as much again.
pub(super) const REQUEST_LEN_NEEDED: usize = 1 << 20;

/// What a request has besides a value, at most, in bytes.
const OVERHEAD: usize = 4 << 10;

/// Part of etcd's answer to a transaction of too many operations.
pub(super) const TOO_MANY_OPERATIONS: &str = "too many operations in txn request";

/// Parts of etcd's, or its gRPC server's, answer to a request that is too large.
pub(super) const TOO_LARGE: [&str; 2] =
    ["request is too large", "received message larger than max"];

impl EtcdStore {
    /// Sends the largest transactions that a cluster needs. Neither changes anything; the second
    /// goes through etcd's log once, with 1 MiB.
    ///
    /// # Errors
    ///
    /// [`StoreError::Limits`] names the limit that is too low.
    pub async fn check_limits(&self, prefix: &str) -> Result<(), StoreError> {
        let key = format!("{prefix}limits");
        let many = Txn {
            then: vec![Op::Get(key.clone()); TXN_OPS_MAX],
            ..Txn::default()
        };
        let large = Txn {
            compares: vec![Compare::Created(key.clone(), Revision::new(u64::MAX >> 1))], // Never holds.
            then: vec![Op::Put {
                key,
                value: vec![b' '; REQUEST_LEN_NEEDED - OVERHEAD],
                lease: None,
            }],
            ..Txn::default()
        };
        for txn in [many, large] {
            let txn = convert::txn(txn);
            let request = |_, mut client: etcd_client::Client| {
                let txn = txn.clone();
                async move {
                    let reply = client.txn(txn).await;
                    reply.map_err(|error| Context::READ.classify(&error))
                }
            };
            self.read(request).await?;
        }
        Ok(())
    }
}
