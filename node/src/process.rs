//! One node or gate as a process: logs, servers, signals.

mod console;
mod door;
mod grpc;
mod listen;
mod serve;
mod signals;

use std::sync::Arc;

use steading::coordination::Evidence;
use steading::coordination::keys::InvalidRegistration;
use steading::ids::NodeId;
use steading::node::{HealthSettings, ObservedStore, ObserverSettings};
use steading::storage::{EmbeddedStorage, MemoryStorage, OpenError, Storage};
use steading::tls::Tls;
use steading::{Node, NodeBuilder, StartError};

use crate::app::App;
use crate::exit::Exit;
use crate::settings::{Replace, Role, Settings, SettingsError, StorageChoice};
use crate::supervise::Tether;
use steading_settings::raise_descriptors;
use steading_telemetry::{OtlpSettings, Telemetry};

pub(crate) use console::console;
pub(crate) use grpc::GrpcExtras;
pub(crate) use listen::{Listening, bind, warn_if_open};
pub(crate) use serve::Server;
pub(crate) use signals::Signals;

/// Why a process could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// A setting is missing, or cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// An address cannot be listened on.
    #[error("`{setting}`: cannot listen on {address}")]
    Listen {
        setting: &'static str,
        address: String,
        #[source]
        source: std::io::Error,
    },
    /// The process that is to be supervised cannot be started or watched.
    #[error("`supervise`: cannot run the node as a child")]
    Supervise(#[source] std::io::Error),
    /// The folder of the storage cannot be opened.
    #[error("`storage`")]
    Storage(#[source] OpenError),
    /// The node cannot become part of its cluster.
    #[error("cannot start the node")]
    Start(#[source] StartError),
    /// The log's thread cannot be started.
    #[error("cannot start the log")]
    Log(#[source] std::io::Error),
    /// The variable that marks a supervised child is set in another process.
    #[error("the variable `{variable}` is set, but the standard input is not the socket of `--supervise`: unset it", variable = crate::supervise::CHILD_VARIABLE)]
    NotSupervised(#[source] std::io::Error),
    /// The system does not tell of signals.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// The storage ended for good; the nodes left their cluster.
    #[error("the storage has failed: {0}")]
    StorageFailed(String),
    /// The store is not the one that the node joined.
    #[error("the node ended: its store is not the one that it joined")]
    Replaced(#[source] Evidence),
    /// The node ended by itself.
    #[error("the node ended by an error of its own; the log has more")]
    Died,
}

impl ProcessError {
    /// Returns the process's exit code for this error.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Settings(_) | Self::NotSupervised(_) => Exit::Usage,
            Self::Replaced(_) => Exit::Replaced,
            Self::Listen { .. }
            | Self::Storage(_)
            | Self::Start(_)
            | Self::Log(_)
            | Self::Signals(_)
            | Self::Supervise(_)
            | Self::StorageFailed(_)
            | Self::Died => Exit::Failed,
        }
    }
}

/// Runs a node or gate until a signal, and drains it then.
pub(crate) async fn run(
    app: &App,
    settings: &Settings,
    role: Role,
    json: bool,
) -> Result<Exit, ProcessError> {
    settings.check(role)?;
    let id = settings.node_id()?;
    let telemetry = Telemetry::new(OtlpSettings::of_this_process()?)?;
    let _log = settings
        .logs
        .start_with(telemetry.log_layer(id.as_str()), console())
        .map_err(ProcessError::Log)?;
    let mut signals = Signals::new().map_err(ProcessError::Signals)?;
    // Whatever is wrong with settings or files is said before any address is taken.
    let access = settings.inspector.access()?;
    let tls = settings.tls.load()?;
    let page_tls = settings.inspector.tls()?;
    let listeners = 2 + usize::from(settings.inspector.inspector_listen.is_some());
    let limits = settings.limits.of(raise_descriptors(), listeners);
    let builder = builder(settings, role, tls.as_ref())?
        .connection_limits(limits)
        .memory_budget(settings.limits.budget());
    let (listener, http) = bind("http_listen", &settings.http_listen).await?;
    let inspector = match &settings.inspector.inspector_listen {
        Some(address) => Some(bind("inspector_listen", address).await?),
        None => None,
    };
    let extras = GrpcExtras::new().await;
    let storage = open_storage(&settings.storage(role)).await?;
    let builder = telemetry
        .trace(id.as_str(), builder)
        .id(id.clone())
        .http_address(http.to_string())
        .storage(storage.clone())
        .grpc_routes(extras.routes());
    let observed = observed(
        settings,
        ObservedStore::Etcd(settings.store.etcd_settings()?),
        tls.clone(),
    );
    let tether = Tether::of_this_process().map_err(ProcessError::NotSupervised)?;
    let node = launch(app.types_into(builder)).await?;
    telemetry.measure(id.as_str(), node.metrics());
    warn_if_open(settings);

    let server = Server::new();
    if let Some(tether) = tether {
        signals.follow(tether.hold(&node, server.tasks()));
    }
    let guard = settings.http_guard(http.ip());
    server.add(&node, listener, extras, limits, tls.as_ref(), &guard);
    let page_encrypted = page_tls.is_some();
    let inspector = inspector.map(|(listener, address)| {
        server.inspector(&node, observed, access, listener, limits, page_tls);
        address.to_string()
    });
    Listening {
        node: &node,
        http,
        encrypted: tls.is_some(),
        inspector: inspector.as_deref(),
        page_encrypted,
    }
    .announce(json);
    let ended = signals
        .or_end_of(
            std::slice::from_ref(&node),
            server.door(),
            failing(&*storage, &server),
        )
        .await;
    server.stop().await;
    telemetry.stop().await;
    ended
}

/// Waits until a part of the process has ended without which its nodes should not go on.
pub(crate) async fn failing(storage: &dyn Storage, server: &Server) -> ProcessError {
    tokio::select! {
        why = storage.failed() => ProcessError::StorageFailed(why),
        // The log has said which of its tasks ended.
        () = server.tasks().shutdown().cancelled() => ProcessError::Died,
    }
}

/// Begins a node with everything the settings say, but its name, types, storage and servers.
pub(crate) fn builder(
    settings: &Settings,
    role: Role,
    tls: Option<&Tls>,
) -> Result<NodeBuilder, ProcessError> {
    let labels = settings
        .labels
        .iter()
        .map(|label| (label.name.clone(), label.value.clone()));
    let plan_settings = settings.planner.plan_settings(settings.num_shards)?;
    let mut builder = Node::builder()
        .prefix(settings.store.prefix.as_str())
        .shard_count(settings.num_shards)
        .regions(settings.checked_regions()?)
        .listen(settings.grpc_listen.to_string())
        .weight(settings.weight(role))
        .labels(labels.collect())
        .lease_ttl(settings.lease_ttl)
        .drain_timeout(settings.drain_timeout)
        .plan_settings(plan_settings)
        .health(HealthSettings {
            interval: settings.health_interval,
            failures: settings.health_failures,
        })
        .replace(match settings.replace {
            Replace::Lock => steading::coordination::membership::Replace::Lock,
            Replace::Always => steading::coordination::membership::Replace::Always,
            Replace::Never => steading::coordination::membership::Replace::Never,
        });
    if let Some(address) = &settings.grpc_advertise {
        builder = builder.advertise(address.to_string());
    }
    if let Some(tls) = tls {
        builder = builder.tls(tls.clone());
    }
    if let Some(zone) = settings.zone.as_ref().filter(|zone| !zone.is_empty()) {
        builder = builder.zone(zone);
    }
    if !settings.store.etcd.is_empty() {
        builder = builder.etcd_settings(settings.store.etcd_settings()?);
    }
    Ok(builder)
}

/// Returns what the Inspector of this process looks at.
pub(crate) fn observed(
    settings: &Settings,
    store: ObservedStore,
    tls: Option<Tls>,
) -> ObserverSettings {
    ObserverSettings {
        store,
        tls,
        prefix: settings.store.prefix.as_str().to_owned(),
        name: NodeId::new("inspector").expect("a good name"),
    }
}

/// Opens where objects' state is kept.
pub(crate) async fn open_storage(choice: &StorageChoice) -> Result<Arc<dyn Storage>, ProcessError> {
    match choice {
        StorageChoice::Memory => Ok(Arc::new(MemoryStorage::new())),
        StorageChoice::Embedded(path) => match EmbeddedStorage::open(path).await {
            Ok(storage) => Ok(Arc::new(storage)),
            Err(error) => Err(ProcessError::Storage(error)),
        },
        StorageChoice::Other(_) => unreachable!("the settings were checked"),
    }
}

/// Starts a node; it joins in the background.
pub(crate) async fn launch(builder: NodeBuilder) -> Result<Node, ProcessError> {
    builder.launch().await.map_err(|error| {
        if let StartError::Listen {
            address,
            reason,
            kind,
        } = error
        {
            let source = std::io::Error::new(kind, reason);
            return ProcessError::Listen {
                setting: "grpc_listen",
                address,
                source,
            };
        }
        if let StartError::Tls(error) = error {
            return ProcessError::Settings(error.into());
        }
        if let StartError::Registration(InvalidRegistration { field, why }) = error {
            let setting = field;
            return ProcessError::Settings(SettingsError::Refused { setting, why });
        }
        ProcessError::Start(error)
    })
}
