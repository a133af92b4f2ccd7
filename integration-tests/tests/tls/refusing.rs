//! Settings that contradict each other, and files that will not do, are refused by name before anything starts.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::net::TcpListener;
use std::process::Command;

use steading_integration_tests::certificates::{Authority, Validity};
use steading_integration_tests::inspector;
use steading_integration_tests::programs::steading;

use super::said;

/// Every kind of program that takes the cluster's certificates, with what it needs beside them. Servers are to listen
/// where another does: what is wrong with settings is said first.
fn programs(taken: &TcpListener) -> Vec<(Command, Vec<String>)> {
    let etcd = "--etcd=http://127.0.0.1:1";
    let taken = taken.local_addr().expect("it listens");
    let (http, page) = (
        format!("--http-listen={taken}"),
        format!("--inspector-listen={taken}"),
    );
    let owned = |arguments: &[&str]| {
        arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect()
    };
    let of = |arguments: &[&str]| (Command::new(steading()), owned(arguments));
    vec![
        of(&["node", etcd, &http]),
        of(&["gate", etcd, &http]),
        of(&["dev", "--ports=any", "--storage=memory"]),
        of(&["status", "--address=https://127.0.0.1:1"]),
        of(&["doctor", "--address=https://127.0.0.1:1"]),
        of(&["simulate", "--address=https://127.0.0.1:1"]),
        (Command::new(inspector::program()), owned(&[etcd, &page])),
    ]
}

/// Each starts nothing, and says this of this setting.
fn each_refuses<F: AsRef<OsStr> + Debug>(flags: &[F], setting: &str, why: &str) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    for (mut program, arguments) in programs(&taken) {
        let output = program.args(&arguments).args(flags).output();
        let output = output.expect("it runs");
        let text = said(&output);
        let about = format!("{arguments:?} {flags:?}: {text}");
        assert_eq!(output.status.code(), Some(2), "{about}");
        assert!(text.contains(&format!("`{setting}`")), "{about}");
        assert!(text.contains(why), "{about}");
    }
}

#[test]
fn settings_of_tls_that_need_each_other_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = Authority::new()
        .issue(folder.path(), Validity::Good)
        .flags();
    let [ca, cert, key] = <[String; 3]>::try_from(good).expect("three");
    let missing = "is not set";
    each_refuses(&[&ca], "tls_cert", missing);
    each_refuses(&[&ca, &cert], "tls_key", missing);
    each_refuses(&[&ca, &key], "tls_cert", missing);
    each_refuses(&[&cert, &key], "tls_ca", missing);
    each_refuses(&[&key], "tls_ca", missing);
    let name = "--tls-name=steading";
    each_refuses(&[name], "tls_name", "`tls_ca` is not set");
    let name = "--tls-name=no name";
    each_refuses(
        &[ca.as_str(), &cert, &key, name],
        "tls_name",
        "no name of a host",
    );
}

#[test]
fn files_that_will_not_do_are_named_with_their_setting_and_no_key_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let (authority, other) = (Authority::new(), Authority::new());
    let at = |name: &str| folder.path().join(name);
    let issue = |name: &str| authority.issue(&at(name), Validity::Good);
    let gone = issue("gone");
    std::fs::remove_file(gone.path("tls.crt")).expect("it is there");
    each_refuses(&gone.flags(), "tls_cert", "cannot read");
    let garbage = issue("garbage");
    std::fs::write(garbage.path("ca.crt"), "no PEM").expect("it can be written");
    each_refuses(&garbage.flags(), "tls_ca", "no certificate in PEM form");
    let swapped = issue("swapped");
    let key = std::fs::read_to_string(issue("another").path("tls.key")).expect("a key");
    std::fs::write(swapped.path("tls.key"), &key).expect("it can be written");
    each_refuses(
        &swapped.flags(),
        "tls_key",
        "is not the key of the certificate",
    );
    let secret = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
    std::fs::write(swapped.path("tls.key"), secret).expect("it can be written");
    each_refuses(&swapped.flags(), "tls_key", "private key of no known kind");
    let expired = authority.issue(&at("expired"), Validity::Expired);
    each_refuses(&expired.flags(), "tls_cert", "has expired");
    let foreign = authority.issue_trusting(&at("foreign"), Validity::Good, &[&other]);
    each_refuses(&foreign.flags(), "tls_cert", "is not in `tls_ca`");
}
