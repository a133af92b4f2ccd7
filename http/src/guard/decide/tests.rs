//! Requests by their heads, line by line, and what becomes of them.

use super::*;

const OK: &str = "ok";

/// Checks a request written as in HTTP/1.1; `Host: localhost:7480` unless there is another.
#[track_caller]
fn sender(request: &str, wanted: &str) {
    let request = if request.contains("\nhost:") {
        request.to_owned()
    } else {
        format!("{request}\nhost: localhost:7480")
    };
    raw(&request, Version::HTTP_11, wanted);
}

#[track_caller]
fn raw(request: &str, version: Version, wanted: &str) {
    let policy = Policy {
        hosts: Hosts::Local(vec!["node.example".parse().expect("a host")]),
        origins: vec!["https://app.example".parse().expect("an origin")],
        pages: &["/"],
    };
    let (method, uri, headers) = read(request);
    let head = Head {
        method: &method,
        uri: &uri,
        version,
        headers: &headers,
    };
    let got = policy.check_sender(&head);
    assert_eq!(code(&got), wanted, "{request}");
}

/// Checks the same for forms.
#[track_caller]
fn form(request: &str, has_body: bool, wanted: &str) {
    let (method, uri, headers) = read(request);
    let head = Head {
        method: &method,
        uri: &uri,
        version: Version::HTTP_11,
        headers: &headers,
    };
    assert_eq!(code(&check_form(&head, has_body)), wanted, "{request}");
}

fn read(request: &str) -> (Method, Uri, HeaderMap) {
    let mut lines = request.lines();
    let (method, uri) = lines
        .next()
        .and_then(|line| line.split_once(' '))
        .expect("a line");
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").expect("a header");
        let name: HeaderName = name.parse().expect("a name");
        (name, value.parse().expect("a value"))
    });
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, value);
    }
    (
        method.parse().expect("a method"),
        uri.parse().expect("a target"),
        map,
    )
}

fn code(got: &Result<(), Rejection>) -> &'static str {
    match got {
        Ok(()) => OK,
        Err(Rejection::BadHost) => "bad host",
        Err(Rejection::WrongHost(_)) => "wrong host",
        Err(Rejection::ForeignOrigin) => "foreign origin",
        Err(Rejection::CrossSite) => "cross site",
        Err(Rejection::NotJson) => "not JSON",
    }
}

#[test]
fn takes_what_names_this_server() {
    for host in [
        "localhost",
        "localhost:8080",
        "127.0.0.1:7480",
        "[::1]:7480",
        "Node.Example",
    ] {
        sender(&format!("POST /v1/pause\nhost: {host}"), OK);
    }
    for host in [
        "evil.example",
        "evil.example:7480",
        "10.0.0.1",
        "0.0.0.0:7480",
    ] {
        sender(&format!("GET /v1/objects\nhost: {host}"), "wrong host");
    }
}

#[test]
fn rejects_requests_without_one_valid_host() {
    sender("GET /\nhost: localhost\nhost: localhost", "bad host");
    sender("GET /\nhost: localhost\nhost: evil.example", "bad host");
    sender("GET /\nhost: localhost@evil.example", "bad host");
    sender("GET /\nhost: ", "bad host");
    raw("GET /", Version::HTTP_11, "bad host");
    raw("GET /", Version::HTTP_2, "bad host");
    raw("GET /healthz", Version::HTTP_10, OK);
}

#[test]
fn a_target_with_a_host_counts_like_one() {
    raw("GET http://localhost:7480/", Version::HTTP_2, OK);
    raw("GET http://evil.example/", Version::HTTP_2, "wrong host");
    sender("GET http://localhost:7480/\nhost: localhost:7480", OK);
    sender("GET http://evil.example/\nhost: localhost:7480", "bad host");
    sender("GET http://localhost/\nhost: evil.example", "bad host");
    sender(
        "GET http://localhost@evil.example/\nhost: localhost@evil.example",
        "bad host",
    );
}

#[test]
fn rejects_pages_of_other_origins() {
    for method in ["GET", "POST", "OPTIONS", "DELETE"] {
        for origin in [
            "http://evil.example",
            "https://evil.example",
            "null",
            "",
            "http://localhost:3000",
            "http://localhost",
            "https://127.0.0.1:7480",
            "file://",
            "localhost:7480",
            "chrome-extension://localhost:7480",
            "https://app.example.evil.example",
            "http://app.example",
        ] {
            sender(
                &format!("{method} /v1/pause\norigin: {origin}"),
                "foreign origin",
            );
        }
    }
    sender(
        "GET /\norigin: http://localhost:7480\norigin: http://evil.example",
        "foreign origin",
    );
}

#[test]
fn takes_its_own_pages_and_listed_ones() {
    sender("POST /v1/pause\norigin: http://localhost:7480", OK);
    sender(
        "POST /v1/pause\norigin: http://LOCALHOST:7480\nsec-fetch-site: same-origin",
        OK,
    );
    sender(
        "POST /v1/pause\nhost: node.example\norigin: https://node.example",
        OK,
    );
    sender(
        "POST /v1/pause\norigin: https://app.example\nsec-fetch-site: cross-site",
        OK,
    );
    let other_scheme =
        "POST /\nhost: node.example\norigin: http://node.example\nsec-fetch-site: cross-site";
    sender(other_scheme, "cross site");
}

#[test]
fn rejects_requests_across_sites() {
    for method in ["GET", "POST", "HEAD"] {
        for site in ["cross-site", "same-site", "other", ""] {
            sender(
                &format!("{method} /v1/objects\nsec-fetch-site: {site}"),
                "cross site",
            );
        }
        for site in ["same-origin", "none"] {
            sender(&format!("{method} /v1/objects\nsec-fetch-site: {site}"), OK);
        }
    }
    sender(
        "GET /metrics\nsec-fetch-site: same-origin\nsec-fetch-site: cross-site",
        "cross site",
    );
    sender("GET /metrics", OK);
}

#[test]
fn links_lead_to_pages_alone() {
    let visit = "sec-fetch-site: cross-site\nsec-fetch-mode: navigate\nsec-fetch-dest";
    sender(&format!("GET /\n{visit}: document"), OK);
    sender(&format!("GET /?from=wiki\n{visit}: document"), OK);
    sender(&format!("GET /\n{visit}: iframe"), "cross site");
    sender(
        &format!("GET /\n{visit}: document\nsec-fetch-dest: iframe"),
        "cross site",
    );
    sender(&format!("GET /v1/objects\n{visit}: document"), "cross site");
    sender(&format!("POST /\n{visit}: document"), "cross site");
    sender(
        &format!("GET /\nhost: evil.example\n{visit}: document"),
        "wrong host",
    );
    sender(
        "GET /\nsec-fetch-site: cross-site\nsec-fetch-mode: no-cors\nsec-fetch-dest: image",
        "cross site",
    );
}

#[test]
fn takes_what_no_form_can_send() {
    for has_body in [false, true] {
        for kind in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
        ] {
            form(
                &format!("POST /v1/pause\ncontent-type: {kind}"),
                has_body,
                OK,
            );
        }
    }
    form("POST /v1/pause\nx-steading-command: 1", false, OK);
    form("GET /v1/objects", false, OK);
    form("OPTIONS /v1/pause", false, OK);
}

#[test]
fn rejects_what_a_form_can_send() {
    for has_body in [false, true] {
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
            "application/jsonp",
            "application/json;",
            "application/json; charset=utf-7",
            "application/json; boundary=x",
            "application/json, text/plain",
            "text/plain; application/json",
            "text/plain, application/json",
        ] {
            let request = format!("POST /v1/pause\nx-steading-command: 1\ncontent-type: {kind}");
            form(&request, has_body, "not JSON");
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
            form(&format!("{method} /v1/pause"), has_body, "not JSON");
        }
        let twice = "POST /\ncontent-type: application/json\ncontent-type: application/json";
        form(twice, has_body, "not JSON");
    }
    form("POST /v1/pause\nx-steading-command: 1", true, "not JSON");
}
