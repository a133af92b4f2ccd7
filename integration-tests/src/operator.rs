//! What an operator asks of a cluster: commands, plans, metrics.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::cluster::{Answer, Node};
use crate::until;

impl Node {
    /// Orders something that must be done, and returns what was answered.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub async fn order(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body).await.expect("the node runs");
        let Answer { status, body } = answer;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Moves shards, and returns the plan that does it.
    ///
    /// # Panics
    ///
    /// If that is refused, or there is nothing to move.
    pub async fn move_shards(&self, moves: impl IntoIterator<Item = (u32, &str)>) -> u64 {
        let plan = self.order_moves(moves).await;
        plan.expect("the shards are neither there nor on their way")
    }

    /// The same. Returns no plan if the shards are there, or on their way.
    ///
    /// # Panics
    ///
    /// If that is refused.
    pub async fn order_moves(&self, moves: impl IntoIterator<Item = (u32, &str)>) -> Option<u64> {
        let moves = moves.into_iter();
        let moves = moves.map(|(shard, node)| json!({ "shard": shard, "node": node }));
        let moves: Vec<Value> = moves.collect();
        let answer = self.order("/v1/moves", &json!({ "moves": moves })).await;
        answer["plan"]["id"].as_u64()
    }

    /// Begins a turn in this shard that ends when it is told to, and waits until it runs. Returns who waits for its end,
    /// and then tells the HTTP status of the answer, if there is one. The nodes must run a program that has `Holder`.
    pub async fn hold(&self, shard: u32) -> JoinHandle<Option<u16>> {
        let url = format!(
            "http://{}/v1/objects/Holder/shard%23{shard}%2Fx/hold",
            self.http()
        );
        let request = reqwest::Client::new().post(url);
        let request = request.header("x-steading-timeout-ms", "600000");
        let request = request.header("x-steading-command", "1");
        #[allow(clippy::disallowed_methods, reason = "tests may spawn their callers")]
        let held = tokio::spawn(async move {
            let answer = request.send().await.ok()?;
            Some(answer.status().as_u16())
        });
        let listed = format!("/v1/objects?type=Holder&shard={shard}");
        until("the turn runs", async || {
            let lives = self.get(&listed).await;
            let lives = lives.map_err(|error| error.to_string())?.body;
            let objects = lives["objects"].as_array().map_or(0, Vec::len);
            (objects == 1)
                .then_some(())
                .ok_or_else(|| lives.to_string())
        })
        .await;
        held
    }

    /// Ends the turn of [`Node::hold`]: at once, or when its shard takes calls again.
    pub async fn let_go(&self, shard: u32) {
        let object = format!("Holder/shard%23{shard}%2Fx");
        until("the turn is told to end", async || {
            let answer = self.call(&object, "let_go", &json!({})).await;
            match answer.map_err(|error| error.to_string())? {
                Answer { status: 200, .. } => Ok(()),
                Answer { body, .. } => Err(body.to_string()),
            }
        })
        .await;
    }

    /// Waits until a plan is as wished, and returns it.
    pub async fn plan_is(&self, plan: u64, goal: &str, wished: impl Fn(&Value) -> bool) -> Value {
        until(&format!("plan {plan}: {goal}"), async || {
            let answer = self.get(&format!("/v1/plans/{plan}")).await;
            let Answer { body, .. } = answer.map_err(|error| error.to_string())?;
            if wished(&body) {
                Ok(body)
            } else {
                Err(body.to_string())
            }
        })
        .await
    }

    /// Waits until a plan has ended, and returns it.
    pub async fn plan_ends(&self, plan: u64) -> Value {
        self.plan_is(plan, "ended", |plan| plan["outcome"] != "running")
            .await
    }

    /// Returns the numbers of the shards that a node owns, as this one sees it.
    pub async fn shards_of(&self, owner: &str) -> Vec<u32> {
        let owners = (0..).zip(self.owners().await);
        let of = owners.filter(|(_, of)| of.as_deref() == Some(owner));
        of.map(|(shard, _)| shard).collect()
    }

    /// Waits until every shard has its owner and each of these nodes, beside the gate, has its share.
    pub async fn is_spread<const N: usize>(&self, among: [&str; N]) {
        self.sees("every node has its share", |cluster| {
            let nodes = cluster["nodes"].as_array().map_or(&[][..], Vec::as_slice);
            let nodes = nodes.iter().filter(|node| node["weight"] != 0.0);
            let owned = nodes.map(|node| (node["id"].as_str(), node["shards_owned"].as_u64()));
            let owned: BTreeMap<_, _> = owned.collect();
            let shards = &cluster["shards"];
            let total = shards["total"].as_u64().unwrap_or(0);
            let least = total / u64::try_from(N).expect("few");
            let has_share =
                |node: &str| owned.get(&Some(node)).is_some_and(|of| *of >= Some(least));
            owned.len() == N
                && among.into_iter().all(has_share)
                && shards["owned"] == shards["total"]
                && shards["moving"] == 0
        })
        .await;
    }

    /// Returns who leads, as this node sees it; waits until somebody does.
    pub async fn leader(&self) -> String {
        let led = self.sees("a leader", |cluster| cluster["leader"].is_string());
        let leader = led.await["leader"].as_str().map(str::to_owned);
        leader.expect("just seen")
    }

    /// Returns the sum of a metric over the series whose labels contain this text.
    ///
    /// # Panics
    ///
    /// If there is no such metric.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let answer = self.get("/metrics").await.expect("the node runs");
        let text = answer.body.as_str().unwrap_or_default().to_owned();
        let series: BTreeMap<&str, f64> = text
            .lines()
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let is_named = series.split('{').next() == Some(name);
                (is_named && series.contains(labels)).then_some((series, value.parse().ok()?))
            })
            .collect();
        assert!(!series.is_empty(), "no {name} with {labels}: {text}");
        series.values().sum()
    }
}
