//! Decides which connections of a listener may stay. Pure: no clock, no sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

/// How many connections of each class there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotLimits {
    /// Of clients.
    pub(super) normal: usize,
    /// Beyond those, for connections that turn out to be a node's, or a probe.
    pub(super) reserve: usize,
    /// Of clients from one address.
    pub(super) per_address: usize,
    /// Of other nodes.
    pub(super) peers: usize,
}

/// What becomes of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted {
        id: u64,
        /// It may only be a node's, or a probe.
        reserve: bool,
        /// Idle connections to cut for it.
        evicted: Vec<u64>,
    },
    Refused(Refusal),
}

/// Why a connection must be closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Every connection of the listener is in use.
    ListenerFull,
    /// Every connection that its address may have is in use.
    AddressFull,
}

impl Refusal {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ListenerFull => "listener_full",
            Self::AddressFull => "address_full",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Normal,
    Reserve,
    Peer,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    class: Class,
    /// Where it is in the order of idle connections, if it is idle.
    idle: Option<u64>,
}

/// The connections of one address that are no node's.
#[derive(Debug, Default)]
struct AtAddress {
    count: usize,
    idle: BTreeSet<(u64, u64)>,
}

/// The connections of one listener by class and address.
#[derive(Debug)]
pub(super) struct Slots {
    limits: SlotLimits,
    entries: BTreeMap<u64, Entry>,
    addresses: BTreeMap<IpAddr, AtAddress>,
    /// Idle connections of clients, the one that was idle longest first.
    idle: BTreeSet<(u64, u64)>,
    normal: usize,
    reserve: usize,
    peers: usize,
    /// The next ID, and the next place in the order of idle connections.
    next: u64,
}

impl Slots {
    pub(super) fn new(limits: SlotLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            addresses: BTreeMap::new(),
            idle: BTreeSet::new(),
            normal: 0,
            reserve: 0,
            peers: 0,
            next: 0,
        }
    }

    /// Admits a connection from `address`, which is idle at first.
    pub(super) fn admit(&mut self, address: IpAddr) -> Admission {
        let address = network_of(address);
        let mut evicted = Vec::new();
        let class = loop {
            let at_address = self.addresses.get(&address);
            let address_full = at_address.is_some_and(|at| at.count >= self.limits.per_address);
            if !address_full && self.normal < self.limits.normal {
                break Class::Normal;
            }
            let oldest = if address_full {
                at_address.and_then(|at| at.idle.first())
            } else {
                self.idle.first()
            };
            match oldest {
                Some(&(_, victim)) => {
                    self.remove(victim);
                    evicted.push(victim);
                }
                None if self.reserve < self.limits.reserve => break Class::Reserve,
                None if address_full => return Admission::Refused(Refusal::AddressFull),
                None => return Admission::Refused(Refusal::ListenerFull),
            }
        };
        let id = self.take_next();
        *self.count_of(class) += 1;
        self.addresses.entry(address).or_default().count += 1;
        let entry = Entry {
            address,
            class,
            idle: None,
        };
        self.entries.insert(id, entry);
        self.idle(id);
        Admission::Admitted {
            id,
            reserve: class == Class::Reserve,
            evicted,
        }
    }

    /// The connection has a complete request.
    pub(super) fn busy(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return; // It was evicted in this moment.
        };
        if let Some(order) = entry.idle.take() {
            self.idle.remove(&(order, id));
            if let Some(at) = self.addresses.get_mut(&entry.address) {
                at.idle.remove(&(order, id));
            }
        }
    }

    /// The connection has no complete request any more.
    pub(super) fn idle(&mut self, id: u64) {
        let order = self.take_next();
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if entry.class != Class::Peer && entry.idle.is_none() {
            entry.idle = Some(order);
            self.idle.insert((order, id));
            let at = self.addresses.entry(entry.address).or_default();
            at.idle.insert((order, id));
        }
    }

    /// The connection is another node's; returns whether there was room for one.
    pub(super) fn make_peer(&mut self, id: u64) -> bool {
        let is_client = |entry: &Entry| entry.class != Class::Peer;
        if self.peers >= self.limits.peers || !self.entries.get(&id).is_some_and(is_client) {
            return false;
        }
        self.busy(id);
        let Some(entry) = self.entries.get_mut(&id) else {
            return false;
        };
        let (address, was) = (entry.address, entry.class);
        entry.class = Class::Peer;
        *self.count_of(was) -= 1;
        self.peers += 1;
        self.leave_address(address);
        true
    }

    /// The connection is closed, or is being cut.
    pub(super) fn remove(&mut self, id: u64) {
        self.busy(id);
        if let Some(entry) = self.entries.remove(&id) {
            *self.count_of(entry.class) -= 1;
            if entry.class != Class::Peer {
                self.leave_address(entry.address);
            }
        }
    }

    /// Returns how many connections there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Gives up the connection that was idle longest.
    pub(super) fn evict_oldest(&mut self) -> Option<u64> {
        let (_, victim) = *self.idle.first()?;
        self.remove(victim);
        Some(victim)
    }

    fn leave_address(&mut self, address: IpAddr) {
        if let Some(at) = self.addresses.get_mut(&address) {
            at.count -= 1;
            if at.count == 0 {
                self.addresses.remove(&address);
            }
        }
    }

    fn count_of(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Normal => &mut self.normal,
            Class::Reserve => &mut self.reserve,
            Class::Peer => &mut self.peers,
        }
    }

    fn take_next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Returns what counts as one address: one host can have a whole /64 network of IPv6.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn at(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn slots() -> Slots {
        Slots::new(SlotLimits {
            normal: 4,
            reserve: 1,
            per_address: 3,
            peers: 2,
        })
    }

    #[track_caller]
    fn admit(slots: &mut Slots, address: IpAddr) -> (u64, bool, Vec<u64>) {
        match slots.admit(address) {
            Admission::Admitted {
                id,
                reserve,
                evicted,
            } => (id, reserve, evicted),
            Admission::Refused(why) => panic!("refused: {why:?}"),
        }
    }

    #[test]
    fn a_full_listener_evicts_the_longest_idle() {
        let mut slots = slots();
        let ids: Vec<_> = (1..=4).map(|last| admit(&mut slots, at(last)).0).collect();
        slots.busy(ids[0]);
        slots.busy(ids[1]);
        slots.idle(ids[1]); // Now the youngest idle one.
        assert_eq!(admit(&mut slots, at(5)).2, [ids[2]]);
        assert_eq!(admit(&mut slots, at(6)).2, [ids[3]]);
        assert_eq!(admit(&mut slots, at(7)).2, [ids[1]]);
    }

    #[test]
    fn one_address_evicts_only_its_own() {
        let mut slots = slots();
        let (other, ..) = admit(&mut slots, at(1));
        let ids: Vec<_> = (0..3).map(|_| admit(&mut slots, HERE).0).collect();
        assert_eq!(admit(&mut slots, HERE).2, [ids[0]]);
        assert!(slots.entries.contains_key(&other));
    }

    #[test]
    fn busy_connections_leave_only_the_reserve() {
        let mut slots = slots();
        for last in 1..=4 {
            let (id, reserve, _) = admit(&mut slots, at(last));
            assert!(!reserve);
            slots.busy(id);
        }
        let (reserved, reserve, evicted) = admit(&mut slots, at(5));
        assert!(reserve && evicted.is_empty());
        // Its place goes to the next as long as it is idle itself.
        let (next, reserve, evicted) = admit(&mut slots, at(6));
        assert!(reserve && evicted == [reserved]);
        slots.busy(next);
        assert_eq!(
            slots.admit(at(7)),
            Admission::Refused(Refusal::ListenerFull)
        );
        slots.remove(next);
        assert!(admit(&mut slots, at(7)).1);
    }

    #[test]
    fn a_busy_address_is_refused_while_others_enter() {
        let mut slots = slots();
        for _ in 0..3 {
            let (id, ..) = admit(&mut slots, HERE);
            slots.busy(id);
        }
        let (reserved, ..) = admit(&mut slots, HERE);
        slots.busy(reserved);
        assert_eq!(slots.admit(HERE), Admission::Refused(Refusal::AddressFull));
        assert!(!admit(&mut slots, at(1)).1);
    }

    #[test]
    fn peers_are_counted_apart_and_never_evicted() {
        let mut slots = slots();
        let (peer, ..) = admit(&mut slots, HERE);
        assert!(slots.make_peer(peer));
        assert!(!slots.make_peer(peer));
        for _ in 0..10 {
            assert!(!admit(&mut slots, HERE).2.contains(&peer));
        }
        let (second, ..) = admit(&mut slots, at(1));
        assert!(slots.make_peer(second));
        let (third, ..) = admit(&mut slots, at(2));
        assert!(!slots.make_peer(third), "there are too many");
        for id in [peer, second, third] {
            slots.remove(id);
        }
        assert_eq!(slots.peers, 0);
    }

    #[test]
    fn nothing_is_left_of_closed_connections() {
        let mut slots = slots();
        let ids: Vec<_> = (0..20).map(|last| admit(&mut slots, at(last)).0).collect();
        for id in ids {
            slots.remove(id);
        }
        let Slots {
            entries,
            addresses,
            idle,
            normal,
            reserve,
            ..
        } = slots;
        assert!(entries.is_empty() && addresses.is_empty() && idle.is_empty());
        assert_eq!((normal, reserve), (0, 0));
    }

    #[test]
    fn one_ipv6_network_counts_as_one_address() {
        let of = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), at(1));
    }
}
