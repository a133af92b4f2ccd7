//! What selects something selects what it should, and names lead somewhere.

use serde_json::Value;

use super::overlay::{Overlay, Workload, each_overlay, folder, list, selects, text};

#[test]
fn workloads_select_their_own_pods_and_no_others() {
    for overlay in each_overlay() {
        for workload in overlay.workloads() {
            let selector = &workload.0["spec"]["selector"];
            let selected = overlay.selected(selector).map(Workload::name);
            let selected: Vec<&str> = selected.collect();
            assert_eq!(selected, [workload.name()], "{}", overlay.name);
        }
    }
}

#[test]
fn services_lead_to_ports_that_are_there() {
    for overlay in each_overlay() {
        for service in overlay.of_kind("Service") {
            let name = text(&service["metadata"]["name"]);
            let selected: Vec<_> = overlay.selected(&service["spec"]["selector"]).collect();
            assert_eq!(selected.len(), 1, "{name}");
            assert_eq!(
                selected[0].name(),
                name,
                "a service is called like its pods"
            );
            for port in list(&service["spec"]["ports"]) {
                let target = selected[0].ports().get(text(&port["targetPort"])).copied();
                assert_eq!(target, port["port"].as_u64(), "{name}: {port}");
            }
        }
    }
}

#[test]
fn stateful_sets_have_a_headless_service_that_names_pods_before_they_are_ready() {
    for overlay in each_overlay() {
        for set in overlay.of_kind("StatefulSet") {
            let name = text(&set["spec"]["serviceName"]);
            let service = overlay.find("Service", name).expect("the service is there");
            assert_eq!(service["spec"]["clusterIP"], "None", "{name}");
            assert_eq!(service["spec"]["publishNotReadyAddresses"], true, "{name}");
        }
        let nodes = overlay.workload("steading");
        assert_eq!(nodes.0["spec"]["podManagementPolicy"], "Parallel");
    }
}

#[test]
fn budgets_let_one_pod_go_of_each_kind_that_has_several() {
    for overlay in each_overlay() {
        let budgets: Vec<&Value> = overlay.of_kind("PodDisruptionBudget").collect();
        for budget in &budgets {
            assert_eq!(budget["spec"]["maxUnavailable"], 1, "{budget}");
            assert_eq!(overlay.selected(&budget["spec"]["selector"]).count(), 1);
        }
        for workload in overlay
            .workloads()
            .filter(|of| of.0["spec"]["replicas"] != 1)
        {
            let selects = |budget: &&&Value| {
                let selector = &budget["spec"]["selector"];
                selects(selector, workload.labels())
            };
            let covered = budgets.iter().filter(selects).count();
            assert_eq!(covered, 1, "{}: {}", overlay.name, workload.name());
        }
    }
}

#[test]
fn pods_keep_away_from_their_own_kind() {
    for overlay in each_overlay() {
        for workload in overlay.workloads() {
            let pod = workload.pod();
            let preferred = &pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
            let affinities = list(preferred)
                .iter()
                .map(|term| &term["podAffinityTerm"]["labelSelector"]);
            let spreads = list(&pod["topologySpreadConstraints"])
                .iter()
                .map(|spread| &spread["labelSelector"]);
            for selector in affinities.chain(spreads) {
                assert!(selects(selector, workload.labels()), "{}", workload.name());
            }
        }
    }
}

#[test]
fn autoscalers_scale_something_whose_number_nobody_else_sets() {
    let overlay = Overlay::read("production");
    let scaled: Vec<&Value> = overlay.of_kind("HorizontalPodAutoscaler").collect();
    assert_eq!(scaled.len(), 1);
    let target = &scaled[0]["spec"]["scaleTargetRef"];
    let target = overlay.find(text(&target["kind"]), text(&target["name"]));
    let spec = &target.expect("the target is there")["spec"];
    assert!(spec.get("replicas").is_none(), "applying would set it back");
    let resources = &spec["template"]["spec"]["containers"][0]["resources"];
    assert!(resources["requests"]["cpu"].is_string(), "a part of what?");
}

#[test]
fn monitors_read_a_path_that_exists_from_services_that_have_the_port() {
    let overlay = Overlay::read("monitored");
    let document = steading_node::http::openapi();
    let mut read = Vec::new();
    for monitor in overlay.of_kind("ServiceMonitor") {
        let selector = &monitor["spec"]["selector"];
        let services = overlay.of_kind("Service");
        let selected: Vec<&Value> = services
            .filter(|service| selects(selector, &service["metadata"]["labels"]))
            .collect();
        for service in &selected {
            read.push(text(&service["metadata"]["name"]));
        }
        for endpoint in list(&monitor["spec"]["endpoints"]) {
            assert!(document.paths.paths.contains_key(text(&endpoint["path"])));
            for service in &selected {
                let mut ports = list(&service["spec"]["ports"]).iter();
                assert!(ports.any(|port| port["name"] == endpoint["port"]));
            }
        }
    }
    read.sort_unstable();
    assert_eq!(read, ["etcd", "steading", "steading-gate"]);
}

/// Secrets that no overlay can bring along; the guide says how to make them.
#[test]
fn what_pods_refer_to_is_in_the_overlay_or_in_the_guide() {
    let guide = folder().join("../docs/kubernetes.md");
    let guide = std::fs::read_to_string(guide).expect("there is a guide");
    for overlay in each_overlay() {
        for (workload, kind, name) in overlay.workloads().flat_map(references) {
            let is_there = overlay.find(kind, name).is_some();
            let is_told = kind == "Secret" && guide.contains(&format!("`{name}`"));
            assert!(is_there || is_told, "{workload} refers to {kind} {name}");
        }
    }
}

fn references(workload: Workload<'_>) -> Vec<(&str, &'static str, &str)> {
    let mut found = vec![(
        workload.name(),
        "ServiceAccount",
        text(&workload.pod()["serviceAccountName"]),
    )];
    for from in list(&workload.container()["envFrom"]) {
        found.push((
            workload.name(),
            "ConfigMap",
            text(&from["configMapRef"]["name"]),
        ));
    }
    let env = list(&workload.container()["env"]).iter();
    let secrets = env.map(|env| &env["valueFrom"]["secretKeyRef"]["name"]);
    let volumes = list(&workload.pod()["volumes"]).iter();
    let secrets = secrets.chain(volumes.map(|volume| &volume["secret"]["secretName"]));
    for secret in secrets.filter(|secret| secret.is_string()) {
        found.push((workload.name(), "Secret", text(secret)));
    }
    found
}
