//! Who may look and who may act, request by request.

use super::*;

fn access(is_local: bool, allow_actions: bool) -> Access {
    Access {
        token: Some("open-sesame".to_owned().into()),
        allow_actions,
        is_local,
    }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        let name: HeaderName = name.parse().expect("a name");
        (name, value.parse().expect("a value"))
    });
    pairs.collect()
}

fn looks(is_local: bool, pairs: &[(&str, &str)]) -> Result<(), String> {
    check_look(&access(is_local, false), &headers(pairs)).map_err(|problem| problem.code)
}

fn acts(pairs: &[(&str, &str)]) -> Result<String, String> {
    let operator = check_act(&access(true, true), &headers(pairs), None);
    operator.map(|by| by.name).map_err(|problem| problem.code)
}

fn refused<T>(code: &str) -> Result<T, String> {
    Err(code.to_owned())
}

const TOKEN: (&str, &str) = ("x-steading-token", "open-sesame");

#[test]
fn a_local_inspector_is_read_by_its_own_machine_alone() {
    for host in [
        "localhost:7490",
        "127.0.0.1:7490",
        "[::1]:7490",
        "127.9.9.9",
    ] {
        assert_eq!(looks(true, &[("host", host)]), Ok(()), "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:7490",
        "127.0.0.1.evil.example",
    ] {
        assert_eq!(
            looks(true, &[("host", host)]),
            refused("wrong_host"),
            "{host}"
        );
    }
}

#[test]
fn an_inspector_that_others_reach_wants_the_token_for_everything() {
    let basic = format!("Basic {}", BASE64_STANDARD.encode("ada:open-sesame"));
    let wrong = format!("Basic {}", BASE64_STANDARD.encode("ada:guess"));
    assert_eq!(looks(false, &[("authorization", &basic)]), Ok(()));
    assert_eq!(
        looks(false, &[("authorization", "Bearer open-sesame")]),
        Ok(())
    );
    for bad in [wrong.as_str(), "Bearer guess", "Basic !", "Digest x", ""] {
        assert_eq!(
            looks(false, &[("authorization", bad)]),
            refused("unauthorized"),
            "{bad}"
        );
    }
    assert_eq!(looks(false, &[]), refused("unauthorized"));
}

#[test]
fn actions_want_the_token_in_a_header_of_our_own() {
    assert_eq!(acts(&[TOKEN]), Ok("somebody".into()));
    let named = [TOKEN, ("x-steading-operator", "Ada")];
    assert_eq!(acts(&named), Ok("Ada".into()));
    assert_eq!(
        acts(&[("authorization", "Bearer open-sesame")]),
        Ok("somebody".into())
    );
    assert_eq!(acts(&[("x-steading-token", "guess")]), refused("bad_token"));
    assert_eq!(acts(&[]), refused("bad_token"));
}

#[test]
fn what_a_browser_sends_by_itself_does_not_act() {
    let basic = format!("Basic {}", BASE64_STANDARD.encode("ada:open-sesame"));
    assert_eq!(acts(&[("authorization", &basic)]), refused("bad_token"));
}

#[test]
fn pages_of_other_sites_do_not_act_whatever_they_show() {
    let host = ("host", "127.0.0.1:7490");
    assert!(acts(&[TOKEN, host, ("origin", "http://127.0.0.1:7490")]).is_ok());
    for origin in ["http://evil.example", "null", "http://127.0.0.1:7491"] {
        assert_eq!(
            acts(&[TOKEN, host, ("origin", origin)]),
            refused("cross_site"),
            "{origin}"
        );
    }
    for site in ["cross-site", "same-site"] {
        assert_eq!(
            acts(&[TOKEN, ("sec-fetch-site", site)]),
            refused("cross_site"),
            "{site}"
        );
    }
    assert!(acts(&[TOKEN, ("sec-fetch-site", "same-origin")]).is_ok());
}

#[test]
fn without_leave_nobody_acts() {
    let answer = check_act(&access(true, false), &headers(&[TOKEN]), None);
    assert_eq!(
        answer.map(|_| ()).map_err(|problem| problem.code),
        refused("read_only")
    );
}

#[test]
fn an_empty_token_is_none() {
    let access = Access {
        token: Some(String::new().into()),
        allow_actions: true,
        is_local: true,
    };
    assert!(check_act(&access, &headers(&[("x-steading-token", "")]), None).is_err());
}

#[test]
fn a_name_cannot_forge_a_line_of_the_log() {
    let long = "x".repeat(200);
    let name = acts(&[TOKEN, ("x-steading-operator", &long)]).expect("it acts");
    assert_eq!(name.len(), OPERATOR_LEN_MAX);
}
