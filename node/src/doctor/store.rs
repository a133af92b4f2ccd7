//! Asks the store itself, by way of no node.

use std::time::Duration;

use steading::coordination::keys::BadEntry;
use steading::coordination::{EtcdSettings, EtcdStore};
use steading::ids::{NodeId, Revision};
use steading::node::{ObservedStore, Observer, ObserverSettings};
use steading_settings::StoreSettings;
use tokio::time::{Instant, timeout};

use super::facts::StoreFacts;
use super::gather::ASK_TIMEOUT;
use crate::http::{Cluster, Heard};
use crate::output::with_causes;
use crate::settings::SettingsError;

/// How long reading the whole cluster may take.
const READ_TIMEOUT: Duration = Duration::from_secs(8);

/// Examines the store, if its endpoints are given.
pub(super) async fn examine(settings: &StoreSettings) -> Result<Option<StoreFacts>, SettingsError> {
    if settings.etcd.is_empty() {
        return Ok(None);
    }
    let etcd = EtcdSettings {
        connect_timeout: ASK_TIMEOUT,
        request_timeout: ASK_TIMEOUT,
        ..settings.etcd_settings()?
    };
    let (members, cluster) = tokio::join!(
        EtcdStore::examine(&etcd),
        timeout(READ_TIMEOUT, read(&etcd, settings.prefix.as_str()))
    );
    let members = match members {
        Ok(members) => members
            .into_iter()
            .map(|(endpoint, told)| (endpoint, told.map_err(|error| with_causes(&error))))
            .collect(),
        Err(error) => vec![("etcd".to_owned(), Err(with_causes(&error)))],
    };
    let read = cluster.unwrap_or_else(|_| Err(format!("no answer within {READ_TIMEOUT:?}")));
    let (cluster, irregular) = match read {
        Ok((cluster, irregular)) => (Ok(cluster), irregular),
        Err(why) => (Err(why), Vec::new()),
    };
    Ok(Some(StoreFacts {
        members,
        cluster,
        irregular,
    }))
}

async fn read(etcd: &EtcdSettings, prefix: &str) -> Result<(Cluster, Vec<BadEntry>), String> {
    let settings = ObserverSettings {
        store: ObservedStore::Etcd(etcd.clone()),
        prefix: prefix.to_owned(),
        tls: None, // It asks no node.
        name: NodeId::new("doctor").expect("a good name"),
    };
    let observer = Observer::connect(&settings).await;
    let observer = observer.map_err(|error| with_causes(&error))?;
    let mut views = observer.subscribe();
    let seen = views
        .wait_for(|view| view.revision > Revision::new(0))
        .await;
    let cluster = seen.map(|view| Cluster::of(&view, &Heard::nothing(Instant::now())));
    let cluster = cluster.map_err(|error| error.to_string());
    let irregular = observer.irregularities().await;
    observer.stop().await;
    Ok((cluster?, irregular.map_err(|error| with_causes(&error))?))
}
