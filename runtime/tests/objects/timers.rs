//! Timers of objects: when they tick, what keeps them from it, and what ends them.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use steading::fence::Fence;
use steading::object::{
    Packed, PackedTimer, StageError, Summing, TIMER_ARGS_LEN_MAX, TIMER_NAME_LEN_MAX,
    TIMER_PERIOD_MIN, TIMER_WAIT_MAX, TIMERS_PER_OBJECT_MAX,
};
use steading::storage::{MemoryStorage, StorageError};
use steading::{Context, Object, Timer, TimerError, methods};
use tokio::time::{Instant, sleep};

use crate::travel::{LIMIT, PARCEL, Pair, send};
use crate::world::{Faulty, SHARDS, World, shard, token};

/// Every ring: whose, what it said, and when.
static RINGS: Mutex<Vec<(String, String, Instant)>> = Mutex::new(Vec::new());

fn ring(ctx: &Context, text: &str) {
    let ring = (ctx.id().to_owned(), text.to_owned(), Instant::now());
    RINGS.lock().push(ring);
}

/// Returns what an object's rings said, with their milliseconds since `start`.
fn rings(id: &str, start: Instant) -> Vec<(String, u128)> {
    let all = RINGS.lock();
    let mine = all.iter().filter(|(whose, _, _)| whose == id);
    mine.map(|(_, text, at)| (text.clone(), (*at - start).as_millis()))
        .collect()
}

fn at(text: &str, times: &[u128]) -> Vec<(String, u128)> {
    times.iter().map(|ms| (text.to_owned(), *ms)).collect()
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn set(ctx: &Context, name: &str, timer: Timer, what: &str) -> Result<(), String> {
    let set = ctx.set_timer(name, timer, what, (name,));
    set.map_err(|error| error.to_string())
}

/// An object that rings when its timers tick.
#[derive(Default, Serialize, Deserialize, Object)]
#[object(idle = "1s", mailbox = 4)]
pub(crate) struct Alarm {
    set: u32,
}

#[methods]
impl Alarm {
    pub(crate) fn once(&mut self, ctx: &Context, name: String, first: u64) -> Result<(), String> {
        self.set += 1;
        set(ctx, &name, Timer::after(ms(first)), "ring")
    }

    pub(crate) fn every(&mut self, ctx: &Context, name: String, period: u64) -> Result<(), String> {
        self.set += 1;
        set(ctx, &name, Timer::every(ms(period)), "ring")
    }

    /// Sets a timer whose turns last for so long.
    pub(crate) fn slowly_every(&mut self, ctx: &Context, period: u64, turn: u64) {
        let timer = Timer::every(ms(period)).first_after(Duration::ZERO);
        let set = ctx.set_timer("slow", timer, "slowly_ring", (turn,));
        set.expect("it is within its bounds");
    }

    pub(crate) fn fail_after(&mut self, ctx: &Context, first: u64) {
        let set = ctx.set_timer("fails", Timer::after(ms(first)), "fail", ());
        set.expect("it is within its bounds");
    }

    pub(crate) fn ring(&mut self, ctx: &Context, text: String) {
        ring(ctx, &text);
    }

    pub(crate) async fn slowly_ring(&self, ctx: &Context, turn: u64) {
        ring(ctx, "slow");
        sleep(ms(turn)).await;
    }

    pub(crate) fn fail(&mut self) {
        panic!("on purpose");
    }

    /// Has a long turn alone, and cancels a timer at its end.
    pub(crate) async fn late_cancel(&mut self, ctx: &Context, turn: u64, name: String) -> bool {
        sleep(ms(turn)).await;
        ctx.cancel_timer(&name)
    }

    /// Has a long turn alone.
    pub(crate) async fn busy(&mut self, turn: u64) {
        sleep(ms(turn)).await;
    }

    /// Lists the timers: name, milliseconds left, and period.
    pub(crate) fn list(&self, ctx: &Context) -> Vec<(String, u128, Option<u128>)> {
        let timers = ctx.timers().into_iter();
        timers
            .map(|timer| {
                let period = timer.period.map(|period| period.as_millis());
                (timer.name, timer.remaining.as_millis(), period)
            })
            .collect()
    }

    /// Breaks every bound, and returns what was said to that.
    pub(crate) fn break_bounds(&mut self, ctx: &Context) -> Vec<String> {
        let second = Timer::after(ms(1000));
        let long = "x".repeat(TIMER_NAME_LEN_MAX + 1);
        let large = "x".repeat(TIMER_ARGS_LEN_MAX);
        let short = TIMER_PERIOD_MIN.saturating_sub(Duration::from_nanos(1));
        let late = TIMER_WAIT_MAX + Duration::from_nanos(1);
        let refused = [
            ctx.set_timer("", second, "ring", ("x",)),
            ctx.set_timer(&long, second, "ring", ("x",)),
            ctx.set_timer("t", Timer::every(short), "ring", ("x",)),
            ctx.set_timer("t", Timer::after(late), "ring", ("x",)),
            ctx.set_timer("t", Timer::every(Duration::MAX), "ring", ("x",)),
            ctx.set_timer("t", second, "wring", ("x",)),
            ctx.set_timer("t", second, "ring", ()),
            ctx.set_timer("t", second, "ring", (5,)),
            ctx.set_timer("t", second, "ring", ("x", "y")),
            ctx.set_timer("t", second, "ring", (large,)),
        ];
        let named = refused.into_iter().map(|set| match set {
            Ok(()) => "it is set".to_owned(),
            Err(error) => format!("{error:?}")
                .split('(')
                .next()
                .unwrap_or("")
                .to_owned(),
        });
        named.collect()
    }

    /// Sets as many timers as there may be, and one more.
    pub(crate) fn fill(&mut self, ctx: &Context) -> Option<String> {
        let hour = Timer::every(Duration::from_hours(1));
        for i in 0..TIMERS_PER_OBJECT_MAX {
            let named = std::collections::BTreeMap::from([("text", i.to_string())]);
            let set = ctx.set_timer(&i.to_string(), hour, "ring", named);
            set.expect("not yet too many");
        }
        let more = ctx.set_timer("more", hour, "ring", ("x",));
        more.err().map(|error| error.to_string())
    }
}

/// An object whose timers stay behind, with its state.
#[derive(Default, Serialize, Deserialize, Object)]
#[object(transient)]
pub(crate) struct Fleeting {
    rings: u32,
}

#[methods]
impl Fleeting {
    pub(crate) fn set(&mut self, ctx: &Context) {
        let set = ctx.set_timer("t", Timer::every(ms(100)), "ring", ());
        set.expect("it is within its bounds");
    }

    pub(crate) fn ring(&mut self, ctx: &Context) {
        ring(ctx, "fleeting");
        self.rings += 1;
    }
}

/// An object with hooks and storage, which sets its timer when it has none.
#[derive(Default, Serialize, Deserialize, Object)]
#[object(storage)]
pub(crate) struct Sleeper {
    rings: u32,
}

#[methods]
impl Sleeper {
    #[activate]
    async fn begin(&mut self, ctx: &Context) -> Result<(), TimerError> {
        match ctx.timer("t") {
            Some(_) => Ok(()),
            None => ctx.set_timer("t", Timer::every(ms(1000)), "ring", ()),
        }
    }

    #[deactivate]
    async fn end(&mut self) {
        self.rings += 100;
    }

    pub(crate) fn ring(&mut self, ctx: &Context) {
        self.rings += 1;
        ring(ctx, &self.rings.to_string());
    }

    pub(crate) fn rings(&self) -> u32 {
        self.rings
    }
}

fn metric(world: &World, line: &str) -> bool {
    let text = world.metrics.encode().expect("text");
    text.lines().any(|shown| shown == line)
}

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

#[tokio::test(start_paused = true)]
async fn timers_go_along_with_the_time_that_is_left() {
    let (pair, start) = (Pair::new(), Instant::now());
    let alarm = pair.old.object::<Alarm>("shard#3/along");
    alarm
        .every("a".into(), 300)
        .await
        .expect("a call")
        .expect("set");
    alarm
        .once("b".into(), 1000)
        .await
        .expect("a call")
        .expect("set");
    sleep(ms(400)).await;
    pair.moved().await;
    assert!(metric(&pair.old, "steading_timers 0"));
    let alarm = pair.new.object::<Alarm>("shard#3/along");
    let list = alarm.list().await.expect("a good call");
    assert_eq!(
        list,
        [("a".into(), 200, Some(300)), ("b".into(), 600, None)]
    );
    sleep(ms(700)).await;
    let expected = [("a", 300), ("a", 600), ("a", 900), ("b", 1000)];
    let expected = expected.map(|(text, at)| (text.to_owned(), at));
    assert_eq!(rings("shard#3/along", start), expected, "each once");
}

#[tokio::test(start_paused = true)]
async fn what_is_due_while_the_shard_moves_ticks_once_at_the_new_owner() {
    let (pair, start) = (Pair::new(), Instant::now());
    let alarm = pair.old.object::<Alarm>("shard#3/due");
    alarm
        .once("a".into(), 100)
        .await
        .expect("a call")
        .expect("set");
    pair.old.host.close(shard(3), LIMIT).await;
    sleep(ms(250)).await; // It is due, and cannot have its turn.
    send(&pair.old, &pair.new).await.expect("it is staged");
    sleep(ms(250)).await;
    assert_eq!(rings("shard#3/due", start), []);
    pair.hand_over();
    sleep(ms(1000)).await;
    assert_eq!(rings("shard#3/due", start), at("a", &[500]));
}

#[tokio::test(start_paused = true)]
async fn timers_go_on_where_they_were_when_a_move_comes_to_nothing() {
    let (pair, start) = (Pair::new(), Instant::now());
    let alarm = pair.old.object::<Alarm>("shard#3/back");
    let sleeper = pair.old.object::<Sleeper>("shard#3/back-with-hooks");
    alarm
        .every("a".into(), 300)
        .await
        .expect("a call")
        .expect("set");
    sleeper.rings().await.expect("a good call");
    sleep(ms(100)).await;
    pair.send().await.expect("it is staged");
    pair.old.host.open(shard(3), token(1));
    sleep(ms(1100)).await;
    assert_eq!(rings("shard#3/back", start), at("a", &[300, 600, 900]));
    // Its hook had run, so it began anew: with its timer, which its hook found.
    assert_eq!(rings("shard#3/back-with-hooks", start), at("101", &[1000]));
    assert!(metric(&pair.new, "steading_timers 0"));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_must_be_activated_keeps_its_timers() {
    let (pair, start) = (Pair::new(), Instant::now());
    let sleeper = pair.old.object::<Sleeper>("shard#3/wakes");
    sleeper.rings().await.expect("a good call");
    sleep(ms(400)).await;
    pair.moved().await;
    sleep(ms(700)).await;
    assert_eq!(
        rings("shard#3/wakes", start),
        at("101", &[1000]),
        "nobody has called it there"
    );
}

#[tokio::test(start_paused = true)]
async fn timers_of_what_cannot_be_activated_yet_are_kept_and_tried_again() {
    let storage = Faulty::default();
    let pair = Pair::with(MemoryStorage::new(), storage.clone());
    let start = Instant::now();
    let sleeper = pair.old.object::<Sleeper>("shard#3/later");
    sleeper.rings().await.expect("a good call");
    *storage.loads.lock() = Some(StorageError::Unavailable("down".into()));
    pair.moved().await;
    sleep(ms(5000)).await;
    assert_eq!(rings("shard#3/later", start), []);
    *storage.loads.lock() = None;
    sleep(ms(900)).await; // Its period is longer.
    assert_eq!(rings("shard#3/later", start).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_transient_object_loses_its_timers_with_its_state() {
    let (pair, start) = (Pair::new(), Instant::now());
    let fleeting = pair.old.object::<Fleeting>("shard#3/fleeting");
    fleeting.set().await.expect("a good call");
    sleep(ms(150)).await;
    pair.moved().await;
    sleep(ms(1000)).await;
    assert_eq!(rings("shard#3/fleeting", start), at("fleeting", &[100]));
}

fn packed(timers: Vec<PackedTimer>) -> Packed {
    Packed {
        key: "Alarm/shard#3/packed".parse().expect("a good key"),
        state: b"\x81\xa3set\x01".to_vec().into(),
        idle: Duration::ZERO,
        timers,
    }
}

fn timer(method: &str) -> PackedTimer {
    PackedTimer {
        name: "a".into(),
        method: method.into(),
        args: b"\x91\xa1a".to_vec().into(),
        remaining: ms(100),
        period: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_the_new_owner_cannot_let_tick_keeps_the_object_where_it_is() {
    let new = World::closed(MemoryStorage::new());
    for wrong in [timer("sing"), timer("busy")] {
        let mut arriving = new.host.arriving(shard(3), PARCEL);
        let refused = arriving.take(&packed(vec![wrong])).expect_err("not here");
        assert!(matches!(refused, StageError::State(_)), "{refused}");
    }
    let many = vec![timer("ring"); TIMERS_PER_OBJECT_MAX + 1];
    let mut arriving = new.host.arriving(shard(3), PARCEL);
    arriving.take(&packed(many)).expect_err("too many");
    assert_eq!(SHARDS.get(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_was_lost_or_changed_on_the_way_is_noticed() {
    let new = World::closed(MemoryStorage::new());
    let mut sent = Summing::default();
    sent.add(&packed(vec![timer("ring")]));
    let changed = PackedTimer {
        remaining: ms(101),
        ..timer("ring")
    };
    for came in [vec![], vec![changed]] {
        let mut arriving = new.host.arriving(shard(3), PARCEL);
        arriving.take(&packed(came)).expect("readable");
        let refused = arriving.finish(sent.sum()).expect_err("it differs");
        assert!(matches!(refused, StageError::Differs { .. }), "{refused}");
    }
    // What a version without timers sends has none, and no sum of them.
    let mut old = Summing::default();
    old.add(&packed(vec![]));
    assert_eq!((old.sum().timers, old.sum().timers_checksum), (0, 0));
}
