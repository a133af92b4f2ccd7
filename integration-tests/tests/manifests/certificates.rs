//! Where certificates are wanted they are mounted, from secrets that the guide's ways of making them make.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use steading::tls::{StoreTls, Tls, TlsFiles};

use super::overlay::{Overlay, Workload, each_overlay, folder, is_foreign, list, text};
use super::settings::Effective;

/// The files of a secret, as cert-manager names them, by the end of the setting that wants them.
const KEYS: [(&str, &str); 3] = [("CA", "ca.crt"), ("CERT", "tls.crt"), ("KEY", "tls.key")];

/// Which secret is mounted where.
fn mounted(workload: Workload<'_>) -> BTreeMap<&str, &str> {
    let volumes = list(&workload.pod()["volumes"]).iter();
    let secrets: BTreeMap<&str, &str> = volumes
        .filter_map(|volume| {
            let secret = volume["secret"]["secretName"].as_str()?;
            Some((text(&volume["name"]), secret))
        })
        .collect();
    let mounts = list(&workload.container()["volumeMounts"]).iter();
    mounts
        .filter_map(|mount| {
            let secret = secrets.get(text(&mount["name"]))?;
            assert_eq!(mount["readOnly"], true, "{}", workload.name());
            Some((text(&mount["mountPath"]), *secret))
        })
        .collect()
}

/// The secret that the settings of this kind, `TLS` or `ETCD`, find their files in; `None` if there are none.
#[track_caller]
fn secret_of<'a>(workload: Workload<'a>, settings: &Effective, kind: &str) -> Option<&'a str> {
    let mounted = mounted(workload);
    let secrets = KEYS.map(|(end, key)| {
        let path = settings.get(&format!("STEADING_{kind}_{end}"))?;
        let (folder, file) = path.rsplit_once('/').expect("an absolute path");
        assert_eq!(file, key, "{}", workload.name());
        let secret = mounted.get(folder);
        Some(*secret.unwrap_or_else(|| panic!("{}: nothing at {path}", workload.name())))
    });
    assert!(
        secrets.iter().all(|secret| *secret == secrets[0]),
        "{}: {secrets:?}",
        workload.name()
    );
    secrets[0]
}

fn ours(overlay: &Overlay) -> impl Iterator<Item = (Workload<'_>, Effective)> {
    let ours = overlay.workloads().filter(|of| of.is_ours());
    ours.map(|workload| (workload, Effective::of(overlay, workload)))
}

#[test]
fn all_of_a_cluster_have_the_certificates_of_one_secret_or_none() {
    for overlay in each_overlay() {
        let secrets: BTreeSet<Option<&str>> = ours(&overlay)
            .map(|(workload, settings)| secret_of(workload, &settings, "TLS"))
            .collect();
        let expected = (overlay.name != "dev").then_some("steading-tls");
        assert_eq!(secrets, BTreeSet::from([expected]), "{}", overlay.name);
        let names: BTreeSet<Option<String>> = ours(&overlay)
            .map(|(_, settings)| settings.get("STEADING_TLS_NAME").map(str::to_owned))
            .collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}

#[test]
fn who_speaks_tls_to_etcd_has_a_certificate_for_it_and_so_has_etcd() {
    for overlay in each_overlay() {
        for (workload, settings) in ours(&overlay) {
            let etcd = settings.get("STEADING_ETCD").expect("it is set");
            let expected = etcd.starts_with("https://").then_some("steading-etcd");
            let secret = secret_of(workload, &settings, "ETCD");
            assert_eq!(secret, expected, "{}", workload.name());
        }
        let etcd = overlay.workload("etcd");
        let args = list(&etcd.container()["args"]).iter().map(text);
        let files = args.filter_map(|arg| arg.split_once('=')?.1.strip_prefix("/etc/etcd/tls/"));
        let files: BTreeSet<&str> = files.collect();
        let secret = mounted(etcd).get("/etc/etcd/tls").copied();
        if overlay.name == "dev" {
            assert_eq!((files.len(), secret), (0, None));
        } else {
            assert_eq!(files, BTreeSet::from(KEYS.map(|(_, key)| key)));
            assert_eq!(secret, Some("etcd-tls"));
        }
    }
}

/// HTTP servers of nodes and gates speak TLS if they have certificates, and nothing else then. The Inspector's page and
/// etcd's port for metrics never do.
#[test]
fn probes_speak_what_the_server_speaks() {
    for overlay in each_overlay() {
        for workload in overlay.workloads() {
            let serves_tls = workload.is_ours()
                && workload.name() != "steading-inspector"
                && Effective::of(&overlay, workload)
                    .get("STEADING_TLS_CA")
                    .is_some();
            for probe in super::pods::PROBES {
                let http = &workload.container()[probe]["httpGet"];
                if http.is_null() {
                    continue;
                }
                let encrypted = http["scheme"] == "HTTPS";
                assert_eq!(encrypted, serves_tls, "{} {probe}", workload.name());
            }
        }
    }
}

/// Secrets of certificates that `production` wants.
fn wanted(overlay: &Overlay) -> BTreeSet<&str> {
    let secrets = overlay.workloads().flat_map(|of| mounted(of).into_values());
    secrets
        .filter(|secret| *secret != "steading-inspector")
        .collect()
}

#[test]
fn the_script_makes_secrets_that_the_programs_take() {
    let made = tempfile::tempdir().expect("a folder");
    let mut script = Command::new(folder().join("certificates"));
    let status = script.arg(made.path()).arg("steading").status();
    assert!(status.expect("it runs").success());
    let overlay = Overlay::read("production");
    for secret in wanted(&overlay) {
        for (_, key) in KEYS {
            assert!(made.path().join(secret).join(key).exists(), "{secret}");
        }
    }
    let file = |secret: &str, key: &str| made.path().join(secret).join(key);
    let of_cluster = |secret: &str| {
        let [ca, cert, key] = KEYS.map(|(_, key)| file(secret, key));
        let settings = Effective::of(&overlay, overlay.workload("steading-gate"));
        let name = settings.get("STEADING_TLS_NAME").expect("it is set");
        Tls::load(TlsFiles::new(ca, cert, key).name(name))
    };
    let nodes = of_cluster("steading-tls").expect("nodes take it");
    nodes.serve_as("10.0.0.1").expect("whatever its address");
    let caller = of_cluster("steading-caller").expect("commands take it");
    caller.serve_as("10.0.0.1").expect_err("it is no server's");
    let [ca, cert, key] = KEYS.map(|(_, key)| file("steading-etcd", key));
    StoreTls::load(TlsFiles::for_etcd(Some(ca), Some((cert, key)))).expect("a client of etcd");
    assert!(!is_trusted(
        &file("steading-tls", "ca.crt"),
        &file("steading-etcd", "tls.crt")
    ));
    assert!(!is_trusted(
        &file("etcd-tls", "ca.crt"),
        &file("steading-caller", "tls.crt")
    ));
    assert!(is_trusted(
        &file("etcd-tls", "ca.crt"),
        &file("steading-etcd", "tls.crt")
    ));
}

/// Whether an authority vouches for a certificate.
fn is_trusted(authority: &Path, certificate: &Path) -> bool {
    let mut openssl = Command::new("openssl");
    openssl
        .args(["verify", "-CAfile"])
        .args([authority, certificate]);
    openssl
        .output()
        .expect("the script needs it too")
        .status
        .success()
}

#[test]
fn cert_manager_is_told_to_make_the_same_secrets_with_the_names_that_are_called() {
    let overlay = Overlay::build("cert-manager", &folder().join("test/cert-manager"));
    let made: BTreeMap<&str, &Value> = overlay
        .of_kind("Certificate")
        .filter(|of| of["spec"]["isCA"] != true)
        .map(|of| (text(&of["spec"]["secretName"]), &of["spec"]))
        .collect();
    assert_eq!(
        made.keys().copied().collect::<BTreeSet<_>>(),
        wanted(&overlay)
    );
    for (secret, spec) in &made {
        let issuer = text(&spec["issuerRef"]["name"]);
        let issuer = overlay.find("Issuer", issuer).expect("the issuer is there");
        let authority = text(&issuer["spec"]["ca"]["secretName"]);
        let authority = overlay
            .find("Certificate", authority)
            .expect("its authority is made");
        assert_eq!(authority["spec"]["isCA"], true);
        let usages: BTreeSet<&str> = list(&spec["usages"]).iter().map(text).collect();
        assert!(usages.contains("client auth"));
        assert_eq!(usages.contains("server auth"), *secret != "steading-etcd");
        assert_eq!(
            issuer["metadata"]["name"] == "etcd",
            secret.contains("etcd")
        );
    }
    let names = |secret: &str| -> BTreeSet<&str> {
        list(&made[secret]["dnsNames"]).iter().map(text).collect()
    };
    for (workload, settings) in ours(&overlay) {
        let name = settings.get("STEADING_TLS_NAME").expect("it is set");
        assert!(names("steading-tls").contains(name), "{}", workload.name());
        for address in settings.get("STEADING_ETCD").expect("it is set").split(',') {
            let host = address.trim_start_matches("https://").split(':').next();
            assert!(
                names("etcd-tls").contains(host.expect("a host")),
                "{address}"
            );
        }
    }
    assert!(
        names("steading-tls").contains("steading-gate.steading.svc"),
        "callers find it so"
    );
}

#[test]
fn only_the_overlay_that_says_so_needs_kinds_that_an_operator_brings_along() {
    for overlay in each_overlay() {
        let foreign: BTreeSet<&str> = overlay
            .all()
            .filter(|object| is_foreign(object))
            .map(|object| text(&object["kind"]))
            .collect();
        let expected: &[&str] = match overlay.name.as_str() {
            "monitored" => &["PrometheusRule", "ServiceMonitor"],
            _ => &[],
        };
        assert_eq!(
            foreign,
            expected.iter().copied().collect(),
            "{}",
            overlay.name
        );
    }
}

#[test]
fn monitors_speak_what_the_server_speaks() {
    let overlay = Overlay::read("monitored");
    let (gate, nodes) = (
        overlay.workload("steading-gate"),
        overlay.workload("steading"),
    );
    let settings = Effective::of(&overlay, nodes);
    let secret = secret_of(gate, &Effective::of(&overlay, gate), "TLS");
    for monitor in overlay.of_kind("ServiceMonitor") {
        let is_ours = monitor["metadata"]["name"] == "steading";
        for endpoint in list(&monitor["spec"]["endpoints"]) {
            let tls = &endpoint["tlsConfig"];
            assert_eq!(endpoint["scheme"] == "https", is_ours && secret.is_some());
            if is_ours {
                assert_eq!(tls["ca"]["secret"]["name"].as_str(), secret);
                assert_eq!(tls["ca"]["secret"]["key"], "ca.crt");
                assert_eq!(
                    tls["serverName"].as_str(),
                    settings.get("STEADING_TLS_NAME")
                );
            }
        }
    }
}
