//! Asks nodes, each for a bounded time and all at once: the dead ones cost no more than one wait.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use futures::stream::{self, StreamExt};
use tokio::time::sleep;

use super::facts::{Facts, NodeFacts, Told};
use super::samples::{Samples, Window};
use super::{DoctorArgs, DoctorError, store};
use crate::client::Client;
use crate::http::{Addresses, Cluster, NodeInfo, Ready, ShardInfo, ShardState};
use crate::output::with_causes;

/// How long one question may take.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// Most nodes that are asked at once.
const ASKED_AT_ONCE_MAX: usize = 64;

/// Most shards without an owner that are explained.
const EXPLAINED_MAX: usize = 5;

/// A node to be asked.
struct Patient {
    name: String,
    address: String,
    client: Client,
    info: Option<NodeInfo>,
}

/// Gathers what checks want to know.
///
/// # Errors
///
/// [`DoctorError`] for wrong arguments alone: what does not answer is a fact.
pub(super) async fn facts(args: &DoctorArgs) -> Result<Facts, DoctorError> {
    let named = args.address.iter().map(|address| {
        let client = args.client(address)?;
        Ok((address.clone(), client))
    });
    let named = named.collect::<Result<Vec<_>, DoctorError>>()?;
    let (store, clusters) = tokio::join!(
        store::examine(&args.store),
        all_at_once(&named, async |(_, client)| {
            client
                .get_within::<Cluster>(&["v1", "cluster"], ASK_TIMEOUT)
                .await
                .ok()
        })
    );
    let store = store?;
    let answers = clusters.iter().zip(&named);
    let answered = answers.filter_map(|(cluster, (_, client))| Some((cluster.clone()?, client)));
    let newest = answered.max_by_key(|(cluster, _)| cluster.revision);
    let in_store = store.as_ref().and_then(|store| store.cluster.clone().ok());
    let (cluster, client) = match newest {
        Some((cluster, client)) => (Some(cluster), Some(client)),
        None => (in_store, None),
    };
    let patients = patients(args, named.clone(), cluster.as_ref()).await?;
    let mut facts = Facts {
        nodes: examined(patients, args.measure).await,
        cluster,
        store,
        measured: args.measure,
        grace: args.grace,
        now: now(),
        ..Facts::default()
    };
    if let Some(client) = client {
        ask_about_shards(client, &mut facts).await;
    }
    Ok(facts)
}

/// Returns whom to ask: every node of the cluster, and whoever was named and is none of them.
async fn patients(
    args: &DoctorArgs,
    named: Vec<(String, Client)>,
    cluster: Option<&Cluster>,
) -> Result<Vec<Patient>, DoctorError> {
    let known = cluster.map_or(&[][..], |cluster| &cluster.nodes);
    let mut patients: BTreeMap<String, Patient> = BTreeMap::new();
    let names = all_at_once(&named, async |(_, client)| {
        let ready = client.raw(&["ready"], ASK_TIMEOUT).await.ok()?;
        serde_json::from_slice::<Ready>(&ready.body).ok()
    });
    for (ready, (address, client)) in names.await.into_iter().zip(named) {
        let told = ready.map(|ready| ready.node);
        let is_at =
            |node: &&NodeInfo| reachable(&node.addresses).is_some_and(|at| address.ends_with(&at));
        let by_address = || known.iter().find(is_at).map(|node| node.id.clone());
        let name = told.or_else(by_address).unwrap_or_else(|| address.clone());
        let info = known.iter().find(|node| node.id == name).cloned();
        let patient = Patient {
            name: name.clone(),
            address,
            client,
            info,
        };
        patients.entry(name).or_insert(patient);
    }
    for node in known {
        let Some(address) = reachable(&node.addresses) else {
            continue; // It has no HTTP server.
        };
        if !patients.contains_key(&node.id) {
            let patient = Patient {
                name: node.id.clone(),
                client: args.client_of(&address)?,
                address,
                info: Some(node.clone()),
            };
            patients.insert(node.id.clone(), patient);
        }
    }
    Ok(patients.into_values().collect())
}

/// Returns where a node's HTTP server is reached. One that listens on all addresses tells none; the
/// host is then the one that its gRPC server tells.
fn reachable(addresses: &Addresses) -> Option<String> {
    let http = addresses.http.as_ref()?;
    let (host, port) = http.rsplit_once(':')?;
    if !["0.0.0.0", "[::]"].contains(&host) {
        return Some(http.clone());
    }
    let (host, _) = addresses.grpc.rsplit_once(':')?;
    Some(format!("{host}:{port}"))
}

/// Asks every node for its readiness and metrics, waits, and asks for the metrics again.
async fn examined(patients: Vec<Patient>, measure: Duration) -> Vec<NodeFacts> {
    let first = all_at_once(&patients, async |patient| first_look(&patient.client).await).await;
    sleep(measure).await;
    let answered: BTreeSet<usize> = (0..)
        .zip(&first)
        .filter(|(_, told)| told.is_ok())
        .map(|(at, _)| at)
        .collect();
    let again: Vec<_> = (0..)
        .zip(&patients)
        .filter(|(at, _)| answered.contains(at))
        .collect();
    let second = all_at_once(&again, async |(at, patient)| {
        (*at, scrape(&patient.client).await)
    });
    let mut second: BTreeMap<usize, _> = second.await.into_iter().collect();
    let nodes = (0..).zip(patients.into_iter().zip(first));
    let nodes = nodes.map(|(at, (patient, told))| NodeFacts {
        name: patient.name,
        address: patient.address,
        info: patient.info,
        told: told.and_then(|told| {
            let after = second
                .remove(&at)
                .unwrap_or_else(|| Err("it was not asked".into()))?;
            let metrics = Window {
                after,
                ..told.metrics
            };
            Ok(Told { metrics, ..told })
        }),
    });
    nodes.collect()
}

async fn first_look(client: &Client) -> Result<Told, String> {
    let asked = now();
    let answer = client.raw(&["ready"], ASK_TIMEOUT).await;
    let answer = answer.map_err(|error| with_causes(&error))?;
    let middle = f64::midpoint(asked, now());
    let ready = serde_json::from_slice(&answer.body);
    let ready = ready.map_err(|error| format!("it does not answer like a node: {error}"))?;
    Ok(Told {
        ready,
        // The date leaves the part of a second out: half of one, on average.
        clock_ahead: answer.date.map(|date| seconds(date) + 0.5 - middle),
        metrics: Window {
            before: scrape(client).await?,
            after: Samples::default(),
        },
    })
}

async fn scrape(client: &Client) -> Result<Samples, String> {
    let answer = client.raw(&["metrics"], ASK_TIMEOUT).await;
    let answer = answer.map_err(|error| with_causes(&error))?;
    Ok(Samples::parse(&String::from_utf8_lossy(&answer.body)))
}

/// Asks for plans, and for the shards that nobody serves. What does not come is left out.
async fn ask_about_shards(client: &Client, facts: &mut Facts) {
    let plans = client.get_within(&["v1", "plans"], ASK_TIMEOUT).await;
    facts.plans = plans.unwrap_or_default();
    let unowned = facts
        .cluster
        .as_ref()
        .map_or(0, |cluster| cluster.shards.unowned);
    if unowned == 0 {
        return;
    }
    let shards = client
        .get_within::<Vec<ShardInfo>>(&["v1", "shards"], ASK_TIMEOUT)
        .await;
    let shards = shards.unwrap_or_default();
    let in_state = |state| {
        let shards = shards.iter().filter(move |shard| shard.state == state);
        shards.map(|shard| shard.shard)
    };
    facts.quarantined = in_state(ShardState::Quarantined).collect();
    let explained: Vec<_> = in_state(ShardState::Unowned).take(EXPLAINED_MAX).collect();
    let explained = all_at_once(&explained, async |shard| {
        let path = ["v1", "explain", "shard", &shard.to_string()];
        client.get_within(&path, ASK_TIMEOUT).await.ok()
    });
    facts.unowned = explained.await.into_iter().flatten().collect();
}

/// Asks many things at once, and returns the answers in order.
async fn all_at_once<'a, T, A>(of: &'a [T], ask: impl AsyncFn(&'a T) -> A) -> Vec<A> {
    let asked = of.iter().map(|item| ask(item));
    stream::iter(asked)
        .buffered(ASKED_AT_ONCE_MAX)
        .collect()
        .await
}

fn now() -> f64 {
    seconds(SystemTime::now())
}

fn seconds(at: SystemTime) -> f64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_reached_where_the_node_is() {
        let addresses = |http: &str| Addresses {
            grpc: "counter-0.steading:7400".into(),
            http: Some(http.into()),
        };
        let of = |http| reachable(&addresses(http));
        assert_eq!(
            of("0.0.0.0:7480").as_deref(),
            Some("counter-0.steading:7480")
        );
        assert_eq!(of("[::]:7480").as_deref(), Some("counter-0.steading:7480"));
        assert_eq!(of("10.0.0.7:7480").as_deref(), Some("10.0.0.7:7480"));
    }
}
