//! Where the words live: a running cluster, or one of our own.

use std::sync::Arc;

use reqwest::Url;
use serde::{Deserialize, Serialize};
use steading::coordination::MemoryStore;
use steading::{Node, Object, methods};

use crate::http::HttpCluster;

/// Nodes of a cluster of our own.
const NODES: usize = 3;

/// Counts how often a word occurs. The stock `steading` binary hosts the same.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
pub(crate) struct Word {
    count: u64,
}

#[methods]
impl Word {
    /// Adds `n` occurrences and returns how many there are.
    async fn add(&mut self, n: u64) -> u64 {
        self.count += n;
        self.count
    }

    /// Returns how many occurrences there are.
    async fn count(&self) -> u64 {
        self.count
    }
}

/// The objects of one run.
pub(crate) struct Cluster {
    run: String,
    reach: Reach,
}

enum Reach {
    Http(HttpCluster),
    Own(Vec<Node>),
}

impl Cluster {
    /// Uses the cluster at the addresses, or starts one if there are none.
    ///
    /// # Errors
    ///
    /// If no node can be reached or started.
    pub(crate) async fn reach(addresses: Vec<Url>, run: &str) -> anyhow::Result<Self> {
        let reach = if addresses.is_empty() {
            Reach::Own(start_own().await?)
        } else {
            Reach::Http(HttpCluster::new(addresses)?)
        };
        Ok(Self {
            run: run.to_owned(),
            reach,
        })
    }

    /// Adds `n` occurrences of a word.
    ///
    /// # Errors
    ///
    /// If no answer came; the occurrences may count or not.
    pub(crate) async fn add(&self, word: &str, n: u64) -> anyhow::Result<u64> {
        let id = self.id(word);
        match &self.reach {
            Reach::Http(cluster) => {
                let arguments = serde_json::json!({ "n": n });
                Ok(cluster.call("Word", &id, "add", &arguments).await?)
            }
            Reach::Own(nodes) => Ok(nodes[0].object::<Word>(id).add(n).await?),
        }
    }

    /// Returns how many occurrences of a word were added.
    ///
    /// # Errors
    ///
    /// If no answer came.
    pub(crate) async fn count(&self, word: &str) -> anyhow::Result<u64> {
        let id = self.id(word);
        match &self.reach {
            Reach::Http(cluster) => {
                let arguments = serde_json::json!({});
                Ok(cluster.call("Word", &id, "count", &arguments).await?)
            }
            Reach::Own(nodes) => Ok(nodes[0].object::<Word>(id).count().await?),
        }
    }

    /// Stops the cluster if it is our own.
    pub(crate) async fn leave(self) {
        if let Reach::Own(nodes) = self.reach {
            for node in nodes {
                node.stop().await;
            }
        }
    }

    fn id(&self, word: &str) -> String {
        format!("{word}@{}", self.run)
    }
}

/// Starts nodes that agree through one store in memory.
async fn start_own() -> anyhow::Result<Vec<Node>> {
    let store = MemoryStore::new();
    let starting = (1..=NODES).map(|number| {
        let builder = Node::builder().store(Arc::new(store.client()));
        async move {
            let builder = builder.id(format!("wordcount-{number}").parse()?);
            anyhow::Ok(builder.register::<Word>().start().await?)
        }
    });
    futures::future::try_join_all(starting).await
}
