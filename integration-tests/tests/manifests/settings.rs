//! The variables of each container are settings of its program, and their values are taken.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches};
use serde_json::Value;
use steading_inspector::ProgramSettings;
use steading_node::settings::{Role, Settings};

use super::overlay::{Overlay, Workload, each_overlay, list, text};

/// The `STEADING_*` variables that a container sees, with stand-ins for what only a cluster knows.
pub(crate) struct Effective(BTreeMap<String, String>);

impl Effective {
    pub(crate) fn of(overlay: &Overlay, workload: Workload<'_>) -> Self {
        let mut values = BTreeMap::new();
        for from in list(&workload.container()["envFrom"]) {
            let name = text(&from["configMapRef"]["name"]);
            let map = overlay.find("ConfigMap", name).expect("the map is there");
            let data = map["data"].as_object().expect("it has data");
            values.extend(
                data.iter()
                    .map(|(name, value)| (name.clone(), text(value).to_owned())),
            );
        }
        for env in list(&workload.container()["env"]) {
            let value = value_of(env, &values);
            values.insert(text(&env["name"]).to_owned(), value);
        }
        values.retain(|name, _| name.starts_with("STEADING_"));
        Self(values)
    }

    /// Returns the value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    #[track_caller]
    pub(crate) fn duration(&self, name: &str) -> Duration {
        let value = self.0.get(name).expect("it is set, so that one sees both");
        let seconds = value.strip_suffix('s').expect("seconds");
        Duration::from_secs(seconds.parse().expect("a number"))
    }

    /// The same as flags: variables of this process would be those of all tests. Secrets are read while settings
    /// are checked, so theirs lead to a stand-in.
    fn flags(&self, secret: &Path) -> impl Iterator<Item = String> {
        let pairs = self.0.iter();
        pairs.map(move |(name, value)| {
            let is_secret = name.ends_with("_FILE");
            let value = if is_secret {
                secret.to_string_lossy()
            } else {
                value.into()
            };
            let name = name.trim_start_matches("STEADING_").to_lowercase();
            format!("--{}={value}", name.replace('_', "-"))
        })
    }

    /// The files that settings name.
    fn files(&self) -> impl Iterator<Item = &str> {
        let values = self.0.values().map(String::as_str);
        values.filter(|value| value.starts_with("/etc/"))
    }
}

/// What the kubelet makes of an entry: only variables above it are put in for `$(NAME)`.
fn value_of(env: &Value, above: &BTreeMap<String, String>) -> String {
    if let Some(value) = env["value"].as_str() {
        let put_in = |value: String, (name, with): (&String, &String)| {
            value.replace(&format!("$({name})"), with)
        };
        let value = above.iter().fold(value.to_owned(), put_in);
        assert!(!value.contains("$("), "{value}: it is not above");
        return value;
    }
    let from = &env["valueFrom"];
    match from["fieldRef"]["fieldPath"].as_str() {
        Some("metadata.name") => "steading-0".into(),
        Some("status.podIP") => "10.0.0.1".into(),
        // An older Kubernetes gives nothing.
        Some("metadata.labels['topology.kubernetes.io/zone']") => String::new(),
        Some(other) => panic!("{other}"),
        None => {
            assert!(from["secretKeyRef"]["key"].is_string(), "{env}");
            "a-long-secret".into()
        }
    }
}

fn read<T: Args + FromArgMatches>(flags: impl Iterator<Item = String>) -> Result<T, String> {
    let command = T::augment_args(Command::new("test")).no_binary_name(true);
    let command = command.mut_args(|arg| arg.env(None::<&str>));
    let matches = command.try_get_matches_from(flags);
    matches
        .and_then(|matches| T::from_arg_matches(&matches))
        .map_err(|error| error.to_string())
}

#[test]
fn every_variable_is_a_setting_whose_value_is_taken() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "a-long-secret").expect("it is written");
    for overlay in each_overlay() {
        for workload in overlay.workloads().filter(|of| of.is_ours()) {
            let flags = Effective::of(&overlay, workload);
            let checked = match workload.name() {
                "steading-inspector" => read::<ProgramSettings>(flags.flags(secret.path()))
                    .and_then(|settings| {
                        settings
                            .check()
                            .map_err(|error| error.to_string())
                            .map(drop)
                    }),
                name => read::<Settings>(flags.flags(secret.path())).and_then(|settings| {
                    let role = if name == "steading" {
                        Role::Node
                    } else {
                        Role::Gate
                    };
                    settings.check(role).map_err(|error| error.to_string())
                }),
            };
            assert_eq!(checked, Ok(()), "{}: {}", overlay.name, workload.name());
        }
    }
}

#[test]
fn servers_listen_on_the_ports_that_are_declared_and_tell_addresses_that_lead_there() {
    let servers = [
        ("grpc", "STEADING_GRPC_LISTEN"),
        ("http", "STEADING_HTTP_LISTEN"),
        ("inspector", "STEADING_INSPECTOR_LISTEN"),
    ];
    for overlay in each_overlay() {
        for workload in overlay.workloads().filter(|of| of.is_ours()) {
            let settings = Effective::of(&overlay, workload).0;
            let ports = workload.ports();
            for (port, variable) in servers {
                let listens = settings.get(variable).map(String::as_str);
                let declared = ports.get(port).map(|port| format!("0.0.0.0:{port}"));
                assert_eq!(listens, declared.as_deref(), "{}", workload.name());
            }
            if let Some(grpc) = ports.get("grpc") {
                let told = &settings["STEADING_GRPC_ADVERTISE"];
                assert!(told.ends_with(&format!(":{grpc}")) && !told.starts_with("0.0.0.0"));
            }
        }
        let set = overlay.workload("steading");
        let told = &Effective::of(&overlay, set).0["STEADING_GRPC_ADVERTISE"];
        let service = text(&set.0["spec"]["serviceName"]);
        assert!(
            told.starts_with(&format!("steading-0.{service}:")),
            "{told}"
        );
    }
}

#[test]
fn files_that_settings_name_are_mounted_and_nothing_is_mounted_in_vain() {
    for overlay in each_overlay() {
        for workload in overlay.workloads().filter(|of| of.is_ours()) {
            let settings = Effective::of(&overlay, workload);
            let mounts = list(&workload.container()["volumeMounts"]).iter();
            let mounts: Vec<&str> = mounts.map(|mount| text(&mount["mountPath"])).collect();
            for file in settings.files() {
                let folder = file.rsplit_once('/').expect("an absolute path").0;
                assert!(mounts.contains(&folder), "{}: {file}", workload.name());
            }
            for mount in mounts {
                let is_used = settings.files().any(|file| file.starts_with(mount));
                assert!(is_used, "{}: {mount}", workload.name());
            }
        }
    }
}

/// The names of etcd's members are those of its pods.
#[test]
fn etcd_is_sought_where_it_is() {
    for overlay in each_overlay() {
        let etcd = overlay.workload("etcd");
        let replicas = etcd.0["spec"]["replicas"].as_u64().expect("a number");
        let args = list(&etcd.container()["args"]).iter().map(text);
        let args: Vec<&str> = args.collect();
        let told = args
            .iter()
            .find(|arg| arg.starts_with("--advertise-client-urls="));
        let told = told
            .expect("it tells")
            .split_once('=')
            .expect("an address")
            .1;
        let members = (0..replicas).map(|ordinal| format!("etcd-{ordinal}"));
        let addresses: Vec<String> = members
            .map(|member| told.replace("$(MEMBER)", &member))
            .collect();
        let service = text(&etcd.0["spec"]["serviceName"]);
        for workload in overlay.workloads().filter(|of| of.is_ours()) {
            let sought = Effective::of(&overlay, workload).0["STEADING_ETCD"].clone();
            for address in sought.split(',') {
                // The service's own name leads to all of them.
                let by_service = address.ends_with(&format!("//{service}:2379"));
                assert!(
                    by_service || addresses.iter().any(|of| of == address),
                    "{address}"
                );
            }
            assert!(sought.starts_with(told.split("//").next().expect("a scheme")));
        }
    }
}
