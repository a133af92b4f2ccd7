//! How each member of etcd is, for operators.

use std::time::Duration;

use etcd_client::{AlarmAction, AlarmType, Client};
use futures::future::join_all;
use tokio::time::Instant;

use super::EtcdStore;
use super::failure::Context;
use super::members::Members;
use crate::coordination::store::StoreError;

/// How a member of etcd is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberHealth {
    /// Its version.
    pub version: String,
    /// The ID of the etcd cluster that it belongs to; zero if it does not say.
    pub cluster_id: u64,
    /// Whether it knows a leader: without one there is no quorum.
    pub has_leader: bool,
    /// The size of its database.
    pub database_bytes: u64,
    /// Its alarms, such as `NOSPACE`: with that one it takes no writes.
    pub alarms: Vec<String>,
    /// How long it took to tell.
    pub took: Duration,
}

/// What one member told, or why it did not, with its endpoint.
pub type Told = (String, Result<MemberHealth, StoreError>);

impl EtcdStore {
    /// Asks every member how it is, without being connected: works where nothing else does.
    ///
    /// # Errors
    ///
    /// [`StoreError::Protocol`] for settings that cannot work.
    pub async fn examine(settings: &super::EtcdSettings) -> Result<Vec<Told>, StoreError> {
        let members = Members::new(settings)?;
        let asked = (0..members.len()).map(|index| {
            let members = &members;
            async move {
                let told = members
                    .ask(index, Context::READ, |_, client| health_of(client))
                    .await;
                (members.endpoint(index).to_owned(), told)
            }
        });
        Ok(join_all(asked).await)
    }
}

async fn health_of(mut client: Client) -> Result<MemberHealth, StoreError> {
    let classify = |error: etcd_client::Error| Context::READ.classify(&error);
    let began = Instant::now();
    let status = client.status().await.map_err(classify)?;
    let took = began.elapsed();
    let has_leader = status.leader() != 0;
    // Without a leader nobody answers this.
    let alarms = if has_leader {
        let get = client.alarm(AlarmAction::Get, AlarmType::None, None).await;
        let named = |alarm: &etcd_client::AlarmMember| match alarm.alarm() {
            AlarmType::None => "NONE".to_owned(),
            AlarmType::Nospace => "NOSPACE".to_owned(),
            AlarmType::Corrupt => "CORRUPT".to_owned(),
        };
        get.map_err(classify)?.alarms().iter().map(named).collect()
    } else {
        Vec::new()
    };
    Ok(MemberHealth {
        version: status.version().to_owned(),
        cluster_id: status
            .header()
            .map_or(0, etcd_client::ResponseHeader::cluster_id),
        has_leader,
        database_bytes: u64::try_from(status.db_size()).unwrap_or_default(),
        alarms,
        took,
    })
}
