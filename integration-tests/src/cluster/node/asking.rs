//! What a running node is asked over HTTP.

use serde_json::{Value, json};

use super::Node;
use crate::client::{Answer, Client, NoAnswer};

impl Node {
    /// Asks its HTTP server.
    ///
    /// # Errors
    ///
    /// If that cannot be reached.
    pub async fn get(&self, path: &str) -> Result<Answer, NoAnswer> {
        self.client.renewed().get(&self.url(path)).await
    }

    /// Gives its HTTP server a command.
    ///
    /// # Errors
    ///
    /// If that cannot be reached.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, NoAnswer> {
        let client = self.client.renewed();
        client.post(&self.url(path), body, &[]).await
    }

    /// Calls a method of an object once, as part of a trace.
    ///
    /// # Errors
    ///
    /// If the HTTP server cannot be reached.
    pub async fn call_traced(
        &self,
        object: &str,
        method: &str,
        arguments: &Value,
        traceparent: &str,
    ) -> Result<Answer, NoAnswer> {
        let url = self.url(&format!("/v1/objects/{object}/{method}"));
        let headers = [("traceparent", traceparent)];
        self.client.renewed().post(&url, arguments, &headers).await
    }

    /// Calls a method of an object once.
    ///
    /// # Errors
    ///
    /// If the HTTP server cannot be reached.
    pub async fn call(
        &self,
        object: &str,
        method: &str,
        arguments: &Value,
    ) -> Result<Answer, NoAnswer> {
        self.post(&format!("/v1/objects/{object}/{method}"), arguments)
            .await
    }

    /// Adds 1 to a counter, and returns its new total.
    ///
    /// # Errors
    ///
    /// What went wrong, in words.
    pub async fn add_one(&self, id: &str) -> Result<i64, String> {
        let object = format!("Counter/{id}");
        let answer = self.call(&object, "add", &json!({"n": 1})).await;
        match answer.map_err(|error| error.to_string())? {
            Answer { status: 200, body } => body.as_i64().ok_or_else(|| body.to_string()),
            Answer { status, body } => Err(format!("{status} {body}")),
        }
    }

    /// Returns the node that owns an object's shard, as this node sees it.
    ///
    /// # Panics
    ///
    /// If the HTTP server cannot be reached.
    pub async fn owner_of(&self, object: &str) -> Option<String> {
        let answer = self.get(&format!("/v1/locate/{object}")).await;
        let owner = &answer.expect("the node runs").body["owner"];
        owner.as_str().map(str::to_owned)
    }

    /// Returns the owner of each shard, as this node sees it.
    ///
    /// # Panics
    ///
    /// If the HTTP server cannot be reached.
    pub async fn owners(&self) -> Vec<Option<String>> {
        let answer = self.get("/v1/shards").await.expect("the node runs");
        let shards = answer.body.as_array().cloned().unwrap_or_default();
        let owner = |shard: Value| shard["owner"].as_str().map(str::to_owned);
        shards.into_iter().map(owner).collect()
    }

    /// Returns how its HTTP server is asked.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn url(&self, path: &str) -> String {
        self.client.url(&self.http, path)
    }
}

/// Returns the IDs of the live nodes that an answer of `/v1/cluster` lists.
pub fn node_ids(cluster: &Value) -> Vec<&str> {
    let nodes = cluster["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    nodes
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect()
}
