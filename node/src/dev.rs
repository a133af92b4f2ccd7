//! `dev`: several nodes in one process, with the Inspector.

use std::sync::Arc;

use steading::coordination::MemoryStore;
use steading::ids::NodeId;
use steading::node::ObservedStore;

use crate::app::App;
use crate::args::{DevArgs, Ports};
use crate::exit::Exit;
use crate::process::{
    GrpcExtras, Listening, ProcessError, Server, Signals, bind, builder, console, failing, launch,
    observed, open_storage, warn_if_open,
};
use crate::settings::{Address, Role, Settings, SettingsError};
use steading_settings::raise_descriptors;
use steading_telemetry::{OtlpSettings, Telemetry};

/// Runs the nodes until a signal. Without etcd they share a store in memory.
pub(crate) async fn run(app: &App, args: &DevArgs, json: bool) -> Result<Exit, ProcessError> {
    args.settings.check(Role::Dev)?;
    let telemetry = Telemetry::new(OtlpSettings::of_this_process()?)?;
    let _log = args
        .settings
        .logs
        .start_with(telemetry.log_layer("dev"), console())
        .map_err(ProcessError::Log)?;
    let mut signals = Signals::new().map_err(ProcessError::Signals)?;
    // Whatever is wrong with settings or files is said before any address is taken.
    let tls = args.settings.tls.load()?;
    let page_tls = args.settings.inspector.tls()?;
    let page_encrypted = page_tls.is_some();
    let store = Arc::new(MemoryStore::new());
    let storage = open_storage(&args.settings.storage(Role::Dev)).await?;
    let address = inspector_address(args);
    let (inspector_listener, inspector) = bind("inspector_listen", &address).await?;

    let listeners = 2 * usize::from(args.nodes) + 1;
    let limits = args.settings.limits.of(raise_descriptors(), listeners);
    let budget = args.settings.limits.budget();
    let (mut nodes, server) = (Vec::new(), Server::new());
    for number in 0..args.nodes {
        let settings = numbered(args, number)?;
        let (listener, http) = bind("http_listen", &settings.http_listen).await?;
        let extras = GrpcExtras::new().await;
        let id = node_id(&settings, number)?;
        let mut node = telemetry
            .trace(id.as_str(), builder(&settings, Role::Dev, tls.as_ref())?)
            .id(id.clone())
            .http_address(http.to_string())
            .grpc_routes(extras.routes())
            .connection_limits(limits)
            .memory_budget(budget.clone())
            .storage(storage.clone());
        if settings.store.etcd.is_empty() {
            node = node.store(store.clone());
        }
        let node = launch(app.types_into(node)).await?;
        telemetry.measure(id.as_str(), node.metrics());
        warn_if_open(&settings);
        let guard = settings.http_guard(http.ip());
        server.add(&node, listener, extras, limits, tls.as_ref(), &guard);
        nodes.push((node, http));
    }
    let observed_store = if args.settings.store.etcd.is_empty() {
        ObservedStore::Given(store)
    } else {
        ObservedStore::Etcd(args.settings.store.etcd_settings()?)
    };
    let access = args.settings.inspector.access()?;
    server.inspector(
        &nodes[0].0,
        observed(&args.settings, observed_store, tls.clone()),
        access,
        inspector_listener,
        limits,
        page_tls,
    );
    for (node, http) in &nodes {
        let inspector = inspector.to_string();
        Listening {
            node,
            http: *http,
            encrypted: tls.is_some(),
            inspector: Some(&inspector),
            page_encrypted,
        }
        .announce(json);
    }
    let nodes: Vec<_> = nodes.into_iter().map(|(node, _)| node).collect();
    let ended = signals
        .or_end_of(&nodes, server.door(), failing(&*storage, &server))
        .await;
    server.stop().await;
    telemetry.stop().await;
    ended
}

fn inspector_address(args: &DevArgs) -> Address {
    let address = args.settings.inspector.listen();
    match args.ports {
        Ports::Numbered => address,
        Ports::Any => address.with_port(0),
    }
}

/// Returns the settings of one of the nodes: the same, on ports of its own.
fn numbered(args: &DevArgs, number: u16) -> Result<Settings, SettingsError> {
    let mut settings = args.settings.clone();
    let addresses = [
        ("grpc_listen", &mut settings.grpc_listen),
        ("http_listen", &mut settings.http_listen),
    ];
    for (setting, address) in addresses {
        *address = match args.ports {
            Ports::Any => address.with_port(0),
            Ports::Numbered => address
                .numbered(number)
                .ok_or_else(|| SettingsError::Refused {
                    setting,
                    why: format!("node {number} would listen on a port above 65535"),
                })?,
        };
    }
    Ok(settings)
}

fn node_id(settings: &Settings, number: u16) -> Result<NodeId, SettingsError> {
    let name = settings.node_id.as_ref().map_or("dev", NodeId::as_str);
    NodeId::new(&format!("{name}-{number}")).map_err(|error| SettingsError::Refused {
        setting: "node_id",
        why: error.to_string(),
    })
}
