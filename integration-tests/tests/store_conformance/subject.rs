//! A store under test, and what the tests ask of it.

use std::sync::Arc;

use futures::StreamExt;
use steading::coordination::store::{
    Compare, Entry, Event, Op, Store, StoreError, Txn, TxnReply, WatchBatch, WatchStream,
};
use steading::coordination::{EtcdSettings, EtcdStore, MemoryStore};
use steading::ids::{LeaseId, Revision};
use steading_integration_tests::LIMIT;
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::proxy::{Path, Proxy};
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// A store under test.
pub(super) struct Subject {
    /// Two clients of the same store.
    pub(super) store: Arc<dyn Store>,
    pub(super) other: Arc<dyn Store>,
    /// Begins every key of this test: some tests share an etcd.
    prefix: &'static str,
    kind: Kind,
    /// An etcd that no other test uses.
    own: Option<Etcd>,
}

enum Kind {
    Memory(MemoryStore),
    /// With the proxy between the first client and etcd.
    Etcd(Proxy),
}

impl Subject {
    pub(super) fn memory(prefix: &'static str) -> Self {
        let memory = MemoryStore::new();
        Self {
            store: Arc::new(memory.clone()),
            other: Arc::new(memory.client()),
            prefix,
            kind: Kind::Memory(memory),
            own: None,
        }
    }

    pub(super) async fn etcd(prefix: &'static str) -> Self {
        static SHARED: OnceCell<Etcd> = OnceCell::const_new();
        Self::on(SHARED.get_or_init(Etcd::start).await, prefix).await
    }

    /// On an etcd of its own, which the test may spoil for others.
    pub(super) async fn own_etcd(prefix: &'static str) -> Self {
        let etcd = Etcd::start().await;
        let subject = Self::on(&etcd, prefix).await;
        Self {
            own: Some(etcd),
            ..subject
        }
    }

    pub(super) async fn on(etcd: &Etcd, prefix: &'static str) -> Self {
        let proxy = Proxy::start(etcd.address()).await;
        let proxied = format!("http://{}", proxy.address());
        Self {
            store: Arc::new(connect(EtcdSettings::new([proxied])).await),
            other: Arc::new(connect(EtcdSettings::new([etcd.endpoint()])).await),
            prefix,
            kind: Kind::Etcd(proxy),
            own: None,
        }
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// Breaks every stream that the first client has open.
    pub(super) async fn break_streams(&self) {
        match &self.kind {
            Kind::Memory(memory) => memory.faults().break_watches(),
            Kind::Etcd(proxy) => {
                proxy.set(Path::Broken).await;
                proxy.set(Path::Open).await;
            }
        }
    }

    pub(super) async fn compact(&self, revision: Revision) {
        match &self.kind {
            Kind::Memory(memory) => memory.compact(revision),
            Kind::Etcd(_) => {
                let mut client = self.own.as_ref().expect("an own etcd").client().await;
                let revision = revision.get().try_into().expect("small");
                client.compact(revision, None).await.expect("etcd runs");
            }
        }
    }

    pub(super) fn put(&self, name: &str, value: &str) -> Op {
        self.put_under(name, value, None)
    }

    pub(super) fn put_under(&self, name: &str, value: &str, lease: Option<LeaseId>) -> Op {
        Op::Put {
            key: self.key(name),
            value: value.into(),
            lease,
        }
    }

    pub(super) async fn write(&self, then: Vec<Op>) -> Revision {
        self.commit(vec![], then, vec![]).await.revision
    }

    pub(super) async fn commit(
        &self,
        compares: Vec<Compare>,
        then: Vec<Op>,
        otherwise: Vec<Op>,
    ) -> TxnReply {
        let txn = Txn {
            compares,
            then,
            otherwise,
        };
        self.store.commit(txn).await.expect("a good transaction")
    }

    pub(super) async fn entries(&self) -> Vec<Entry> {
        let listing = self.store.list(&self.key("")).await;
        listing.expect("the store runs").entries
    }

    pub(super) async fn names(&self) -> Vec<String> {
        let entries = self.entries().await;
        let name = |entry: Entry| entry.key[self.prefix.len() + 1..].to_owned();
        entries.into_iter().map(name).collect()
    }

    pub(super) async fn watch(&self, from: Revision) -> WatchStream {
        let watch = self.store.watch(&self.key(""), from).await;
        watch.expect("the store runs")
    }
}

pub(super) async fn connect(settings: EtcdSettings) -> EtcdStore {
    EtcdStore::connect(settings).await.expect("etcd runs")
}

pub(super) async fn next(stream: &mut WatchStream) -> Result<WatchBatch, StoreError> {
    let next = timeout(LIMIT, stream.next()).await.expect("in time");
    next.expect("a watch ends only after an error")
}

/// Reads a watch until it has brought everything up to `revision`.
pub(super) async fn events_until(stream: &mut WatchStream, revision: Revision) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let batch = next(stream).await.expect("the watch goes on");
        let newest = batch.events.iter().map(revision_of).max();
        assert!(newest <= Some(batch.revision), "{batch:?}");
        events.extend(batch.events);
        if batch.revision >= revision {
            return events;
        }
    }
}

pub(super) fn revision_of(event: &Event) -> Revision {
    match event {
        Event::Put(entry) => entry.mod_revision,
        Event::Delete { revision, .. } => *revision,
    }
}

pub(super) fn after(revision: Revision) -> Revision {
    Revision::new(revision.get() + 1)
}
