//! Whether the store serves, and nodes hear from it in time.

use std::time::Duration;

use steading::coordination::MemberHealth;
use steading::coordination::keys::BadEntry;
use steading::text::shell_word;

use super::{or_ok, percent};
use crate::doctor::facts::{Facts, StoreFacts};
use crate::doctor::finding::{Finding, Runbook};

/// From which answer on a member of etcd is slow.
const SLOW: Duration = Duration::from_millis(250);

/// From which size on its database is large: four fifths of the quota that it has by default.
const DATABASE_LARGE: u64 = 1_717_986_918;

/// Which part of its time a node should have left when it renews its lease.
const MARGIN_MIN: f64 = 0.25;

/// How late a view may be, in seconds.
const LAG_MAX: f64 = 2.0;

/// Most keys that are named one by one.
const KEYS_NAMED_MAX: usize = 10;

/// What the checks of members are called.
const MEMBERS: &str = "etcd";

pub(super) fn members(facts: &Facts) -> Vec<Finding> {
    let Some(store) = &facts.store else {
        return vec![Finding::ok(MEMBERS, "not examined; --etcd URL does")];
    };
    let all = store.members.len();
    let told = store.members.iter();
    let silent = told.filter(|(_, told)| told.is_err()).count();
    let mut found = Vec::new();
    for (endpoint, told) in &store.members {
        match told {
            Ok(health) => found.extend(of_member(endpoint, health)),
            Err(why) => found.push(of_silent(endpoint, why, 2 * silent >= all)),
        }
    }
    found.extend(of_two_clusters(store));
    or_ok(
        found,
        MEMBERS,
        format!("all {all} endpoints of etcd are well"),
    )
}

/// Endpoints of different etcd clusters: nodes use the one that they reached first.
fn of_two_clusters(store: &StoreFacts) -> Option<Finding> {
    let told = store.members.iter();
    let mut ids = told.filter_map(|(endpoint, told)| {
        let id = told.as_ref().ok()?.cluster_id;
        (id != 0).then_some((endpoint, id))
    });
    let (first, joined) = ids.next()?;
    let (other, found) = ids.find(|(_, id)| *id != joined)?;
    let what = format!(
        "the endpoints belong to different etcd clusters: {first} to {joined:x}, {other} to {found:x}"
    );
    let finding = Finding::bad(MEMBERS, Runbook("etcd-restore"), what);
    Some(
        finding
            .because("The setting `etcd` names a wrong endpoint, or a member was set up anew")
            .then(format!(
                "etcdctl --endpoints={first},{other} endpoint status -w table"
            )),
    )
}

/// A member that does not answer is bad if so many do not that there is no quorum.
fn of_silent(endpoint: &str, why: &str, is_bad: bool) -> Finding {
    let what = format!("etcd does not answer at {endpoint}");
    let finding = if is_bad {
        Finding::bad(MEMBERS, Runbook("etcd-down"), what)
    } else {
        Finding::warn(MEMBERS, Runbook("etcd-down"), what)
    };
    finding.because(why).then(format!(
        "etcdctl --endpoints={} endpoint health",
        shell_word(endpoint)
    ))
}

fn of_member(endpoint: &str, health: &MemberHealth) -> Vec<Finding> {
    let mut found = Vec::new();
    if !health.has_leader {
        let what = format!("etcd at {endpoint} knows no leader");
        found.push(
            Finding::bad(MEMBERS, Runbook("lost-quorum"), what)
                .because("More than half of the members are away: there is no quorum")
                .then(format!(
                    "etcdctl --endpoints={} member list",
                    shell_word(endpoint)
                )),
        );
    }
    for alarm in &health.alarms {
        let what = format!("etcd at {endpoint} has the alarm {alarm}");
        found.push(
            Finding::bad(MEMBERS, Runbook("etcd-full"), what)
                .because(
                    "With NOSPACE it takes no writes until it has room and the alarm is taken back",
                )
                .then(format!(
                    "etcdctl --endpoints={} alarm list",
                    shell_word(endpoint)
                )),
        );
    }
    if health.took > SLOW {
        let seconds = health.took.as_secs_f64();
        let what = format!("etcd at {endpoint} took {seconds:.1} s to answer");
        found.push(
            Finding::warn(MEMBERS, Runbook("etcd-down"), what)
                .because("Its disk or its machine is slow"),
        );
    }
    if health.database_bytes > DATABASE_LARGE {
        let mebibytes = health.database_bytes >> 20;
        let what = format!("the database of {endpoint} has {mebibytes} MiB");
        found
            .push(Finding::warn(MEMBERS, Runbook("etcd-full"), what).because(
                "Old revisions are not compacted, or the database was never defragmented",
            ));
    }
    found
}

pub(super) fn cluster_in_store(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "store_agrees";
    let Some(store) = &facts.store else {
        return vec![Finding::ok(CHECK, "not examined; --etcd URL does")];
    };
    let in_store = match &store.cluster {
        Ok(cluster) => cluster,
        Err(why) => {
            let what = "the cluster cannot be read from etcd";
            let finding = Finding::bad(CHECK, Runbook("etcd-down"), what).because(why);
            let with = "steading doctor --etcd URL --prefix PREFIX, both as the nodes have them";
            return vec![finding.then(with)];
        }
    };
    let Some(seen) = &facts.cluster else {
        return vec![Finding::ok(CHECK, "the cluster can be read from etcd")];
    };
    if seen.cluster_id != in_store.cluster_id {
        let what = format!(
            "nodes are of cluster {}, etcd has {}",
            seen.cluster_id, in_store.cluster_id
        );
        let finding = Finding::bad(CHECK, Runbook("etcd-restore"), what);
        return vec![
            finding.because("etcd lost its data, or --etcd or --prefix is that of another cluster"),
        ];
    }
    // The store was read while nodes were asked: it cannot be behind one by more than moments. What
    // is meanwhile written makes the store greater, never less.
    if in_store.revision + 1 < seen.revision {
        let what = format!(
            "etcd went back in time: it has revision {}, nodes have seen {}",
            in_store.revision, seen.revision
        );
        return vec![
            Finding::bad(CHECK, Runbook("etcd-restore"), what)
                .because("etcd was restored from a snapshot while nodes ran, and their tokens are of before")
                .then("stop every node, gate and Inspector; then:")
                .then("steading raise-tokens --etcd URL"),
        ];
    }
    vec![Finding::ok(CHECK, "nodes and etcd agree")]
}

/// Keys that were written by hand, by another program, or by a newer version.
pub(super) fn irregular_keys(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "store_keys";
    let runbook = Runbook("etcd-keys");
    let Some(store) = &facts.store else {
        return vec![Finding::ok(CHECK, "not examined; --etcd URL does")];
    };
    let named = store.irregular.iter().take(KEYS_NAMED_MAX);
    let mut found: Vec<_> = named
        .map(|BadEntry { key, reason }| {
            let what = format!("the key {key:?} in etcd does not count: {reason}");
            // Debug formatting escapes what a terminal would act on.
            Finding::warn(CHECK, runbook, what)
                .because("It was written by hand, by another program or by a newer version")
                .then(format!(
                    "etcdctl get -w json {key:?}; delete it if nothing needs it"
                ))
        })
        .collect();
    let more = store.irregular.len().saturating_sub(KEYS_NAMED_MAX);
    if more > 0 {
        found.push(Finding::warn(
            CHECK,
            runbook,
            format!("{more} more keys do not count"),
        ));
    }
    or_ok(
        found,
        CHECK,
        "every key under the prefix is one of Steading's",
    )
}

pub(super) fn fences(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "fences";
    let runbook = Runbook("fences");
    let found = facts.told().filter_map(|(node, told)| {
        let metrics = &told.metrics;
        let suspended = metrics.growth("steading_suspensions_total", &[]).unwrap_or_default();
        let why = "Its keep-alives come late: etcd is slow, the way to it is, or the node gets no CPU time";
        if suspended > 0.0 {
            let what = format!("{} had to stop serving while it was measured", node.name);
            return Some(Finding::bad(CHECK, runbook, what).because(why));
        }
        let margin = metrics.after.sum("steading_fence_margin_seconds", &[])?;
        let whole = metrics.after.sum("steading_fence_seconds", &[]).filter(|whole| *whole > 0.0)?;
        let part = margin / whole;
        (part < MARGIN_MIN).then(|| {
            let what = format!("{} renews its lease at the last moment: {} of its time were left", node.name, percent(part));
            Finding::warn(CHECK, runbook, what).because(why)
        })
    });
    or_ok(
        found.collect(),
        CHECK,
        "every ready node renews its lease in time",
    )
}

pub(super) fn views(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "views";
    let runbook = Runbook("watch-lag");
    let mut found = Vec::new();
    for (node, told) in facts.told() {
        let metrics = &told.metrics.after;
        let of = |name| metrics.sum(name, &[]).unwrap_or_default();
        let lag = of("steading_watch_lag_seconds");
        if lag > LAG_MAX {
            let what = format!("{} hears of changes {lag:.1} s late", node.name);
            found.push(
                Finding::warn(CHECK, runbook, what).because("etcd or the node has too much to do"),
            );
        }
        if of("steading_view_mismatches_total") > 0.0 {
            let what = format!("the view of {} was wrong since it started", node.name);
            found.push(Finding::warn(CHECK, runbook, what).because(
                "A fault of Steading, or etcd went back in time; it has read everything anew",
            ));
        }
        let ignored = of("steading_ignored_keys");
        if ignored > 0.0 {
            let what = format!("{} ignores {ignored} keys in etcd", node.name);
            found.push(
                Finding::warn(CHECK, runbook, what)
                    .because("They were written by hand, by another program or by a newer version")
                    .then("steading doctor --etcd URL"),
            );
        }
        if of("steading_description_altered") > 0.0 {
            let what = format!("{} rejected a change of `meta/cluster` in etcd", node.name);
            let warnings = told.ready.warnings.join("; ");
            let why = format!("Running nodes go on, but no node can start. {warnings}");
            found.push(
                Finding::bad(CHECK, Runbook("etcd-restore"), what)
                    .because(why)
                    .then("etcdctl get PREFIX/meta/cluster, and put back what the log of a node says it joined"),
            );
        }
    }
    or_ok(found, CHECK, "views of ready nodes follow the store")
}

pub(super) fn tokens(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "tokens";
    const REQUESTS: &str = "steading_storage_requests_total";
    let runbook = Runbook("token-rejections");
    let now = facts.growth(REQUESTS, &["outcome=\"fenced\""]);
    if now > 0.0 {
        let what =
            format!("storage refused {now} loads and saves for their token while it was measured");
        return vec![
            Finding::bad(CHECK, runbook, what)
                .because("Storage knows a later owner. If etcd was restored from a snapshot, its last step is missing")
                .then("stop every node, then:")
                .then("steading raise-tokens --etcd URL"),
        ];
    }
    let before = facts.told().filter_map(|(node, told)| {
        let refused = told.metrics.after.sum(REQUESTS, &["outcome=\"fenced\""])?;
        (refused > 0.0).then(|| {
            let what = format!(
                "storage has refused {refused} tokens of {} since it started",
                node.name
            );
            Finding::warn(CHECK, runbook, what)
                .because("It was paused, and others had taken over. Nothing was lost")
        })
    });
    let mut found: Vec<_> = before.collect();
    let all = facts.growth(REQUESTS, &[]);
    let failed = facts.growth(REQUESTS, &["outcome=\"unavailable\""])
        + facts.growth(REQUESTS, &["outcome=\"unknown\""]);
    if failed > 0.0 {
        let what = format!(
            "{} of {all} loads and saves failed",
            percent(failed / all.max(failed))
        );
        let finding = Finding::bad(CHECK, Runbook("storage"), what);
        found.push(finding.because("Storage does not answer"));
    }
    or_ok(found, CHECK, "storage takes what owners store")
}
