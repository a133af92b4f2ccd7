//! How pods run: probes, time to stop, rights, images and commands.

use std::time::Duration;

use serde_json::Value;
use steading_node::http::openapi;

use super::overlay::{Overlay, Workload, each_overlay, folder, list, text};
use super::settings::Effective;

/// What a stop takes beside the drain timeout: answers of forwarded calls, HTTP, and the lease.
const LEAVING: Duration = Duration::from_secs(5 + 2 + 5);

/// The probes of a container.
pub(crate) const PROBES: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];

/// What the Inspector and etcd answer without a token or a certificate.
const INSPECTOR_PATHS: [&str; 2] = ["/healthz", "/ready"];
const ETCD_PATHS: [&str; 1] = ["/health"];

#[test]
fn probes_ask_ports_that_are_declared_for_paths_that_exist() {
    let document = openapi();
    for overlay in each_overlay() {
        for workload in overlay.workloads() {
            let name = workload.name();
            for probe in PROBES.map(|probe| &workload.container()[probe]) {
                let (http, tcp) = (&probe["httpGet"], &probe["tcpSocket"]);
                let asked = if http.is_null() { tcp } else { http };
                let Some(port) = asked["port"].as_str() else {
                    assert!(probe.is_null(), "{name}: {probe}");
                    continue;
                };
                assert!(workload.ports().contains_key(port), "{name}: {port}");
                let Some(path) = http["path"].as_str() else {
                    continue;
                };
                let exists = match name {
                    "etcd" => ETCD_PATHS.contains(&path),
                    "steading-inspector" => INSPECTOR_PATHS.contains(&path),
                    _ => document.paths.paths.contains_key(path),
                };
                assert!(exists, "{name}: {path}");
            }
        }
    }
}

#[test]
fn liveness_never_asks_etcd_and_readiness_always_does() {
    for overlay in each_overlay() {
        for workload in overlay.workloads().filter(|of| of.is_ours()) {
            let container = workload.container();
            let path = |probe: &str| container[probe]["httpGet"]["path"].clone();
            assert_eq!(path("livenessProbe"), "/healthz", "{}", workload.name());
            assert_eq!(path("readinessProbe"), "/ready", "{}", workload.name());
        }
    }
}

#[test]
fn a_node_that_hangs_has_lost_its_lease_before_it_is_killed() {
    for overlay in each_overlay() {
        let node = overlay.workload("steading");
        let probe = &node.container()["livenessProbe"];
        let seconds = |field: &str| probe[field].as_u64().expect("it is set");
        let killed_after =
            Duration::from_secs(seconds("periodSeconds") * seconds("failureThreshold"));
        let lease = Effective::of(&overlay, node).duration("STEADING_LEASE_TTL");
        assert!(killed_after > lease, "{}", overlay.name);
    }
}

#[test]
fn the_grace_period_covers_a_drain() {
    for overlay in each_overlay() {
        for name in ["steading", "steading-gate"] {
            let workload = overlay.workload(name);
            let seconds = |value: &Value| Duration::from_secs(value.as_u64().unwrap_or(0));
            let grace = seconds(&workload.pod()["terminationGracePeriodSeconds"]);
            let before = &workload.container()["lifecycle"]["preStop"]["sleep"]["seconds"];
            let drain = Effective::of(&overlay, workload).duration("STEADING_DRAIN_TIMEOUT");
            assert!(
                grace >= drain + LEAVING + seconds(before),
                "{}: {name}",
                overlay.name
            );
        }
    }
}

#[test]
fn nobody_has_rights_on_the_machine_or_in_the_cluster() {
    for overlay in each_overlay() {
        let roles = overlay.all().filter(|object| {
            let kind = text(&object["kind"]);
            kind.contains("Role")
        });
        assert_eq!(roles.count(), 0, "{}", overlay.name);
        for account in overlay.of_kind("ServiceAccount") {
            assert_eq!(account["automountServiceAccountToken"], false);
        }
        for workload in overlay.workloads() {
            assert_is_restricted(workload);
        }
        let namespace = overlay.of_kind("Namespace").next().expect("it has one");
        let label = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        assert_eq!(label, "restricted", "{}", overlay.name);
    }
}

fn assert_is_restricted(workload: Workload<'_>) {
    let (name, pod) = (workload.name(), workload.pod());
    assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
    assert_eq!(pod["enableServiceLinks"], false, "{name}");
    let context = &pod["securityContext"];
    assert_eq!(context["runAsNonRoot"], true, "{name}");
    assert!(context["runAsUser"].as_u64() > Some(0), "{name}");
    assert_eq!(
        context["seccompProfile"]["type"], "RuntimeDefault",
        "{name}"
    );
    let context = &workload.container()["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
    assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
    assert_eq!(context["capabilities"]["drop"][0], "ALL", "{name}");
    assert!(context["capabilities"].get("add").is_none(), "{name}");
}

#[test]
fn every_container_asks_for_what_it_needs_and_has_a_limit_of_memory_but_none_of_cpu() {
    for overlay in each_overlay() {
        for workload in overlay.workloads() {
            let resources = &workload.container()["resources"];
            assert!(
                resources["requests"]["cpu"].is_string(),
                "{}",
                workload.name()
            );
            assert!(resources["requests"]["memory"].is_string());
            assert!(resources["limits"]["memory"].is_string());
            assert!(resources["limits"]["cpu"].is_null(), "it would be paused");
        }
    }
}

#[test]
fn images_and_commands_are_those_of_the_dockerfile() {
    let read = |path: &str| std::fs::read_to_string(folder().join("..").join(path)).expect(path);
    let (dockerfile, ignored) = (read("Dockerfile"), read(".dockerignore"));
    assert!(dockerfile.contains("ENTRYPOINT [\"/steading\"]"));
    assert!(dockerfile.contains("-p steading-node -p steading-inspector"));
    // Cargo builds nothing if a member of the workspace is missing.
    let workspace = read("Cargo.toml");
    let members = workspace.split("members = [").nth(1).expect("members");
    let members = members.split(']').next().expect("they end");
    for member in members.split('"').skip(1).step_by(2) {
        let top = member.split('/').next().expect("a folder");
        let line = format!("!{top}");
        assert!(ignored.lines().any(|ignored| ignored == line), "{line}");
    }
    for overlay in each_overlay() {
        for workload in overlay.workloads() {
            assert_command_exists(&overlay, workload);
        }
    }
}

fn assert_command_exists(overlay: &Overlay, workload: Workload<'_>) {
    let container = workload.container();
    let image = text(&container["image"]);
    let (name, tag) = image.rsplit_once(':').expect("a fixed version");
    assert!(tag != "latest", "{image}");
    let runs = (&container["command"][0], &container["args"][0]);
    match workload.name() {
        "steading" => assert_eq!(runs, (&Value::Null, &"node".into())),
        "steading-gate" => assert_eq!(runs, (&Value::Null, &"gate".into())),
        "steading-inspector" => assert_eq!(runs, (&"/steading-inspector".into(), &Value::Null)),
        _ => {
            assert_eq!(runs.0, "/usr/local/bin/etcd");
            return assert!(name.ends_with("/etcd"), "{image}");
        }
    }
    let ours = overlay.workload("steading").container();
    assert_eq!(container["image"], ours["image"], "one image for all three");
    assert!(
        list(&container["args"]).len() <= 1,
        "settings are variables"
    );
}
