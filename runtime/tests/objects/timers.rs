//! Timers of objects: when they tick, what keeps them from it, and what ends them.

use std::time::Duration;

use steading::fence::Fence;
use tokio::time::{Instant, sleep};

use crate::alarms::{Alarm, at, metric, ms, rings};
use crate::world::World;

#[tokio::test(start_paused = true)]
async fn a_timer_ticks_once_at_its_time_and_is_gone() {
    let (world, start) = (World::new(), Instant::now());
    let alarm = world.object::<Alarm>("once");
    alarm
        .once("a".into(), 300)
        .await
        .expect("a call")
        .expect("set");
    alarm
        .once("b".into(), 200)
        .await
        .expect("a call")
        .expect("set");
    let list = alarm.list().await.expect("a call");
    assert_eq!(list, [("a".into(), 300, None), ("b".into(), 200, None)]);
    assert!(metric(&world, "steading_timers 2"));
    sleep(ms(1000)).await;
    assert_eq!(rings("once", start), [("b".into(), 200), ("a".into(), 300)]);
    assert_eq!(alarm.list().await, Ok(vec![]));
    assert!(metric(&world, "steading_timers 0"));
    assert!(metric(
        &world,
        "steading_timer_ticks_total{outcome=\"ran\"} 2"
    ));
    let turns = 4 + 2; // Each tick is a turn like a call.
    assert!(metric(&world, &format!("steading_turns_total {turns}")));
}

#[tokio::test(start_paused = true)]
async fn a_period_begins_when_the_turn_of_the_last_tick_has_ended() {
    let (world, start) = (World::new(), Instant::now());
    let alarm = world.object::<Alarm>("slow");
    alarm.slowly_every(100, 300).await.expect("a good call");
    sleep(ms(1000)).await;
    assert_eq!(rings("slow", start), at("slow", &[0, 400, 800]));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_timer_never_ticks_though_its_tick_waits_already() {
    let (world, start) = (World::new(), Instant::now());
    let alarm = world.object::<Alarm>("cancel");
    alarm
        .every("a".into(), 100)
        .await
        .expect("a call")
        .expect("set");
    sleep(ms(250)).await;
    assert_eq!(alarm.late_cancel(500, "a".into()).await, Ok(true));
    assert_eq!(alarm.late_cancel(0, "a".into()).await, Ok(false));
    sleep(ms(1000)).await;
    assert_eq!(rings("cancel", start), at("a", &[100, 200]));
}

#[tokio::test(start_paused = true)]
async fn a_timer_replaces_the_one_of_its_name() {
    let (world, start) = (World::new(), Instant::now());
    let alarm = world.object::<Alarm>("replace");
    alarm
        .every("a".into(), 100)
        .await
        .expect("a call")
        .expect("set");
    alarm
        .once("a".into(), 450)
        .await
        .expect("a call")
        .expect("set");
    assert_eq!(alarm.list().await, Ok(vec![("a".into(), 450, None)]));
    sleep(ms(1000)).await;
    assert_eq!(rings("replace", start), at("a", &[450]));
}

#[tokio::test(start_paused = true)]
async fn a_tick_waits_for_its_turn_like_a_call() {
    let (world, start) = (World::new(), Instant::now());
    let alarm = world.object::<Alarm>("wait");
    alarm
        .once("a".into(), 100)
        .await
        .expect("a call")
        .expect("set");
    alarm.busy(400).await.expect("a good call");
    sleep(ms(1)).await;
    assert_eq!(rings("wait", start), at("a", &[400]));
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_puts_a_tick_off_and_does_not_drop_it() {
    let (world, start) = (World::new(), Instant::now());
    let alarm = world.object::<Alarm>("full");
    alarm
        .once("a".into(), 10)
        .await
        .expect("a call")
        .expect("set");
    let crowd = (0..5).map(|_| alarm.busy(100)); // One runs and four wait: that is the bound.
    let calls = futures::future::join_all(crowd).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    sleep(ms(100)).await;
    assert_eq!(rings("full", start), at("a", &[500]));
    let text = world.metrics.encode().expect("text");
    assert!(
        text.contains("steading_timer_ticks_total{outcome=\"put_off\"} 2"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_tick_ends_the_activation_and_its_timers_alone() {
    let (world, start) = (World::new(), Instant::now());
    let (alarm, other) = (
        world.object::<Alarm>("panic"),
        world.object::<Alarm>("calm"),
    );
    alarm
        .every("a".into(), 200)
        .await
        .expect("a call")
        .expect("set");
    other
        .once("a".into(), 400)
        .await
        .expect("a call")
        .expect("set");
    alarm.fail_after(300).await.expect("a good call");
    sleep(ms(900)).await;
    assert_eq!(rings("panic", start), at("a", &[200]));
    assert_eq!(rings("calm", start), at("a", &[400]));
    assert!(metric(&world, "steading_panics_total 1"));
    assert!(metric(&world, "steading_timers 0"));
    assert!(metric(
        &world,
        "steading_timer_ticks_total{outcome=\"failed\"} 1"
    ));
    assert_eq!(alarm.list().await, Ok(vec![]), "the object begins anew");
}

#[tokio::test(start_paused = true)]
async fn timers_end_with_their_activation_however_that_ends() {
    let (world, start) = (World::new(), Instant::now());
    for way in ["told", "deleted", "discarded"] {
        let alarm = world.object::<Alarm>(way);
        alarm
            .every("a".into(), 100)
            .await
            .expect("a call")
            .expect("set");
        match way {
            "told" => alarm.deactivate().await.expect("a good call"),
            "deleted" => alarm.delete().await.expect("a good call"),
            _ => world.host.discard_all(),
        }
        assert!(metric(&world, "steading_timers 0"), "{way}");
        sleep(ms(1000)).await;
        assert_eq!(rings(way, start), [], "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_with_timers_is_not_idle() {
    let (world, start) = (World::new(), Instant::now());
    let alarm = world.object::<Alarm>("idle");
    alarm
        .once("a".into(), 5000)
        .await
        .expect("a call")
        .expect("set");
    sleep(ms(5100)).await;
    assert_eq!(
        rings("idle", start),
        at("a", &[5000]),
        "its idle time is 1 s"
    );
    sleep(ms(3000)).await;
    assert!(world.live("Alarm").is_empty(), "without timers it is idle");
}

#[tokio::test(start_paused = true)]
async fn nothing_ticks_while_the_node_is_fenced() {
    let (world, start) = (World::new(), Instant::now());
    let alarm = world.object::<Alarm>("fenced");
    alarm
        .every("a".into(), 100)
        .await
        .expect("a call")
        .expect("set");
    sleep(ms(150)).await;
    let fence: &Fence = &world.fence;
    fence.open(fence.clock().now());
    sleep(ms(2000)).await;
    assert_eq!(rings("fenced", start), at("a", &[100]));
    fence.open(fence.clock().now().plus(Duration::from_hours(1)));
    sleep(ms(150)).await;
    let rings = rings("fenced", start);
    assert_eq!(rings.len(), 2, "at once, and only once: {rings:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_waits_for_its_turn_when_the_node_is_fenced_is_put_off() {
    let (world, start) = (World::new(), Instant::now());
    let alarm = world.object::<Alarm>("fenced-meanwhile");
    alarm
        .once("a".into(), 100)
        .await
        .expect("a call")
        .expect("set");
    let fence: &Fence = &world.fence;
    let close = async {
        sleep(ms(200)).await;
        fence.open(fence.clock().now());
    };
    let (fenced, ()) = tokio::join!(alarm.busy(300), close);
    fenced.expect_err("the turn ended when the node was fenced");
    sleep(ms(200)).await;
    assert_eq!(rings("fenced-meanwhile", start), []);
    fence.open(fence.clock().now().plus(Duration::from_hours(1)));
    sleep(ms(200)).await;
    assert_eq!(rings("fenced-meanwhile", start).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_timer_beyond_its_bounds_is_refused() {
    let world = World::new();
    let alarm = world.object::<Alarm>("bounds");
    assert_eq!(
        alarm.break_bounds().await.expect("a good call"),
        [
            "Name",
            "Name",
            "TooShort",
            "TooLong",
            "TooLong",
            "UnknownMethod",
            "BadArguments",
            "BadArguments",
            "BadArguments",
            "ArgumentsTooLarge",
        ]
    );
    assert_eq!(alarm.list().await, Ok(vec![]));
    let more = alarm.fill().await.expect("a good call");
    assert_eq!(more.as_deref(), Some("the object has 32 timers already"));
    assert!(metric(&world, "steading_timers 32"));
}
