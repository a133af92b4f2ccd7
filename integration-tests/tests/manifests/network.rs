//! The network policies of `production` let through what must pass, and nothing else.

use serde_json::{Value, json};

use super::overlay::{Overlay, Workload, list, selects, text};

/// A pod, of the overlay or not.
struct Pod {
    labels: Value,
    /// Labels of its namespace, if that is not the overlay's own.
    elsewhere: Option<Value>,
    ports: std::collections::BTreeMap<String, u64>,
}

impl Pod {
    fn of(workload: Workload<'_>) -> Self {
        let ports = workload.ports().into_iter();
        Self {
            labels: workload.labels().clone(),
            elsewhere: None,
            ports: ports.map(|(name, port)| (name.to_owned(), port)).collect(),
        }
    }

    fn elsewhere(namespace: &str, labels: Value) -> Self {
        Self {
            labels,
            elsewhere: Some(json!({ "kubernetes.io/metadata.name": namespace })),
            ports: [("dns".to_owned(), 53)].into(),
        }
    }
}

/// Whether all policies together let `from` connect to a port of `to`.
fn passes(overlay: &Overlay, from: &Pod, to: &Pod, port: &str) -> bool {
    let number = to.ports[port];
    side_passes(overlay, "Egress", from, to, (port, number))
        && side_passes(overlay, "Ingress", to, from, (port, number))
}

/// One side's policies: none that selects the pod, or one of their rules fits.
fn side_passes(overlay: &Overlay, side: &str, pod: &Pod, other: &Pod, port: (&str, u64)) -> bool {
    if pod.elsewhere.is_some() {
        return true; // The policies are of one namespace.
    }
    let (rules, ends) = if side == "Egress" {
        ("egress", "to")
    } else {
        ("ingress", "from")
    };
    let selecting: Vec<&Value> = overlay
        .of_kind("NetworkPolicy")
        .map(|policy| &policy["spec"])
        .filter(|spec| list(&spec["policyTypes"]).iter().any(|of| of == side))
        .filter(|spec| selects(&spec["podSelector"], &pod.labels))
        .collect();
    let mut rules = selecting.iter().flat_map(|spec| list(&spec[rules]));
    selecting.is_empty()
        || rules.any(|rule| {
            list(&rule[ends]).iter().any(|end| is_end(end, other))
                && list(&rule["ports"])
                    .iter()
                    .any(|allowed| allowed["port"] == port.0 || allowed["port"] == port.1)
        })
}

fn is_end(end: &Value, pod: &Pod) -> bool {
    let namespace_fits = match (end.get("namespaceSelector"), &pod.elsewhere) {
        (None, elsewhere) => elsewhere.is_none(),
        (Some(selector), Some(labels)) => selects(selector, labels),
        (Some(selector), None) => selects(selector, &json!({})),
    };
    let pod_fits = end
        .get("podSelector")
        .is_none_or(|of| selects(of, &pod.labels));
    namespace_fits && pod_fits
}

#[test]
fn what_is_needed_passes_and_nothing_else_does() {
    let overlay = Overlay::read("production");
    let pod = |name| Pod::of(overlay.workload(name));
    let (node, gate, inspector, etcd) = (
        pod("steading"),
        pod("steading-gate"),
        pod("steading-inspector"),
        pod("etcd"),
    );
    let caller = Pod::elsewhere("shop", json!({ "steading.dev/caller": "true" }));
    let stranger = Pod::elsewhere("shop", json!({}));
    let prometheus = Pod::elsewhere("monitoring", json!({}));
    let names = Pod::elsewhere("kube-system", json!({ "k8s-app": "kube-dns" }));
    let edges = [
        ("node", &node, "node", &node, "grpc", true),
        ("node", &node, "gate", &gate, "grpc", true),
        ("gate", &gate, "node", &node, "grpc", true),
        ("gate", &gate, "gate", &gate, "grpc", true),
        ("inspector", &inspector, "node", &node, "grpc", true),
        ("inspector", &inspector, "gate", &gate, "grpc", true),
        ("node", &node, "etcd", &etcd, "client", true),
        ("gate", &gate, "etcd", &etcd, "client", true),
        ("inspector", &inspector, "etcd", &etcd, "client", true),
        ("etcd", &etcd, "etcd", &etcd, "members", true),
        ("etcd", &etcd, "etcd", &etcd, "client", true),
        ("caller", &caller, "gate", &gate, "grpc", true),
        ("caller", &caller, "gate", &gate, "http", true),
        ("prometheus", &prometheus, "node", &node, "http", true),
        ("prometheus", &prometheus, "gate", &gate, "http", true),
        ("prometheus", &prometheus, "etcd", &etcd, "metrics", true),
        ("node", &node, "names", &names, "dns", true),
        ("gate", &gate, "names", &names, "dns", true),
        ("inspector", &inspector, "names", &names, "dns", true),
        ("etcd", &etcd, "names", &names, "dns", true),
        ("node", &node, "etcd", &etcd, "members", false),
        ("node", &node, "inspector", &inspector, "inspector", false),
        ("node", &node, "node", &node, "http", false),
        ("gate", &gate, "node", &node, "http", false),
        ("etcd", &etcd, "node", &node, "grpc", false),
        ("caller", &caller, "node", &node, "grpc", false),
        ("caller", &caller, "node", &node, "http", false),
        ("caller", &caller, "etcd", &etcd, "client", false),
        ("stranger", &stranger, "gate", &gate, "http", false),
        ("stranger", &stranger, "node", &node, "grpc", false),
        ("stranger", &stranger, "etcd", &etcd, "client", false),
        ("prometheus", &prometheus, "node", &node, "grpc", false),
        (
            "stranger",
            &stranger,
            "inspector",
            &inspector,
            "inspector",
            false,
        ),
    ];
    for (from_name, from, to_name, to, port, expected) in edges {
        let passed = passes(&overlay, from, to, port);
        assert_eq!(passed, expected, "{from_name} to {to_name}, {port}");
    }
}

#[test]
fn policies_name_ports_that_their_pods_have() {
    let overlay = Overlay::read("production");
    for policy in overlay.of_kind("NetworkPolicy") {
        let spec = &policy["spec"];
        for rule in list(&spec["ingress"]) {
            let selected: Vec<_> = overlay.selected(&spec["podSelector"]).collect();
            assert!(!selected.is_empty(), "{policy}");
            for port in list(&rule["ports"]) {
                let has =
                    |workload: &Workload<'_>| workload.ports().contains_key(text(&port["port"]));
                assert!(selected.iter().all(has), "{policy}");
            }
        }
    }
}
