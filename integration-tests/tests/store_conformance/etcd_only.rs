//! What only etcd has: several members, users, TLS, restarts, and answers that do not come.

use std::time::Duration;

use steading::coordination::store::{Op, Store, StoreError, Txn};
use steading::coordination::{EtcdSettings, EtcdStore};
use steading::ids::Revision;
use steading::tls::{StoreTls, TlsFiles};
use steading_integration_tests::etcd::{Etcd, tls};
use steading_integration_tests::proxy::{Path, Proxy};
use steading_integration_tests::until;
use tokio::time::Instant;

use crate::leases::TTL;
use crate::subject::{after, connect, events_until, next, revision_of};

fn put(key: &str) -> Txn {
    Txn {
        then: vec![Op::Put {
            key: key.into(),
            value: b"1".to_vec(),
            lease: None,
        }],
        ..Txn::default()
    }
}

async fn error_of(settings: EtcdSettings) -> StoreError {
    EtcdStore::connect(settings).await.expect_err("cannot work")
}

/// Returns an address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

/// Impatient, so that tests of silence are short.
fn settings<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> EtcdSettings {
    let mut settings = EtcdSettings::new(endpoints);
    settings.request_timeout = Duration::from_millis(500);
    settings
}

#[tokio::test]
async fn m15_an_unreachable_etcd_is_told_fast_and_found_once_it_is_there() {
    let etcd = Etcd::start().await;
    let proxy = Proxy::start(etcd.address()).await;
    let settings = || settings([format!("http://{}", proxy.address())]);
    proxy.set(Path::Broken).await;
    let broken = error_of(settings()).await;
    assert!(matches!(broken, StoreError::Unavailable(_)), "{broken:?}");
    let nobody = nobody();
    let absent = error_of(EtcdSettings::new([&nobody])).await;
    let told = absent.to_string().to_lowercase();
    assert!(told.contains("connection refused"), "{told}");
    assert!(told.contains(&nobody), "{told} does not say which");
    proxy.set(Path::Open).await;
    let store = connect(settings()).await;
    assert!(store.list("").await.expect("reachable").entries.is_empty());
}

#[tokio::test]
async fn a_dead_member_among_several_harms_nothing() {
    let etcd = Etcd::start().await;
    let store = connect(settings([nobody(), etcd.endpoint(), nobody()])).await;
    for i in 0..20 {
        // Writes too: where no connection could be made, nothing was sent.
        store
            .commit(put(&i.to_string()))
            .await
            .expect("one member runs");
    }
    assert_eq!(store.list("").await.expect("runs").entries.len(), 20);
    let lease = store.grant(TTL).await.expect("runs");
    store
        .keep_alive(lease)
        .await
        .expect("runs")
        .ping()
        .await
        .expect("alive");
}

#[tokio::test]
async fn a_member_that_falls_silent_is_left_with_all_its_watches() {
    let etcd = Etcd::start().await;
    let proxy = Proxy::start(etcd.address()).await;
    let endpoints = [format!("http://{}", proxy.address()), etcd.endpoint()];
    let store = connect(settings(endpoints)).await;
    let lease = store.grant(Duration::from_mins(1)).await.expect("runs");
    let mut keep_alive = store.keep_alive(lease).await.expect("runs");
    let mut stream = store.watch("", Revision::new(1)).await.expect("runs");
    proxy.set(Path::Silent).await;
    let start = Instant::now();
    let unanswered = keep_alive.ping().await.expect_err("silent");
    assert!(unanswered.is_transient(), "{unanswered}");
    let left = next(&mut stream).await.expect_err("left");
    assert!(matches!(left, StoreError::Unavailable(_)), "{left:?}");
    store
        .keep_alive(lease)
        .await
        .expect("the other member runs");
    store.commit(put("a")).await.expect("the other member runs");
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_frozen_etcd_leaves_writes_unknown_and_nothing_is_sent_twice() {
    let etcd = Etcd::start().await;
    let store = connect(settings([etcd.endpoint()])).await;
    let before = store.commit(put("a")).await.expect("runs").revision;
    etcd.freeze().await;
    let read = store.list("").await.expect_err("frozen");
    assert!(matches!(read, StoreError::Unavailable(_)), "{read:?}");
    let write = store.commit(put("b")).await.expect_err("frozen");
    assert!(matches!(write, StoreError::Unknown(_)), "{write:?}");
    let grant = store.grant(TTL).await.expect_err("frozen");
    assert!(matches!(grant, StoreError::Unknown(_)), "{grant:?}");
    etcd.thaw().await;
    let after = until("etcd answers again", async || {
        store
            .commit(put("c"))
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    // What was under way may have arrived before it was given up, but only once.
    let writes = after.revision.get() - before.get();
    assert!((1..=2).contains(&writes), "{writes}");
}

#[tokio::test]
async fn m13_streams_end_with_etcd_and_open_again_when_it_is_back() {
    let mut etcd = Etcd::start().await;
    let store = connect(settings([etcd.endpoint()])).await;
    let lease = store.grant(Duration::from_mins(1)).await.expect("runs");
    let mut keep_alive = store.keep_alive(lease).await.expect("runs");
    let first = store.commit(put("a")).await.expect("runs").revision;
    let mut stream = store.watch("", first).await.expect("runs");
    events_until(&mut stream, first).await;
    etcd.kill();
    let ended = next(&mut stream).await.expect_err("etcd is gone");
    assert!(matches!(ended, StoreError::Unavailable(_)), "{ended:?}");
    let broken = keep_alive.ping().await.expect_err("etcd is gone");
    assert!(matches!(broken, StoreError::Unavailable(_)), "{broken:?}");
    let refused = store.commit(put("b")).await.expect_err("etcd is gone");
    assert!(
        matches!(refused, StoreError::Unavailable(_)),
        "surely not sent: {refused:?}"
    );
    etcd.restart().await;
    let mut stream = until("a watch opens", async || {
        let watch = store.watch("", after(first)).await;
        watch.map_err(|error| error.to_string())
    })
    .await;
    let last = store.commit(put("c")).await.expect("runs").revision;
    let seen = events_until(&mut stream, last).await;
    assert_eq!(seen.iter().map(revision_of).collect::<Vec<_>>(), [last]);
    store
        .keep_alive(lease)
        .await
        .expect("leases outlive etcd")
        .ping()
        .await
        .expect("alive");
}

#[tokio::test]
async fn user_and_password_are_asked_for() {
    let mut etcd = Etcd::start().await;
    let mut admin = etcd.client().await;
    admin.user_add("root", "secret", None).await.expect("runs");
    admin.user_grant_role("root", "root").await.expect("runs");
    admin.auth_enable().await.expect("runs");
    let as_user = |user: &str, password: &str| {
        let mut settings = settings([etcd.endpoint()]);
        settings.user = Some((user.into(), password.into()));
        settings
    };
    for wrong in [as_user("root", "wrong"), as_user("nobody", "secret")] {
        let error = error_of(wrong).await;
        assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
        assert!(
            error.to_string().contains("authentication failed"),
            "{error}"
        );
    }
    let anonymous = connect(settings([etcd.endpoint()])).await;
    let error = anonymous.list("").await.expect_err("no user");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    let store = connect(as_user("root", "secret")).await;
    let first = store.commit(put("a")).await.expect("may").revision;
    let mut stream = store.watch("", first).await.expect("may");
    events_until(&mut stream, first).await;

    // A restarted etcd has forgotten every login: each kind of request must log in again.
    etcd.restart().await;
    next(&mut stream).await.expect_err("etcd was gone");
    let mut stream = until("a watch opens", async || {
        let watch = store.watch("", after(first)).await;
        if let Err(StoreError::Refused(why)) = &watch {
            panic!("refused: {why}");
        }
        watch.map_err(|error| error.to_string())
    })
    .await;
    let last = store.commit(put("b")).await.expect("may").revision;
    assert_eq!(events_until(&mut stream, last).await.len(), 1);
}

#[tokio::test]
async fn a_password_given_to_an_etcd_without_users_is_refused_in_words() {
    let etcd = Etcd::start().await;
    let mut settings = settings([etcd.endpoint()]);
    settings.user = Some(("root".into(), "secret".into()));
    let error = error_of(settings).await;
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(
        error.to_string().contains("authentication is not enabled"),
        "{error}"
    );
}

#[tokio::test]
async fn tls_is_spoken_both_ways_and_a_foreign_certificate_is_refused() {
    let etcd = Etcd::start_tls().await;
    let with = |authority: &str, identity: bool| {
        let mut settings = settings([etcd.endpoint()]);
        let identity = identity.then(|| (tls::file("client"), tls::file("client-key")));
        let files = TlsFiles::for_etcd(Some(tls::file(authority)), identity);
        settings.tls = Some(StoreTls::load(files).expect("good files"));
        settings
    };
    let store = connect(with("ca", true)).await;
    store.commit(put("a")).await.expect("runs");
    let foreign = error_of(with("other-ca", true)).await;
    assert!(matches!(foreign, StoreError::Unavailable(_)), "{foreign:?}");
    assert!(foreign.to_string().contains("certificate"), "{foreign}");
    // In TLS 1.3 a client is refused by silence, after it believes that it is connected.
    let anonymous = error_of(with("ca", false)).await;
    assert!(
        matches!(anonymous, StoreError::Unavailable(_)),
        "{anonymous:?}"
    );
}

#[tokio::test]
async fn an_etcd_with_known_bugs_is_refused_only_if_asked_to() {
    let etcd = Etcd::start().await;
    let store = connect(settings([etcd.endpoint()])).await;
    let versions = store.server_versions().await.expect("runs");
    let (endpoint, version) = &versions[0];
    assert_eq!(*endpoint, etcd.endpoint());
    let mut strict = settings([etcd.endpoint()]);
    strict.strict_version = true;
    match EtcdStore::connect(strict).await {
        Ok(_) => assert!(version.as_str() >= "3.4.42", "{version} has known bugs"),
        Err(error) => assert!(error.to_string().contains("known"), "{error}"),
    }
}
