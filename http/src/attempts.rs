//! Limits how fast tokens can be guessed.
//!
//! Each address, and all together, may fail a number of times at once and then at a slow rate. The
//! limit of all does not hold for an address that has not failed lately, so that others cannot lock
//! it out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// Failures of one address before it has to wait.
const ADDRESS_FAILURES_MAX: u32 = 5;

/// How long an address waits for each further try.
const ADDRESS_PAUSE: Duration = Duration::from_secs(10);

/// Failures of all addresses together before those that failed have to wait.
const TOTAL_FAILURES_MAX: u32 = 50;

/// How long they wait for each further try of any of them.
const TOTAL_PAUSE: Duration = Duration::from_secs(1);

/// How long an address counts as one that failed, after it last did.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Addresses that are remembered; the one whose failures are longest ago is forgotten for another.
const ADDRESSES_MAX: usize = 4096;

/// The bits of an address of IPv6 that name its network: a host has all addresses of a network.
const NETWORK_MASK: u128 = !0 << 64;

/// Failed tries to show a token, of one server.
#[derive(Debug, Default)]
pub struct Attempts {
    by_address: BTreeMap<IpAddr, Failures>,
    /// When all failures of all addresses are forgiven; none before the first.
    all_forgiven: Option<Instant>,
}

/// The failures of an address.
#[derive(Clone, Copy, Debug)]
struct Failures {
    /// When all are forgiven.
    forgiven: Instant,
    last: Instant,
}

/// A client has failed too often, and its token was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wait {} s before the next try: too many wrong tokens", self.seconds())]
pub struct TooManyAttempts(
    /// How long to wait.
    pub Duration,
);

impl TooManyAttempts {
    /// Returns how long to wait, in whole seconds, as `Retry-After` wants it.
    pub fn seconds(self) -> u64 {
        self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0)
    }
}

impl Attempts {
    /// Begins without any failure.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns whether a client at `from` shows the right token, as `is_right` says; a wrong one counts
    /// as a failure. Clients of unknown address count as one.
    ///
    /// # Errors
    ///
    /// [`TooManyAttempts`] if it has failed too often: `is_right` is not called then, for a guess
    /// must not be answered.
    pub fn check(
        &mut self,
        from: Option<IpAddr>,
        now: Instant,
        is_right: impl FnOnce() -> bool,
    ) -> Result<bool, TooManyAttempts> {
        let from = network(from);
        let known = self.by_address.get(&from);
        if let Some(own) = known.filter(|own| own.are_recent(now)) {
            wait(own.forgiven, now, ADDRESS_FAILURES_MAX, ADDRESS_PAUSE)?;
            let all = self.all_forgiven.unwrap_or(now);
            wait(all, now, TOTAL_FAILURES_MAX, TOTAL_PAUSE)?;
        }
        let right = is_right();
        if !right {
            self.fail(from, now);
        }
        Ok(right)
    }

    fn fail(&mut self, from: IpAddr, now: Instant) {
        if !self.by_address.contains_key(&from) && self.by_address.len() >= ADDRESSES_MAX {
            self.forget(now);
        }
        let none = Failures {
            forgiven: now,
            last: now,
        };
        let own = self.by_address.entry(from).or_insert(none);
        own.forgiven = own.forgiven.max(now) + ADDRESS_PAUSE;
        own.last = now;
        let all = self.all_forgiven.unwrap_or(now).max(now) + TOTAL_PAUSE;
        // First failures are not put off, so their sum may pass the limit: the wait stays short.
        self.all_forgiven = Some(all.min(now + TOTAL_PAUSE * TOTAL_FAILURES_MAX));
    }

    /// Makes room for one address more.
    fn forget(&mut self, now: Instant) {
        self.by_address.retain(|_, own| own.are_recent(now));
        if self.by_address.len() >= ADDRESSES_MAX {
            let oldest = self.by_address.iter().min_by_key(|(_, own)| own.last);
            let oldest = oldest.map(|(address, _)| *address);
            oldest.map(|address| self.by_address.remove(&address));
        }
    }
}

impl Failures {
    fn are_recent(&self, now: Instant) -> bool {
        now < self.last + REMEMBERED
    }
}

/// Returns an error while `failures_max` failures are not forgiven, of which one is after each `pause`.
fn wait(
    forgiven: Instant,
    now: Instant,
    failures_max: u32,
    pause: Duration,
) -> Result<(), TooManyAttempts> {
    let left = forgiven.saturating_duration_since(now);
    match left.checked_sub(pause * (failures_max - 1)) {
        Some(wait) if !wait.is_zero() => Err(TooManyAttempts(wait)),
        Some(_) | None => Ok(()),
    }
}

/// Returns what failures are counted for: an address of IPv4, a network of IPv6.
fn network(from: Option<IpAddr>) -> IpAddr {
    match from.map(|from| from.to_canonical()) {
        None => Ipv4Addr::UNSPECIFIED.into(),
        Some(IpAddr::V4(address)) => address.into(),
        Some(IpAddr::V6(address)) => Ipv6Addr::from_bits(address.to_bits() & NETWORK_MASK).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[allow(clippy::unnecessary_wraps, reason = "what attempts take")]
    fn v4(number: u32) -> Option<IpAddr> {
        Some(Ipv4Addr::from_bits(0x0a00_0000 + number).into())
    }

    fn fails(attempts: &mut Attempts, from: Option<IpAddr>, now: Instant) -> bool {
        attempts.check(from, now, || false) == Ok(false)
    }

    #[test]
    fn an_address_fails_only_so_often() {
        let (mut attempts, start) = (Attempts::new(), Instant::now());
        for _ in 0..ADDRESS_FAILURES_MAX {
            assert!(fails(&mut attempts, v4(1), start));
        }
        let refused = attempts.check(v4(1), start, || unreachable!("it is not looked at"));
        assert_eq!(refused, Err(TooManyAttempts(ADDRESS_PAUSE)));
        let later = start + ADDRESS_PAUSE;
        assert!(!fails(&mut attempts, v4(1), later - SECOND));
        assert!(fails(&mut attempts, v4(1), later));
        assert!(!fails(&mut attempts, v4(1), later));
        let forgotten = later + ADDRESS_PAUSE * ADDRESS_FAILURES_MAX;
        for _ in 0..ADDRESS_FAILURES_MAX {
            assert!(fails(&mut attempts, v4(1), forgotten));
        }
    }

    #[test]
    fn a_guesser_has_few_tries_an_hour() {
        let (mut attempts, start) = (Attempts::new(), Instant::now());
        let tries = (0..3600 * 10).filter(|tenth| {
            let now = start + SECOND / 10 * *tenth;
            fails(&mut attempts, v4(1), now)
        });
        assert_eq!(tries.count(), 5 + 359);
    }

    #[test]
    fn many_guessers_share_a_limit() {
        let (mut attempts, start) = (Attempts::new(), Instant::now());
        let tries = (0..3600).flat_map(|second| (0..200).map(move |from| (second, from)));
        let tries = tries
            .filter(|(second, from)| fails(&mut attempts, v4(*from), start + SECOND * *second));
        let tries = tries.count();
        assert!(tries <= 6 * 200 + 50 + 3600, "{tries} of 720000");
    }

    #[test]
    fn others_do_not_lock_an_address_out() {
        let (mut attempts, start) = (Attempts::new(), Instant::now());
        for from in 1..5000 {
            while fails(&mut attempts, v4(from), start) {}
            assert!(attempts.by_address.len() <= ADDRESSES_MAX);
        }
        assert_eq!(attempts.check(v4(0), start, || true), Ok(true));
        assert!(fails(&mut attempts, v4(0), start));
        let waits = attempts.check(v4(0), start, || true);
        assert_eq!(waits, Err(TooManyAttempts(TOTAL_PAUSE)));
        assert_eq!(
            attempts.check(v4(0), start + TOTAL_PAUSE, || true),
            Ok(true)
        );
    }

    #[test]
    fn right_tokens_are_never_limited() {
        let (mut attempts, start) = (Attempts::new(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(attempts.check(v4(1), start, || true), Ok(true));
        }
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let address = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(network(address("fd00::1:2")), network(address("fd00::7")));
        assert_ne!(
            network(address("fd00::1:2")),
            network(address("fd00:0:0:1::2"))
        );
        assert_eq!(network(address("::ffff:10.0.0.1")), network(v4(1)));
    }
}
