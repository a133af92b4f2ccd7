//! The manifests in `k8s/` say only what the program knows: its settings, ports and paths.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use steading_node::http::openapi;
use steading_node::settings::configuration_page;

/// How long a node may take to leave once its drain timeout has passed.
const LEAVING: Duration = Duration::from_secs(10);

#[test]
fn every_variable_of_the_node_is_a_setting() {
    let page = configuration_page();
    let node = container();
    let names = list(&node["env"]).iter().map(|env| text(&env["name"]));
    for name in names.filter(|name| name.starts_with("STEADING_")) {
        assert!(page.contains(&format!("`{name}`")), "{name} is no setting");
    }
}

#[test]
fn probes_ask_paths_that_exist() {
    let (node, document) = (container(), openapi());
    for probe in ["livenessProbe", "readinessProbe"] {
        let asked = &node[probe]["httpGet"];
        let path = text(&asked["path"]);
        assert!(document.paths.paths.contains_key(path), "{probe}: {path}");
        assert_eq!(text(&asked["port"]), "http", "{probe}");
    }
}

#[test]
fn servers_listen_where_the_ports_say() {
    let node = container();
    for (name, variable) in [
        ("grpc", "STEADING_GRPC_LISTEN"),
        ("http", "STEADING_HTTP_LISTEN"),
    ] {
        let port = list(&node["ports"])
            .iter()
            .find(|port| port["name"] == name);
        let port = port.expect("the port is declared")["containerPort"].clone();
        let env = list(&node["env"])
            .iter()
            .find(|env| env["name"] == variable);
        let listens = text(&env.expect("the variable is set")["value"]);
        assert!(listens.ends_with(&format!(":{port}")), "{listens}");
        let service = manifest("service.yaml");
        let mut exposed = list(&service["spec"]["ports"]).iter();
        assert!(exposed.any(|exposed| exposed["port"] == port && exposed["targetPort"] == name));
    }
}

#[test]
fn the_grace_period_covers_a_drain() {
    let set = manifest("statefulset.yaml");
    let grace = &set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    let grace = Duration::from_secs(grace.as_u64().expect("seconds"));
    assert!(grace >= drain_timeout_default() + LEAVING);
}

#[test]
fn the_service_selects_the_pods() {
    let (set, service) = (manifest("statefulset.yaml"), manifest("service.yaml"));
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&service["spec"]["selector"], labels);
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(set["spec"]["serviceName"], service["metadata"]["name"]);
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
}

/// Reads the default off the page of settings, which is made from the program.
fn drain_timeout_default() -> Duration {
    let page = configuration_page();
    let row = page.lines().find(|row| row.contains("`drain_timeout`"));
    let default = row.and_then(|row| row.split('|').nth(4));
    let seconds = default.map(|default| default.trim().trim_matches('`').trim_end_matches('s'));
    Duration::from_secs(seconds.expect("it has a default").parse().expect("seconds"))
}

fn container() -> Value {
    let set = manifest("statefulset.yaml");
    list(&set["spec"]["template"]["spec"]["containers"])[0].clone()
}

fn manifest(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../k8s/base")
        .join(name);
    let yaml = std::fs::read_to_string(path).expect("the manifest can be read");
    serde_yaml_ng::from_str(&yaml).expect("one document of YAML")
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
