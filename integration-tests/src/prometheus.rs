//! A real Prometheus that scrapes what a test tells it.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::until;

/// How often another port is tried, if somebody else takes one first.
const START_ATTEMPTS_MAX: usize = 5;

/// What Prometheus scrapes: a job and the `host:port` of its members.
pub type Job<'a> = (&'a str, Vec<String>);

/// A running Prometheus. Killed when dropped, and when the test process ends in any way.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: String,
    client: reqwest::Client,
    /// Of its settings and its data; removed with it.
    folder: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes these jobs each second and evaluates these rules, and waits until it
    /// answers.
    ///
    /// # Panics
    ///
    /// If it is not installed, or finds no port.
    pub async fn start(jobs: &[Job<'_>], rules: &Path) -> Self {
        let mut last = String::new();
        for _ in 0..START_ATTEMPTS_MAX {
            let prometheus = Self::launch(jobs, rules);
            if prometheus.answers().await {
                return prometheus;
            }
            last = prometheus.process.output();
        }
        panic!("no Prometheus after {START_ATTEMPTS_MAX} attempts: {last}");
    }

    fn launch(jobs: &[Job<'_>], rules: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("prometheus.yml");
        fs::write(&config, config_of(jobs, rules)).expect("it can be written");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = format!("127.0.0.1:{}", port.expect("a free port").port());
        let args = [
            format!("--config.file={}", config.display()),
            format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ),
            format!("--web.listen-address={address}"),
            "--log.level=warn".into(),
        ];
        Self {
            process: Process::start("prometheus", "prometheus", args),
            address,
            client: reqwest::Client::new(),
            folder,
        }
    }

    /// Waits until this Prometheus answers, or has ended since another process has its port.
    async fn answers(&self) -> bool {
        let ours = self.folder.path().display().to_string();
        until("Prometheus answers", async || {
            if self.process.ended().is_some() {
                return Ok(false);
            }
            let flags = self.get("/api/v1/status/flags", &[]).await?;
            let path = flags["storage.tsdb.path"].as_str().unwrap_or_default();
            if path.starts_with(&ours) {
                Ok(true)
            } else {
                Err(format!("another one answers: {flags}"))
            }
        })
        .await
    }

    /// Evaluates an expression now, and returns its series: one for a scalar.
    ///
    /// # Errors
    ///
    /// What Prometheus finds wrong with it.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let query = [("query", expression)];
        let data = self.get("/api/v1/query", &query).await?;
        match (data["resultType"].as_str(), &data["result"]) {
            (Some("vector" | "matrix"), Value::Array(series)) => Ok(series.clone()),
            (Some("scalar"), value) => Ok(vec![value.clone()]),
            _ => Err(format!("not understood: {data}")),
        }
    }

    /// Asks its API, and returns the data of the answer.
    ///
    /// # Errors
    ///
    /// What went wrong, in words.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("http://{}{path}", self.address);
        let response = self.client.get(url).query(query).send().await;
        let answer = response.map_err(|error| error.to_string())?.text().await;
        let answer = answer.map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&answer).map_err(|_| answer)?;
        if answer["status"] == "success" {
            Ok(answer["data"].clone())
        } else {
            Err(answer.to_string())
        }
    }
}

fn config_of(jobs: &[Job<'_>], rules: &Path) -> String {
    let mut config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
         rule_files: ['{}']\nscrape_configs:\n",
        rules.display()
    );
    for (job, members) in jobs {
        let members = members.iter().map(|member| format!("'{member}'"));
        let members = members.collect::<Vec<_>>().join(", ");
        writeln!(
            config,
            "  - job_name: {job}\n    static_configs: [{{ targets: [{members}] }}]"
        )
        .expect("writing to a string succeeds");
    }
    config
}
