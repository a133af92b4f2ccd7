//! Values in etcd that no node wrote, under every kind of key.

use steading_integration_tests::etcd::Etcd;

use crate::bytes::Chance;

/// Keys that are not a cluster's, or not in the form that it writes.
const FOREIGN: [&str; 12] = [
    "nodes/ghost",
    "nodes/\u{1b}[2J",
    "nodes/",
    "owner/99999",
    "owner/00017x",
    "owner/-1",
    "target/99999",
    "target/x",
    "plans/18446744073709551616",
    "plans/x\n",
    "x/y/z",
    "\u{202e}",
];

/// Writes the inputs under keys of each kind in turn, then puts everything back. Returns how many
/// were written.
///
/// What each node holds on to (its own key, the leader's, `meta/cluster`) is not overwritten:
/// whoever may write those can stop a cluster.
pub(crate) async fn write_all(
    etcd: &Etcd,
    prefix: &str,
    seeds: &[Vec<u8>],
    chance: Chance,
    count: usize,
) -> usize {
    let before = etcd.entries(prefix).await;
    let kinds = ["target/", "plans/", "orders"];
    let own = kinds.iter().filter_map(|kind| {
        let begin = format!("{prefix}{kind}");
        before.iter().find(|(key, _)| key.starts_with(&begin))
    });
    let own: Vec<_> = own.cloned().collect();
    assert!(own.len() >= 2, "{own:?}");
    let foreign = FOREIGN.map(|key| format!("{prefix}{key}"));
    let keys = own.iter().map(|(key, _)| key).chain(&foreign);
    let keys: Vec<_> = keys.cycle().take(count).collect();
    let inputs = chance.inputs(seeds, count);
    let mut client = etcd.client().await;
    for (key, value) in keys.iter().zip(inputs) {
        let put = client.put(key.as_str(), value, None).await;
        put.expect("etcd answers");
    }
    for key in foreign {
        client.delete(key, None).await.expect("etcd answers");
    }
    for (key, value) in own {
        client.put(key, value, None).await.expect("etcd answers");
    }
    count
}
