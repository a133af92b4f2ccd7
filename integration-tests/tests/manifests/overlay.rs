//! One overlay as `kubectl kustomize` prints it, and how its objects are looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use super::tools;

/// All objects of an overlay.
pub(crate) struct Overlay {
    pub(crate) name: String,
    objects: Vec<Value>,
}

/// A StatefulSet or Deployment.
#[derive(Clone, Copy)]
pub(crate) struct Workload<'a>(pub(crate) &'a Value);

/// Returns every overlay that there is.
pub(crate) fn each_overlay() -> impl Iterator<Item = Overlay> {
    let folders = std::fs::read_dir(folder().join("overlays")).expect("there are overlays");
    let names = folders.map(|entry| entry.expect("a folder").file_name());
    let names: Vec<String> = names
        .map(|name| name.into_string().expect("ASCII"))
        .collect();
    assert!(
        ["dev", "production", "monitored"]
            .iter()
            .all(|name| names.iter().any(|found| found == name)),
        "{names:?}"
    );
    names.into_iter().map(|name| Overlay::read(&name))
}

/// Returns `k8s/`.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s")
}

/// Whether it is of a kind that an operator brings along.
pub(crate) fn is_foreign(object: &Value) -> bool {
    let groups = ["monitoring.coreos.com/", "cert-manager.io/"];
    let version = text(&object["apiVersion"]);
    groups.iter().any(|group| version.starts_with(group))
}

impl Overlay {
    pub(crate) fn read(name: &str) -> Self {
        Self::build(name, &folder().join("overlays").join(name))
    }

    pub(crate) fn build(name: &str, folder: &Path) -> Self {
        // Where kubectl is missing or old, `make setup` has built kustomize itself.
        let own = tools().join("bin/kustomize");
        let mut build = if own.exists() {
            let mut build = Command::new(own);
            build.arg("build");
            build
        } else {
            let mut build = Command::new("kubectl");
            build.arg("kustomize");
            build
        };
        let output = build.arg(folder).output();
        let output = output.expect("`make setup` says how to get kubectl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
        let documents = serde_yaml_ng::Deserializer::from_slice(&output.stdout);
        let objects = documents.map(|document| Value::deserialize(document).expect("an object"));
        Self {
            name: name.into(),
            objects: objects.collect(),
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Value> {
        self.objects.iter()
    }

    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects
            .iter()
            .filter(move |object| object["kind"] == kind)
    }

    /// Returns the object of this kind and name, generated suffixes included.
    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.of_kind(kind)
            .find(|object| object["metadata"]["name"] == name)
    }

    pub(crate) fn get_mut(&mut self, kind: &str, name: &str) -> &mut Value {
        let mut of_kind = self
            .objects
            .iter_mut()
            .filter(|object| object["kind"] == kind);
        let found = of_kind.find(|object| object["metadata"]["name"] == name);
        found.expect("it is there")
    }

    pub(crate) fn workloads(&self) -> impl Iterator<Item = Workload<'_>> {
        let kinds = ["StatefulSet", "Deployment"];
        self.objects
            .iter()
            .filter(move |object| kinds.iter().any(|kind| object["kind"] == *kind))
            .map(Workload)
    }

    pub(crate) fn workload(&self, name: &str) -> Workload<'_> {
        let found = self.workloads().find(|workload| workload.name() == name);
        found.unwrap_or_else(|| panic!("{}: no {name}", self.name))
    }

    /// The workloads whose pods a selector selects.
    pub(crate) fn selected<'a>(
        &'a self,
        selector: &'a Value,
    ) -> impl Iterator<Item = Workload<'a>> {
        self.workloads()
            .filter(move |workload| selects(selector, workload.labels()))
    }
}

impl<'a> Workload<'a> {
    pub(crate) fn name(self) -> &'a str {
        text(&self.0["metadata"]["name"])
    }

    pub(crate) fn labels(self) -> &'a Value {
        &self.0["spec"]["template"]["metadata"]["labels"]
    }

    pub(crate) fn pod(self) -> &'a Value {
        &self.0["spec"]["template"]["spec"]
    }

    /// Its one container.
    pub(crate) fn container(self) -> &'a Value {
        let containers = list(&self.pod()["containers"]);
        assert_eq!(containers.len(), 1, "{}", self.name());
        &containers[0]
    }

    /// Whether it runs a program of ours.
    pub(crate) fn is_ours(self) -> bool {
        self.name().starts_with("steading")
    }

    /// Its ports by name.
    pub(crate) fn ports(self) -> BTreeMap<&'a str, u64> {
        let ports = list(&self.container()["ports"]).iter();
        let named = ports.map(|port| (text(&port["name"]), port["containerPort"].as_u64()));
        named
            .map(|(name, port)| (name, port.expect("a number")))
            .collect()
    }
}

/// Whether a selector, of either form, selects labels. An empty one selects all.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let is_set =
        selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let pairs = if is_set {
        &selector["matchLabels"]
    } else {
        selector
    };
    let all_pairs = pairs
        .as_object()
        .into_iter()
        .flatten()
        .all(|(name, value)| labels.get(name) == Some(value));
    let expressions = list(&selector["matchExpressions"]).iter();
    all_pairs
        && expressions.into_iter().all(|expression| {
            assert_eq!(expression["operator"], "In", "the only one that is used");
            let value = labels.get(text(&expression["key"]));
            value.is_some_and(|value| list(&expression["values"]).contains(value))
        })
}

/// The items of a list; what is not there has none.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[track_caller]
pub(crate) fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}
