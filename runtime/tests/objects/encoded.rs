//! Calls whose arguments are bytes, as other nodes and HTTP bring them.

use std::time::Duration;

use bytes::Bytes;
use steading::CallError;
use steading::object::{CallPath, DEACTIVATE, DELETE, Dispatch, EncodedCall, Format};
use steading::telemetry::Trace;
use tokio::time::Instant;

use crate::world::{World, shard};

#[tokio::test]
async fn json_arguments_come_by_name_or_in_order() {
    let world = World::new();
    assert_eq!(json(&world, "add", r#"{"n": 2}"#).await, Ok("2".into()));
    assert_eq!(json(&world, "add", "[3]").await, Ok("5".into()));
    for none in ["", "{}", "[]", "null", "  "] {
        assert_eq!(
            json(&world, "total", none).await,
            Ok("5".into()),
            "{none:?}"
        );
    }
    assert_eq!(
        json(&world, "checked", "[-1]").await,
        Ok(r#"{"Err":"negative"}"#.into())
    );
}

#[tokio::test]
async fn bad_json_arguments_are_named() {
    let world = World::new();
    for (args, named) in [
        (r#"{"m": 2}"#, "unknown argument `m`"),
        (r#"{"n": 2, "m": 2}"#, "unknown argument `m`"),
        ("{}", "missing argument `n`"),
        ("[]", "missing argument `n`"),
        ("[1, 2]", "2 given: it takes `n`"),
        (r#"["two"]"#, "expected i64"),
        ("7", "an array of positional ones is wanted"),
        ("{", "no JSON"),
    ] {
        let error = json(&world, "add", args).await.expect_err(args);
        assert_eq!(error.code(), "bad_arguments");
        assert!(error.to_string().contains(named), "{args}: {error}");
    }
    let error = json(&world, "total", "[1]")
        .await
        .expect_err("it takes none");
    assert!(error.to_string().contains("it takes none"), "{error}");
    assert!(
        world.live("Counter").is_empty(),
        "none of these made the object"
    );
}

#[tokio::test]
async fn message_pack_replies_to_message_pack() {
    let world = World::new();
    let args = rmp_serde::to_vec_named(&std::collections::BTreeMap::from([("n", 4)]));
    let mut call = call("c", "add", &args.expect("it can be written"));
    call.format = Format::MessagePack;
    let reply = done(&world, call).await.expect("a good call");
    assert_eq!(rmp_serde::from_slice::<i64>(&reply).expect("a number"), 4);
}

#[tokio::test]
async fn o1_unknown_types_and_methods_are_refused() {
    let world = World::new();
    let error = json(&world, "shrink", "")
        .await
        .expect_err("no such method");
    assert_eq!(error, CallError::UnknownMethod("Counter.shrink".into()));
    let mut other = call("c", "add", b"[1]");
    other.key = "Nothing/c".parse().expect("a good key");
    let error = done(&world, other.clone()).await.expect_err("no such type");
    assert_eq!(error, CallError::UnknownType("Nothing".into()));
    other.method = DELETE.into();
    assert_eq!(
        done(&world, other).await.expect_err("no such type").code(),
        "unknown_type"
    );
}

#[tokio::test]
async fn oversized_arguments_and_replies_are_refused() {
    let world = World::new();
    let text = |len: usize| format!("[\"{}\"]", "x".repeat(len));
    let error = json(&world, "echo", &text(4 << 20))
        .await
        .expect_err("too large");
    assert_eq!(
        (error.code(), error.outcome().as_str()),
        ("too_large", "not_run")
    );
    let largest = text((4 << 20) - 4);
    assert!(json(&world, "echo", &largest).await.is_ok());
    let error = json(&world, "repeat", r#"["x", 5000000]"#)
        .await
        .expect_err("too large");
    assert_eq!(
        (error.code(), error.outcome().as_str()),
        ("reply_too_large", "ran")
    );
}

#[tokio::test]
async fn a_late_call_does_not_run() {
    let world = World::new();
    let mut late = call("c", "add", b"[1]");
    late.deadline = Instant::now();
    let error = done(&world, late).await.expect_err("late");
    assert_eq!(error.code(), "deadline_before_start");
    assert!(world.live("Counter").is_empty());
}

#[tokio::test]
async fn every_object_can_be_told_to_end() {
    let world = World::new();
    for method in [DEACTIVATE, DELETE] {
        assert_eq!(json(&world, "add", "[1]").await, Ok("1".into()));
        assert_eq!(json(&world, method, "").await, Ok("null".into()));
        assert!(world.live("Counter").is_empty());
    }
}

#[tokio::test]
async fn a_call_for_a_closed_shard_comes_back_whole() {
    let world = World::new();
    world.host.close(shard(1), Duration::from_secs(1)).await;
    for method in ["add", DEACTIVATE, DELETE] {
        let dispatch = world.host.dispatch(call("shard#1/c", method, b"[1]")).await;
        let Dispatch::NotHere(back) = dispatch else {
            panic!("{method}: {dispatch:?}");
        };
        assert_eq!((&*back.method, &*back.args), (method, &b"[1]"[..]));
    }
}

/// The owner may have another version of the program, which knows what this one does not.
#[tokio::test]
async fn only_the_owner_refuses_what_its_version_does_not_know() {
    let world = World::new();
    world.host.close(shard(1), Duration::from_secs(1)).await;
    let unreadable = call("shard#1/c", "add", b"[\"one\"]");
    let unknown_method = call("shard#1/c", "shrink", b"[1]");
    let mut unknown_type = call("shard#1/c", "add", b"[1]");
    unknown_type.key = "Nothing/shard#1/c".parse().expect("a good key");
    for call in [unreadable, unknown_method, unknown_type] {
        let dispatch = world.host.dispatch(call.clone()).await;
        let Dispatch::NotHere(back) = dispatch else {
            panic!("{call:?}: {dispatch:?}");
        };
        assert_eq!((&back.key, &back.args), (&call.key, &call.args));
    }
}

#[tokio::test]
async fn a_cycle_is_seen_in_a_path_from_the_wire() {
    let world = World::new();
    let key = "Counter/c".parse().expect("a good key");
    let mut cyclic = call("c", "add", b"[1]");
    cyclic.path = CallPath::from_keys([key]).expect("short");
    let error = done(&world, cyclic).await.expect_err("a cycle");
    assert_eq!(error, CallError::Cycle("Counter/c -> Counter/c".into()));
}

fn call(id: &str, method: &'static str, args: &[u8]) -> EncodedCall {
    EncodedCall {
        key: format!("Counter/{id}").parse().expect("a good key"),
        method: method.into(),
        args: Bytes::copy_from_slice(args),
        format: Format::Json,
        deadline: Instant::now() + Duration::from_secs(10),
        path: CallPath::EMPTY,
        trace: Trace::NONE,
    }
}

async fn json(world: &World, method: &'static str, args: &str) -> Result<String, CallError> {
    let reply = done(world, call("c", method, args.as_bytes())).await?;
    Ok(String::from_utf8(reply.to_vec()).expect("JSON is UTF-8"))
}

async fn done(world: &World, call: EncodedCall) -> Result<Bytes, CallError> {
    match world.host.dispatch(call).await {
        Dispatch::Done(result) => result,
        Dispatch::NotHere(call) => panic!("not here: {call:?}"),
    }
}
