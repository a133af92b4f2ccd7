//! Who may look and who may act, request by request.

use super::*;

fn access(is_local: bool, allow_actions: bool) -> Access {
    Access {
        token: Some("open-sesame".to_owned().into()),
        allow_actions,
        is_local,
        hosts: Vec::new(),
    }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        let name: HeaderName = name.parse().expect("a name");
        (name, value.parse().expect("a value"))
    });
    pairs.collect()
}

/// Returns a request of a client at 10.0.0.`from`.
fn checked<'a>(
    access: &'a Access,
    attempts: &'a Mutex<Attempts>,
    headers: &'a HeaderMap,
    from: u8,
) -> Checked<'a> {
    Checked {
        access,
        attempts,
        headers,
        from: Some(IpAddr::from([10, 0, 0, from])),
        now: Instant::now(),
    }
}

fn looks(is_local: bool, pairs: &[(&str, &str)]) -> Result<(), Denied> {
    let (access, attempts) = (access(is_local, false), Mutex::default());
    checked(&access, &attempts, &headers(pairs), 1).look()
}

fn acts_with(access: &Access, pairs: &[(&str, &str)]) -> Result<String, Denied> {
    let operator = checked(access, &Mutex::default(), &headers(pairs), 1).act();
    operator.map(|by| by.name)
}

fn acts(pairs: &[(&str, &str)]) -> Result<String, Denied> {
    acts_with(&access(true, true), pairs)
}

const TOKEN: (&str, &str) = ("x-steading-token", "open-sesame");

#[test]
fn an_inspector_that_others_reach_wants_the_token_for_everything() {
    let basic = format!("Basic {}", BASE64_STANDARD.encode("ada:open-sesame"));
    let wrong = format!("Basic {}", BASE64_STANDARD.encode("ada:guess"));
    for good in [basic.as_str(), "Bearer open-sesame"] {
        assert_eq!(looks(false, &[("authorization", good)]), Ok(()), "{good}");
    }
    for bad in [
        wrong.as_str(),
        "Bearer guess",
        "Bearer ",
        "Basic !",
        "Digest x",
        "",
    ] {
        let looked = looks(false, &[("authorization", bad)]);
        assert_eq!(looked, Err(Denied::Unknown), "{bad}");
    }
    assert_eq!(looks(false, &[]), Err(Denied::Unknown));
    assert_eq!(looks(true, &[]), Ok(()), "a local one asks for none");
}

#[test]
fn actions_want_the_token_in_a_header_of_our_own() {
    assert_eq!(acts(&[TOKEN]), Ok("somebody from 10.0.0.1".into()));
    let named = [TOKEN, ("x-steading-operator", "Ada")];
    assert_eq!(acts(&named), Ok("Ada from 10.0.0.1".into()));
    let bearer = [("authorization", "Bearer open-sesame")];
    assert_eq!(acts(&bearer), Ok("somebody from 10.0.0.1".into()));
    assert_eq!(
        acts(&[("x-steading-token", "guess")]),
        Err(Denied::BadToken)
    );
    assert_eq!(acts(&[]), Err(Denied::BadToken));
}

#[test]
fn what_a_browser_sends_by_itself_does_not_act() {
    let basic = format!("Basic {}", BASE64_STANDARD.encode("ada:open-sesame"));
    assert_eq!(acts(&[("authorization", &basic)]), Err(Denied::BadToken));
}

#[test]
fn without_leave_nobody_acts() {
    let acted = acts_with(&access(true, false), &[TOKEN]);
    assert_eq!(acted, Err(Denied::ReadOnly));
}

#[test]
fn an_empty_token_is_none() {
    let access = Access {
        token: Some(String::new().into()),
        ..access(true, true)
    };
    assert!(acts_with(&access, &[("x-steading-token", "")]).is_err());
}

#[test]
fn only_wrong_tokens_are_failures() {
    let (access, attempts) = (access(false, true), Mutex::default());
    let request = |authorization: &str, from| {
        let headers = headers(&[("authorization", authorization)]);
        checked(&access, &attempts, &headers, from).look()
    };
    for _ in 0..100 {
        assert_eq!(request("Digest x", 1), Err(Denied::Unknown));
        assert_eq!(request("Bearer open-sesame", 1), Ok(()));
    }
    let guesses = (0..100).map(|guess| request(&format!("Bearer guess-{guess}"), 1));
    let heard = guesses
        .filter(|guess| *guess == Err(Denied::Unknown))
        .count();
    assert_eq!(heard, 5);
    assert!(matches!(
        request("Bearer open-sesame", 1),
        Err(Denied::TooMany(_))
    ));
    assert_eq!(request("Bearer open-sesame", 2), Ok(()));
}

#[test]
fn a_name_cannot_forge_a_line_of_the_log() {
    let long = "x".repeat(200);
    let name = acts(&[TOKEN, ("x-steading-operator", &long)]).expect("it acts");
    assert_eq!(name.len(), OPERATOR_LEN_MAX + " from 10.0.0.1".len());
}
