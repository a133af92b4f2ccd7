//! A real Chromium, driven over `WebDriver`.
//!
//! The protocol is a handful of JSON requests to `chromedriver`, which comes with Debian's browser;
//! its client libraries would bring thirty packages for the six requests that are made here.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::process::Process;
use crate::until;

/// How long one request may take: a page may be busy, and the machine too.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// The tabulator key, in the words of the protocol.
pub const TAB: &str = "\u{e004}";

/// The enter key.
pub const ENTER: &str = "\u{e007}";

/// The arrow that points right.
pub const RIGHT: &str = "\u{e014}";

/// A browser, at first with one window. Ends when dropped.
#[derive(Debug)]
pub struct Browser {
    session: String,
    client: reqwest::Client,
    chromium: Option<Pid>,
    /// Dropped last.
    _driver: Process,
}

impl Browser {
    /// Starts one with a window of this size.
    ///
    /// # Panics
    ///
    /// If `chromedriver` or `chromium` is not installed.
    pub async fn start(width: u32, height: u32) -> Self {
        Self::start_with(width, height, &[]).await
    }

    /// The same, with more arguments of Chromium.
    ///
    /// # Panics
    ///
    /// If `chromedriver` or `chromium` is not installed.
    pub async fn start_with(width: u32, height: u32, more: &[&str]) -> Self {
        let driver = Process::start("chromedriver", "chromedriver", ["--port=0"]);
        let port = driver
            .line("chromedriver listens", |line| {
                let (_, port) = line.split_once("started successfully on port ")?;
                port.trim_end_matches('.').parse::<u16>().ok()
            })
            .await;
        let client = reqwest::Client::builder().timeout(REQUEST_TIMEOUT);
        let client = client.no_proxy().build().expect("a client");
        let size = format!("--window-size={width},{height}");
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            &size,
        ];
        let args = [&args, more].concat();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": { "args": args },
        }}});
        let base = format!("http://127.0.0.1:{port}/session");
        let session = ask(client.post(&base).json(&wanted)).await;
        let id = session["sessionId"].as_str().expect("a session");
        let chromium = session["capabilities"]["goog:processID"].as_i64();
        let chromium = chromium.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        Self {
            session: format!("{base}/{id}"),
            client,
            chromium,
            _driver: driver,
        }
    }

    /// Opens an address and waits until it is loaded.
    pub async fn open(&self, url: &str) {
        self.post("url", json!({"url": url})).await;
    }

    /// Runs the body of a function in the page and returns what that returns.
    pub async fn run(&self, script: &str) -> Value {
        self.post("execute/sync", json!({"script": script, "args": []}))
            .await
    }

    /// Waits until an expression is true in the page; the page's text is told if it never is.
    pub async fn waits_for(&self, goal: &str, expression: &str) {
        let script = format!(
            "try {{ if ({expression}) return ''; }} catch (error) {{ return String(error); }}
             return document.body.innerText.slice(0, 2000) || 'an empty page';"
        );
        until(goal, async || match self.run(&script).await.as_str() {
            Some("") => Ok(()),
            other => Err(other.unwrap_or_default().to_owned()),
        })
        .await;
    }

    /// Clicks what a selector finds first, once it is there.
    pub async fn click(&self, selector: &str) {
        let quoted = Value::from(selector).to_string();
        self.waits_for(selector, &format!("document.querySelector({quoted})"))
            .await;
        self.run(&format!("document.querySelector({quoted}).click()"))
            .await;
    }

    /// Clicks the button that has this text, once it is there.
    pub async fn press(&self, text: &str) {
        let find = format!(
            "[...document.querySelectorAll('button')].find(b => b.innerText.trim() === {})",
            Value::from(text)
        );
        self.waits_for(text, &find).await;
        self.run(&format!("{find}.click()")).await;
    }

    /// Types into a field that a selector finds.
    pub async fn type_into(&self, selector: &str, text: &str) {
        let (selector, text) = (Value::from(selector), Value::from(text));
        self.waits_for("a field", &format!("document.querySelector({selector})"))
            .await;
        self.run(&format!(
            "const field = document.querySelector({selector});
             field.value = {text};
             field.dispatchEvent(new Event('input', {{bubbles: true}}));"
        ))
        .await;
    }

    /// Drags with the mouse from one point of the window to another.
    pub async fn drag(&self, from: (i64, i64), to: (i64, i64)) {
        let go = |(x, y): (i64, i64), ms: u64| json!({"type": "pointerMove", "duration": ms, "x": x, "y": y});
        let between = (i64::midpoint(from.0, to.0), i64::midpoint(from.1, to.1));
        let actions = json!({"actions": [{
            "type": "pointer",
            "id": "mouse",
            "parameters": {"pointerType": "mouse"},
            "actions": [
                go(from, 0),
                {"type": "pointerDown", "button": 0},
                go(between, 80),
                go(to, 80),
                {"type": "pointerUp", "button": 0},
            ],
        }]});
        self.post("actions", actions).await;
    }

    /// Presses keys one after the other: characters, or names of the protocol such as [`TAB`].
    pub async fn keys(&self, keys: &[&str]) {
        let strokes = keys.iter().flat_map(|key| {
            ["keyDown", "keyUp"].map(|stroke| json!({"type": stroke, "value": key}))
        });
        let strokes: Vec<Value> = strokes.collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]});
        self.post("actions", actions).await;
    }

    /// Opens one window more, beside the one that is looked at.
    pub async fn add_window(&self) -> Value {
        let window = self.post("window/new", json!({"type": "window"})).await;
        window["handle"].clone()
    }

    /// Looks at another window from now on.
    pub async fn look_at(&self, window: &Value) {
        self.post("window", json!({"handle": window})).await;
    }

    /// Returns the process of the browser, whose children are its other processes.
    ///
    /// # Panics
    ///
    /// If the driver did not tell.
    pub fn pid(&self) -> Pid {
        self.chromium.expect("the driver tells")
    }

    /// Shows the page in dark or light colours from now on.
    pub async fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.command("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }

    /// Makes the page as wide and high as if it were shown on such a screen.
    pub async fn screen(&self, width: u32, height: u32) {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.command("Emulation.setDeviceMetricsOverride", metrics)
            .await;
    }

    /// Asks the browser itself, in the words of its own protocol.
    pub async fn command(&self, name: &str, params: Value) -> Value {
        self.post("goog/cdp/execute", json!({"cmd": name, "params": params}))
            .await
    }

    /// Writes what the window shows into a file.
    pub async fn screenshot(&self, path: &Path) {
        let shot = self
            .command("Page.captureScreenshot", json!({"format": "png"}))
            .await;
        let data = shot["data"].as_str().expect("an image");
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, decode_base64(data)).expect("it can be written");
    }

    /// Returns the errors that the page has logged since this was last asked.
    pub async fn errors(&self) -> Vec<String> {
        let log = self.post("se/log", json!({"type": "browser"})).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        let errors = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        errors.map(|entry| entry["message"].to_string()).collect()
    }

    async fn post(&self, what: &str, body: Value) -> Value {
        let url = format!("{}/{what}", self.session);
        ask(self.client.post(url).json(&body)).await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver is killed without goodbye, so its browser would stay.
        if let Some(pid) = self.chromium {
            let _ = kill_process(pid, Signal::KILL); // It may have ended.
        }
    }
}

async fn ask(request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.expect("chromedriver answers");
    let status = answer.status();
    let mut body: Value = answer.json().await.expect("JSON");
    assert!(status.is_success(), "chromedriver: {body}");
    body["value"].take()
}

fn decode_base64(text: &str) -> Vec<u8> {
    let six_bits = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().filter_map(six_bits).collect();
    let groups = digits.chunks(4).flat_map(|group| {
        let bits = group
            .iter()
            .fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit));
        let bits = bits << (6 * (4 - group.len()));
        let bytes = bits.to_be_bytes();
        bytes[1..group.len()].to_vec()
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        for (text, want) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decode_base64(text), want.as_bytes());
        }
    }
}
