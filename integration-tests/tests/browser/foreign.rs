//! Pages of other sites, in a browser that reaches a node and the Inspector: they change and read nothing.
//!
//! The same pages attack a server without any guard, which shows that the browser does send what they try.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use serde_json::{Value, json};
use steading_integration_tests::browser::Browser;
use steading_integration_tests::cluster::Node;
use steading_integration_tests::inspector::Inspector;
use tokio::net::TcpListener;

use super::{is_live, stock_cluster};

/// A name that leads to this machine, as an attacker's can.
const EVIL: &str = "evil.example";

/// Sends `targets` everything that a page can, and returns what could be read of the answers.
const ATTACK: &str = r#"
const read = [];
const limit = (promise) => Promise.race([promise, new Promise((done) => setTimeout(done, 5000, "late"))]);
const post = async (url, body) => {
  for (const enctype of ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"]) {
    const frame = document.createElement("iframe");
    frame.name = `frame-${document.querySelectorAll("iframe").length}`;
    document.body.append(frame);
    const form = Object.assign(document.createElement("form"), { method: "POST", action: url, enctype, target: frame.name });
    const field = Object.assign(document.createElement("input"), { name: body.slice(0, -1) + ',"x', value: '":1}' });
    form.append(field);
    document.body.append(form);
    const loaded = new Promise((done) => { frame.onload = done; });
    form.submit();
    await limit(loaded);
    try { if (frame.contentDocument?.body?.innerText) read.push(["form", url, enctype]); } catch { /* As it should be. */ }
  }
  const blob = new Blob([body]);
  const bodies = [body, new URLSearchParams({ body }), blob, undefined];
  for (const body of bodies) {
    await limit(fetch(url, { method: "POST", mode: "no-cors", credentials: "include", body }).catch(() => {}));
  }
  navigator.sendBeacon(url, body);
  for (const headers of [{ "content-type": "application/json" }, { "x-steading-command": "1" }, {}]) {
    const answer = await limit(fetch(url, { method: "POST", headers, body }).catch(() => undefined));
    if (answer) read.push(["fetch", url, JSON.stringify(headers)]);
  }
};
const look = async (url) => {
  for (const tag of ["img", "script", "link"]) {
    const element = document.createElement(tag);
    const ended = new Promise((done) => {
      element.onload = () => done(read.push([tag, url]));
      element.onerror = done;
    });
    if (tag === "link") Object.assign(element, { rel: "stylesheet", href: url });
    else element.src = url;
    document.body.append(element);
    await limit(ended);
  }
  const answer = await limit(fetch(url).catch(() => undefined));
  if (answer) read.push(["fetch", url]);
  const opaque = await limit(fetch(url, { mode: "no-cors" }).catch(() => undefined));
  if (opaque?.status) read.push(["no-cors", url]);
  const events = new EventSource(url);
  await limit(new Promise((done) => {
    events.onopen = () => done(read.push(["events", url]));
    events.onerror = done;
  }));
  events.close();
};
return (async () => {
  for (const [url, body] of targets.posted) await post(url, body);
  for (const url of targets.looked_at) await look(url);
  return read;
})();
"#;

#[tokio::test]
async fn foreign_pages_change_and_read_nothing() {
    let cluster = stock_cluster("foreign").await;
    let [a, _b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    let deposited = a
        .call("Account/mill", "deposit", &json!({"amount": 10}))
        .await;
    assert_eq!(deposited.expect("it answers").body, json!(10));
    let inspector = Inspector::start(&cluster).await;
    let before = state(&a).await;

    let (site, victim) = (Site::start().await, Site::start().await);
    let rule = format!("--host-resolver-rules=MAP {EVIL} 127.0.0.1");
    let browser = Browser::start_with(1280, 900, &[&rule]).await;
    // Another site, and another origin of the same one.
    for host in [EVIL, "127.0.0.1"] {
        browser.open(&format!("http://{host}:{}/", site.port)).await;
        for target in [
            node_targets(a.http()),
            inspector_targets(inspector.address()),
        ] {
            assert_eq!(attack(&browser, &target).await, json!([]), "from {host}");
        }
        attack(
            &browser,
            &node_targets(&format!("127.0.0.1:{}", victim.port)),
        )
        .await;
        victim.was_really_attacked();
    }
    rebinding_gives_nothing_away(&browser, a.http()).await;
    rebinding_gives_nothing_away(&browser, inspector.address()).await;

    assert_eq!(state(&a).await, before);
    let log = inspector.output();
    assert!(!log.contains("an operator's action"), "{log}");
    own_pages_and_links_work(&browser, &a, &inspector, &site).await;
}

/// A page whose name leads to the server itself is of the server's origin for the browser.
async fn rebinding_gives_nothing_away(browser: &Browser, address: &str) {
    let (_, port) = address.rsplit_once(':').expect("a port");
    browser.open(&format!("http://{EVIL}:{port}/")).await;
    let script = r#"
        const json = { method: "POST", headers: { "content-type": "application/json", "x-steading-token": "open-sesame" }, body: "{}" };
        const get = ["/v1/objects", "/v1/cluster", "/metrics", "/ready", "/api/view", "/app.js"];
        const posted = ["/v1/pause", "/v1/objects/Account/mill/withdraw", "/api/pause"];
        return (async () => {
          const answers = [...get.map((path) => fetch(path)), ...posted.map((path) => fetch(path, json))];
          return (await Promise.all(answers)).map((answer) => answer.status);
        })();"#;
    assert_eq!(browser.run(script).await, json!(vec![421; 9]), "{address}");
}

async fn own_pages_and_links_work(
    browser: &Browser,
    node: &Node,
    inspector: &Inspector,
    site: &Site,
) {
    browser
        .open(&format!("http://{}/healthz", node.http()))
        .await;
    let own = "return fetch('/v1/cluster').then((answer) => answer.status);";
    assert_eq!(browser.run(own).await, json!(200));
    browser.open(&format!("http://{EVIL}:{}/", site.port)).await;
    let page = Value::from(inspector.page(""));
    let link = format!(
        "const link = Object.assign(document.createElement('a'), {{ href: {page} }});
         document.body.append(link);
         link.click();"
    );
    browser.run(&link).await;
    is_live(browser).await;
}

/// What pages would like to change and to read at a server.
struct Targets {
    posted: Vec<(String, &'static str)>,
    looked_at: Vec<String>,
}

fn node_targets(address: &str) -> Targets {
    let url = |path: &str| format!("http://{address}{path}");
    let posted = [
        ("/v1/pause", "{}"),
        ("/v1/shards/1/pin", "{}"),
        ("/v1/nodes/b/cordon", "{}"),
        ("/v1/nodes/b/drain", "{}"),
        ("/v1/objects/Account/mill/withdraw", r#"{"amount":5}"#),
    ];
    let looked_at = ["/v1/objects", "/v1/cluster", "/metrics", "/ready"];
    Targets {
        posted: posted.map(|(path, body)| (url(path), body)).into(),
        looked_at: looked_at.map(url).into(),
    }
}

fn inspector_targets(address: &str) -> Targets {
    let url = |path: &str| format!("http://{address}{path}");
    let posted = [
        "/api/pause",
        "/api/shards/1/pin",
        "/api/nodes/b/drain",
        "/api/session",
    ];
    let looked_at = ["/api/view", "/api/events", "/app.js", "/ready"];
    Targets {
        posted: posted.map(|path| (url(path), "{}")).into(),
        looked_at: looked_at.map(url).into(),
    }
}

async fn attack(browser: &Browser, targets: &Targets) -> Value {
    let targets = json!({"posted": targets.posted, "looked_at": targets.looked_at});
    browser
        .run(&format!("const targets = {targets};{ATTACK}"))
        .await
}

/// Everything that a page tried to change.
async fn state(node: &Node) -> Value {
    let balance = node.call("Account/mill", "balance", &json!({})).await;
    let cluster = node.get("/v1/cluster").await.expect("it answers").body;
    let shard = node
        .get("/v1/explain/shard/1")
        .await
        .expect("it answers")
        .body;
    let nodes = cluster["nodes"].as_array().expect("nodes").iter();
    let nodes = nodes.map(|node| json!([node["id"], node["state"], node["cordoned"]]));
    json!([
        balance.expect("it answers").body,
        cluster["paused"],
        nodes.collect::<Value>(),
        shard["pinned"],
        shard["owner"],
    ])
}

/// A server without any guard, with a page; it notes what comes.
struct Site {
    port: u16,
    seen: Arc<Mutex<Vec<(String, String)>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Site {
    async fn start() -> Self {
        let seen: Arc<Mutex<Vec<_>>> = Arc::default();
        let routes = Router::new()
            .route(
                "/",
                get(async || Html("<!doctype html><title>A page</title>")),
            )
            .fallback(note)
            .with_state(seen.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        #[allow(clippy::disallowed_methods, reason = "tests may spawn their servers")]
        let serving = tokio::spawn(async move {
            axum::serve(listener, routes).await.expect("it serves");
        });
        Self {
            port,
            seen,
            serving,
        }
    }

    /// Checks that everything arrived that a browser sends without asking, and nothing else; forgets it.
    fn was_really_attacked(&self) {
        let seen = std::mem::take(&mut *self.seen.lock().expect("no panic"));
        let of = |method| kinds(&seen, method);
        for kind in [
            "application/x-www-form-urlencoded",
            "text/plain",
            "multipart/form-data",
            "",
        ] {
            assert!(
                of("POST").any(|sent| sent.starts_with(kind)),
                "no POST of `{kind}`: {seen:?}"
            );
        }
        assert_eq!(of("POST").find(|sent| sent.contains("json")), None);
        assert!(
            of("OPTIONS").count() > 0 && of("GET").count() > 0,
            "{seen:?}"
        );
    }
}

/// Returns the content types of the requests of one method.
fn kinds<'a>(seen: &'a [(String, String)], method: &'a str) -> impl Iterator<Item = &'a str> {
    let seen = seen.iter().filter(move |(of, _)| of == method);
    seen.map(|(_, kind)| kind.as_str())
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The method and content type of each request.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

async fn note(State(seen): State<Seen>, request: Request) {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let seen_now = (request.method().to_string(), kind.to_owned());
    seen.lock().expect("no panic").push(seen_now);
}
