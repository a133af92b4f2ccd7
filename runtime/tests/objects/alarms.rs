//! Objects that ring when their timers tick, and what they rang.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use steading::object::{
    TIMER_ARGS_LEN_MAX, TIMER_NAME_LEN_MAX, TIMER_PERIOD_MIN, TIMER_WAIT_MAX, TIMERS_PER_OBJECT_MAX,
};
use steading::{Context, Object, Timer, TimerError, methods};
use tokio::time::{Instant, sleep};

use crate::world::World;

/// Every ring: whose, what it said, and when.
static RINGS: Mutex<Vec<(String, String, Instant)>> = Mutex::new(Vec::new());

fn ring(ctx: &Context, text: &str) {
    let ring = (ctx.id().to_owned(), text.to_owned(), Instant::now());
    RINGS.lock().push(ring);
}

/// Returns what an object's rings said, with their milliseconds since `start`.
pub(crate) fn rings(id: &str, start: Instant) -> Vec<(String, u128)> {
    let all = RINGS.lock();
    let mine = all.iter().filter(|(whose, _, _)| whose == id);
    mine.map(|(_, text, at)| (text.clone(), (*at - start).as_millis()))
        .collect()
}

pub(crate) fn at(text: &str, times: &[u128]) -> Vec<(String, u128)> {
    times.iter().map(|ms| (text.to_owned(), *ms)).collect()
}

pub(crate) const fn ms(ms: u64) -> Duration {
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

pub(crate) fn metric(world: &World, line: &str) -> bool {
    let text = world.metrics.encode().expect("text");
    text.lines().any(|shown| shown == line)
}
