//! The program from outside: what keeps it from starting.

use std::process::Command;

fn refused(variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steading-inspector"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STEADING_")) {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).args(arguments);
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    text
}

#[test]
fn a_variable_that_is_no_setting_is_named() {
    let text = refused(&[("STEADING_PERFIX", "/a/")], &["--etcd=a:1"]);
    assert!(
        text.contains("`STEADING_PERFIX`") && text.contains("`STEADING_PREFIX`"),
        "{text}"
    );
}

#[test]
fn settings_that_do_not_go_together_are_named() {
    for (variables, arguments, setting) in [
        (&[][..], &[][..], "etcd"),
        (&[], &["--etcd=a:1", "--etcd-user=me"], "etcd_password"),
        (
            &[("STEADING_INSPECTOR_TOKEN_FILE", "/does/not/exist")],
            &["--etcd=a:1"],
            "inspector_token_file",
        ),
        (
            &[("STEADING_NODE_ID", "a")], // Known to others, and fine here.
            &["--etcd=a:1", "--allow-actions"],
            "inspector_token",
        ),
    ] {
        let text = refused(variables, arguments);
        assert!(text.contains(&format!("`{setting}`")), "{text}");
    }
}
