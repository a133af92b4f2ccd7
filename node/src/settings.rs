//! Every setting of a Steading process, in three forms: TOML key, `STEADING_*` variable, `--flag`,
//! from weak to strong.
//!
//! [`Settings`] is the one definition: flags, variables, the keys of the file and the table of
//! `docs/configuration.md` all follow from it. A bad value stops the start and names the setting.

mod docs;
mod planner;
mod values;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use steading::ids::{NodeId, Region, Regions, ShardCount};
use steading::placement::Weight;
use steading::placement::planner::CAPACITY_LABEL;
use steading_http::{Guard, HostName, WebOrigin};
use steading_inspector::InspectorSettings;

pub use docs::configuration_page;
pub use planner::PlannerSettings;
pub use steading_settings::{
    Address, Endpoint, FileError, LimitSettings, LogFormat, LogSettings, Prefix, Secret,
    SettingsError, StoreSettings, TlsSettings, UnknownVariable, check_variables, with_file,
};
pub use values::{Label, Replace, StorageChoice};
pub(crate) use values::{region, shard_count, weight};

/// The settings of `node`, `gate` and `dev`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// TOML file with any of these settings; its keys are their names with underscores.
    #[arg(long, env = "STEADING_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Stable name of the node, such as a `StatefulSet` ordinal. [default: the host's name; `dev`
    /// numbers its nodes `NAME-0`, `NAME-1`, … with the name `dev`]
    #[arg(long, env = "STEADING_NODE_ID", value_name = "NAME")]
    pub node_id: Option<NodeId>,

    /// Where the cluster agrees.
    #[command(flatten)]
    pub store: StoreSettings,

    /// Number of shards: a power of two from 1 to 65536, fixed when the cluster is created.
    #[arg(
        long,
        env = "STEADING_NUM_SHARDS",
        value_name = "COUNT",
        default_value = "8192",
        value_parser = values::shard_count
    )]
    pub num_shards: ShardCount,

    /// Shards that are kept for some objects, comma-separated: `type:NAME=FIRST-LAST` for a type,
    /// `prefix:TEXT=FIRST-LAST` for placement keys that begin with a text. Fixed when the cluster is
    /// created; with rules for the zones of those shards, such objects stay where they must.
    #[arg(
        long,
        env = "STEADING_REGIONS",
        value_name = "REGIONS",
        value_delimiter = ',',
        value_parser = values::region
    )]
    pub regions: Vec<Region>,

    /// Address of the gRPC server, for other nodes and clients. Port 0: any free port. `dev` adds
    /// the node's number to the port.
    #[arg(
        long,
        env = "STEADING_GRPC_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7400"
    )]
    pub grpc_listen: Address,

    /// Address under which other nodes reach the gRPC server. `node` and `gate` need it if they listen
    /// on every address, as `0.0.0.0`. [default: the listen address]
    #[arg(long, env = "STEADING_GRPC_ADVERTISE", value_name = "HOST:PORT")]
    pub grpc_advertise: Option<Address>,

    /// Address of the HTTP server. Port 0: any free port. `dev` adds the node's number to the port.
    #[arg(
        long,
        env = "STEADING_HTTP_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7480"
    )]
    pub http_listen: Address,

    /// More host names that the HTTP server answers to, comma-separated, without ports. On the loopback interface it
    /// answers to `localhost` and loopback addresses otherwise; on others to all names, or, if this is set, to
    /// these, to IP addresses and to `localhost`. Set it wherever a browser can reach the server.
    #[arg(
        long,
        env = "STEADING_HTTP_HOSTS",
        value_name = "HOST,…",
        value_delimiter = ','
    )]
    pub http_hosts: Vec<HostName>,

    /// Origins of web pages that may use the HTTP server from a browser (CORS), comma-separated, such as
    /// `https://app.example`. Such a page may do whatever a client may: call, command, read.
    #[arg(
        long,
        env = "STEADING_HTTP_CORS_ORIGINS",
        value_name = "ORIGIN,…",
        value_delimiter = ','
    )]
    pub http_cors_origins: Vec<WebOrigin>,

    /// TLS between nodes, gates and clients.
    #[command(flatten)]
    pub tls: TlsSettings,

    /// The Inspector of this process.
    #[command(flatten)]
    pub inspector: InspectorSettings,

    /// Failure domain in which the node stands, of at most 256 visible bytes. An empty one is none: where Kubernetes knows no zone of a pod,
    /// that is what it gives.
    #[arg(long, env = "STEADING_ZONE", value_name = "NAME")]
    pub zone: Option<String>,

    /// How much the node takes beside others, from 0.001 to 1000. A `gate` takes nothing, and
    /// refuses it. [default: `1.0`]
    #[arg(
        long,
        env = "STEADING_WEIGHT",
        value_name = "NUMBER",
        value_parser = values::weight
    )]
    pub weight: Option<Weight>,

    /// Free names for operators, comma-separated: at most 64, names and values of at most 256 visible bytes.
    #[arg(
        long,
        env = "STEADING_LABELS",
        value_name = "NAME=VALUE,…",
        value_delimiter = ','
    )]
    pub labels: Vec<Label>,

    /// How long etcd keeps the node's shards after its last sign of life, 2s to 60s. A crash is
    /// noticed after about this long; a pause longer than this loses every shard.
    #[arg(
        long,
        env = "STEADING_LEASE_TTL",
        value_name = "DURATION",
        default_value = "5s",
        value_parser = values::lease_ttl
    )]
    pub lease_ttl: Duration,

    /// How long running turns may take to end when the node stops or gives up a shard.
    #[arg(
        long,
        env = "STEADING_DRAIN_TIMEOUT",
        value_name = "DURATION",
        default_value = "25s",
        value_parser = values::duration
    )]
    pub drain_timeout: Duration,

    /// The pause between two probes of each other node, 1s to 10m. The leader probes at least once a
    /// second. Nodes that most others do not reach get no shards; leases alone end ownership.
    #[arg(
        long,
        env = "STEADING_HEALTH_INTERVAL",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = values::health_interval
    )]
    pub health_interval: Duration,

    /// How many probes of a node must fail in a row for it to be shown as unhealthy, 1 to 100.
    #[arg(
        long,
        env = "STEADING_HEALTH_FAILURES",
        value_name = "COUNT",
        default_value = "3",
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    pub health_failures: u32,

    /// Where objects' state is kept: `memory`, or `embedded:PATH` for a folder of this
    /// process. Neither is shared: what is moved on purpose takes its state along, but after a crash
    /// other processes do not have it.
    /// [default: `memory`; `dev`: `embedded:./steading-data`]
    #[arg(
        long,
        env = "STEADING_STORAGE",
        value_name = "STORAGE",
        hide_env_values = true
    )]
    pub storage: Option<StorageChoice>,

    /// When to end the lease of an earlier process with this node's ID: `lock` if it ran on this
    /// machine and its lock file is free, `always`, or `never`.
    #[arg(
        long,
        env = "STEADING_REPLACE",
        value_name = "WHEN",
        default_value = "lock",
        hide_possible_values = true
    )]
    pub replace: Replace,

    /// How many connections each listener keeps.
    #[command(flatten)]
    pub limits: LimitSettings,

    /// What to log.
    #[command(flatten)]
    pub logs: LogSettings,

    /// Run the node as a child of this process, which ends its lease the moment it dies: others
    /// then take its shards over at once, not when the lease runs out. Nothing is started again.
    /// Signals and the exit code are passed on, so this may be the first process of a container.
    #[arg(
        long,
        env = "STEADING_SUPERVISE",
        value_name = "BOOL",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        value_parser = clap::builder::BoolishValueParser::new(),
        hide_possible_values = true
    )]
    pub supervise: bool,

    /// How the leader plans.
    #[command(flatten)]
    pub planner: PlannerSettings,
}

/// What kind of process the settings are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Hosts objects.
    Node,
    /// Hosts nothing and only routes.
    Gate,
    /// Several nodes in one process.
    Dev,
}

impl Settings {
    /// Checks what no single value shows: settings that need each other, that exclude each other,
    /// or that this version cannot give effect.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], which names the setting and never its value if that is secret.
    pub fn check(&self, role: Role) -> Result<(), SettingsError> {
        self.planner.check(self.num_shards)?;
        self.check_etcd(role)?;
        self.inspector.access()?;
        self.inspector.tls_files()?;
        if self.supervise && role == Role::Dev {
            let why = "`dev` keeps its nodes in one process, which has nobody to hand over to";
            return Err(refused("supervise", why.into()));
        }
        if self.weight.is_some() && role == Role::Gate {
            let why = "a gate hosts nothing, so it has no weight; `steading node` has one";
            return Err(refused("weight", why.into()));
        }
        self.tls.files()?;
        self.check_addresses(role)?;
        self.check_labels()?;
        self.checked_regions()?;
        let storage = self.storage.as_ref().map_or(Ok(()), StorageChoice::check);
        storage.map_err(|why| refused("storage", why))?;
        self.limits.check()?;
        self.logs.check()
    }

    fn check_etcd(&self, role: Role) -> Result<(), SettingsError> {
        if self.store.etcd.is_empty() && role != Role::Dev {
            let why = "a node or gate joins its cluster through etcd; `dev` needs none";
            return Err(SettingsError::Missing {
                setting: "etcd",
                why,
            });
        }
        self.store.check()
    }

    /// No two servers share an address, and others can use the one they are told.
    fn check_addresses(&self, role: Role) -> Result<(), SettingsError> {
        let listens = [
            ("grpc_listen", Some(&self.grpc_listen)),
            ("http_listen", Some(&self.http_listen)),
            ("inspector_listen", self.inspector.inspector_listen.as_ref()),
        ];
        let listens = listens.map(|(setting, address)| {
            let fixed = address.filter(|address| address.port() != 0);
            (setting, fixed)
        });
        for (index, (setting, address)) in listens.iter().enumerate() {
            let earlier = listens[..index].iter();
            let mut same = earlier.filter(|(_, other)| address.is_some() && other == address);
            if let (Some(address), Some((other, _))) = (address, same.next()) {
                let why = format!("`{other}` is {address} too");
                return Err(refused(setting, why));
            }
        }
        self.check_advertised(role)
    }

    /// Others can connect to the address that they are told.
    fn check_advertised(&self, role: Role) -> Result<(), SettingsError> {
        match &self.grpc_advertise {
            Some(_) if role == Role::Dev => {
                let why = "the nodes of `dev` have an address each";
                Err(refused("grpc_advertise", why.into()))
            }
            Some(address) if address.port() == 0 => {
                let why = "nobody can connect to port 0";
                Err(refused("grpc_advertise", why.into()))
            }
            Some(address) if address.is_unspecified() => {
                let why = format!("nobody can connect to {address}; name this machine");
                Err(refused("grpc_advertise", why))
            }
            // The nodes of `dev` are in one process.
            None if self.grpc_listen.is_unspecified() && role != Role::Dev => {
                let why = "`grpc_listen` is every address of this machine, and other nodes need one \
                           to connect to, such as its name and the port";
                Err(SettingsError::Missing {
                    setting: "grpc_advertise",
                    why,
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns how much the node takes beside others.
    pub fn weight(&self, role: Role) -> Weight {
        match role {
            Role::Gate => Weight::GATE,
            Role::Node | Role::Dev => self.weight.unwrap_or(Weight::ONE),
        }
    }

    /// Returns the regions, which fit each other and the shard count.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if they do not.
    pub fn checked_regions(&self) -> Result<Regions, SettingsError> {
        Regions::new(self.regions.clone(), self.num_shards)
            .map_err(|error| refused("regions", error.to_string()))
    }

    fn check_labels(&self) -> Result<(), SettingsError> {
        if let Some(twice) = first_duplicate(self.labels.iter().map(|label| label.name.as_str())) {
            return Err(refused("labels", format!("`{twice}` is there twice")));
        }
        let mut labels = self.labels.iter();
        let capacity = labels.find(|label| label.name == CAPACITY_LABEL);
        match capacity.map(|label| label.value.parse::<u32>()) {
            Some(Err(_)) => {
                let why = format!("`{CAPACITY_LABEL}` is a number of shards");
                Err(refused("labels", why))
            }
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Returns the guard of the HTTP server that listens on this address.
    pub fn http_guard(&self, listens: IpAddr) -> Guard {
        Guard::new(listens, self.http_hosts.clone(), "http_hosts")
            .origins(self.http_cors_origins.clone())
    }

    /// Returns where objects' state is kept.
    pub fn storage(&self, role: Role) -> StorageChoice {
        let default = || match role {
            Role::Node | Role::Gate => StorageChoice::Memory,
            Role::Dev => StorageChoice::Embedded("./steading-data".into()),
        };
        self.storage.clone().unwrap_or_else(default)
    }

    /// Returns the node's name: the setting, or the host's name.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if the host's name cannot name a node.
    pub fn node_id(&self) -> Result<NodeId, SettingsError> {
        if let Some(id) = &self.node_id {
            return Ok(id.clone());
        }
        let name = rustix::system::uname();
        NodeId::new(&name.nodename().to_string_lossy()).map_err(|error| SettingsError::Refused {
            setting: "node_id",
            why: format!("it is not set, and the host's name will not do: {error}"),
        })
    }
}

fn refused(setting: &'static str, why: String) -> SettingsError {
    SettingsError::Refused { setting, why }
}

fn first_duplicate<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    names.find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests;
