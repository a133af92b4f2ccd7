//! Which settings start an Inspector, and which do not.

use super::*;

fn settings(arguments: &[&str]) -> Result<Access, String> {
    let program = ["steading-inspector", "--etcd=a:1"].into_iter();
    let program = Program::try_parse_from(program.chain(arguments.iter().copied()));
    let program = program.map_err(|error| error.to_string())?;
    program.settings.check().map_err(|error| error.to_string())
}

#[test]
fn without_settings_it_only_looks_and_only_from_here() {
    let access = settings(&[]).expect("good settings");
    assert!(access.is_local && !access.allow_actions && access.token.is_none());
}

#[test]
fn an_address_that_others_reach_needs_a_token() {
    for address in ["0.0.0.0:7490", "inspector.example:7490", "[::]:7490"] {
        let refused = settings(&[&format!("--inspector-listen={address}")]);
        let text = refused.expect_err("it must not start");
        assert!(text.contains("`inspector_token` is not set"), "{text}");
    }
    assert!(
        settings(&[
            "--inspector-listen=0.0.0.0:7490",
            "--inspector-token=long-enough"
        ])
        .is_ok()
    );
}

#[test]
fn actions_need_a_token_that_is_not_guessed_at_once() {
    assert!(settings(&["--allow-actions"]).is_err());
    let short = settings(&["--allow-actions", "--inspector-token=secret7"]);
    let text = short.expect_err("it is too short");
    assert!(!text.contains("secret7"), "{text}");
    assert!(settings(&["--allow-actions", "--inspector-token=long-enough"]).is_ok());
}

#[test]
fn the_certificate_of_the_page_and_its_key_need_each_other() {
    for (flag, lacks) in [
        (
            "--inspector-tls-cert=a.crt",
            "`inspector_tls_key` is not set",
        ),
        (
            "--inspector-tls-key=a.key",
            "`inspector_tls_cert` is not set",
        ),
    ] {
        let text = settings(&[flag]).expect_err("it must not start");
        assert!(text.contains(lacks), "{text}");
    }
    assert!(settings(&["--inspector-tls-cert=a.crt", "--inspector-tls-key=a.key"]).is_ok());
}

#[test]
fn secrets_are_not_shown() {
    let program = [
        "steading-inspector",
        "--etcd=a:1",
        "--inspector-token=open-sesame",
    ];
    let program = Program::try_parse_from(program).expect("good settings");
    assert!(!format!("{program:?}").contains("sesame"));
}
