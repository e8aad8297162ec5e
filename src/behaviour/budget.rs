//! The work that is done for other peers: how much in total, and fairly among those who ask for it.
//!
//! Work is counted in the time of a [reference core](smart_record_core::SignatureMemory): what a
//! request is estimated to take is reserved before, and replaced by what it took after. What cannot
//! be refused, such as a GET, is counted after. There is a *pool* of work for all other peers,
//! which fills at the configured rate. While at least half of it is left everybody is served. Below
//! that, only those are who have used no more than the average, first among networks (an IPv4
//! address, a /48 of IPv6), then within a network among its parts (a /56 of IPv6), then among
//! peers. So a source that takes all that it can leaves half of the pool to the others, and a
//! thousand peer ids in one network get no more than one.
//!
//! **Invariants.** Pure: the time is an argument. The number of accounts is bounded. What is
//! admitted exceeds the rate by no more than the pool and one request.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Work for others".

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use libp2p_core::{Multiaddr, multiaddr::Protocol};
use libp2p_identity::PeerId;

/// How much the pool holds: the work of this time.
const POOL: u32 = 1;
/// Accounts are halved after this time, so that use is forgotten within minutes.
const WINDOW: Duration = Duration::from_secs(5);
/// Maximum number of accounts: some 400 KB.
const ACCOUNTS: usize = 4_096;
/// An account with less work than this is closed when accounts are halved.
const LEAST: Duration = Duration::from_micros(100);

const FIRST_48: u128 = !(u128::MAX >> 48);
const FIRST_56: u128 = !(u128::MAX >> 56);

/// Receiving and answering any message. A guess, on the high side.
pub(super) const MESSAGE: Duration = Duration::from_micros(30);
/// Receiving a byte of a record. A guess, on the high side.
const RECORD_BYTE: Duration = Duration::from_nanos(10);
/// A connection that another peer makes: three key agreements and two signatures.
pub(super) const HANDSHAKE: Duration = Duration::from_micros(300);

/// Receiving a record of this size, which is refused unread.
pub(super) fn receiving(bytes: usize) -> Duration {
    RECORD_BYTE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// Somebody who uses work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Party {
    /// An IPv4 address, or the first 48 bits of an IPv6 address.
    Network(IpAddr),
    /// The first 56 bits of an IPv6 address.
    Subnet(IpAddr),
    Peer(PeerId),
}

/// The source of a request: a peer, and the network that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    network: Option<Party>,
    subnet: Option<Party>,
    peer: Option<Party>,
}

impl Source {
    /// A peer at this address, which may have no IP address.
    pub(super) fn new(peer: PeerId, address: Option<&Multiaddr>) -> Self {
        Self { peer: Some(Party::Peer(peer)), ..Self::of_address(address) }
    }

    /// Whoever is at this address.
    pub(super) fn of_address(address: Option<&Multiaddr>) -> Self {
        let ip = address.and_then(|address| {
            address.iter().find_map(|part| match part {
                Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
                Protocol::Ip6(ip) => Some(ip.to_canonical()),
                _ => None,
            })
        });
        let masked = |ip: Ipv6Addr, mask: u128| IpAddr::V6((ip.to_bits() & mask).into());
        let (network, subnet) = match ip {
            None => (None, None),
            Some(IpAddr::V4(_)) => (ip.map(Party::Network), None),
            Some(IpAddr::V6(ip)) => (
                Some(Party::Network(masked(ip, FIRST_48))),
                Some(Party::Subnet(masked(ip, FIRST_56))),
            ),
        };
        Self { network, subnet, peer: None }
    }

    /// The parties, each within the one before.
    fn parties(&self) -> impl Iterator<Item = Party> {
        [self.network, self.subnet, self.peer].into_iter().flatten()
    }
}

/// The account of a party.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Work that was done.
    used: Duration,
    /// Work that was asked for, whether it was done or not.
    asked: Duration,
    /// Number of accounts within this one.
    members: u32,
    /// The party that it is within, if it is not only within all.
    group: Option<Party>,
}

/// The budget of work for other peers.
#[derive(Debug)]
pub(super) struct Budget {
    /// Work for each second.
    rate: Duration,
    pool: Duration,
    /// Work that was done beyond the pool, at most as much as it holds.
    debt: Duration,
    /// The part of it that could not be refused.
    unrefused: Duration,
    /// All work that was done.
    done: Duration,
    filled_at: Duration,
    halved_at: Duration,
    /// All parties together. Its members are networks, and peers without a network.
    all: Account,
    accounts: HashMap<Party, Account>,
}

impl Budget {
    /// A budget of this work for each second. The pool is full at first.
    pub(super) fn new(rate: Duration) -> Self {
        Self {
            rate,
            pool: rate.saturating_mul(POOL),
            debt: Duration::ZERO,
            unrefused: Duration::ZERO,
            done: Duration::ZERO,
            filled_at: Duration::ZERO,
            halved_at: Duration::ZERO,
            all: Account::default(),
            accounts: HashMap::new(),
        }
    }

    /// Reserves work for a source. `is_crowded`: whether the work would have to wait for that of
    /// others. Returns whether it may be done; otherwise it is remembered that it was asked for.
    pub(super) fn reserve(
        &mut self,
        source: &Source,
        work: Duration,
        is_crowded: bool,
        now: Duration,
    ) -> bool {
        self.advance(now);
        let is_short = is_crowded || self.pool < half(self.capacity());
        let may = !self.pool.is_zero() && (!is_short || self.is_within_share(source));
        if may {
            self.add(source, work, work);
            self.take(work);
        } else {
            self.add(source, Duration::ZERO, work);
        }
        may
    }

    /// Replaces the work that was reserved for a source by what was done.
    pub(super) fn settle(&mut self, source: &Source, reserved: Duration, done: Duration) {
        let (more, less) = (done.saturating_sub(reserved), reserved.saturating_sub(done));
        self.add(source, more, more);
        self.take(more);
        self.pool = self.pool.saturating_add(less).min(self.capacity());
        self.done = self.done.saturating_sub(less);
        let give_back = |account: &mut Account| {
            account.used = account.used.saturating_sub(less);
            account.asked = account.asked.saturating_sub(less);
        };
        give_back(&mut self.all);
        for party in source.parties() {
            self.accounts.get_mut(&party).into_iter().for_each(give_back);
        }
    }

    /// Counts work that was done for a source and could not be refused.
    pub(super) fn charge(&mut self, source: &Source, done: Duration, now: Duration) {
        self.advance(now);
        self.add(source, done, done);
        let beyond = done.saturating_sub(self.pool);
        self.unrefused = self.unrefused.saturating_add(beyond).min(self.capacity());
        self.take(done);
    }

    /// All work that was done or is reserved.
    pub(super) const fn done(&self) -> Duration {
        self.done
    }

    /// Whether a source is so far over the budget that it should be disconnected: its network has
    /// asked for more than there is for everybody, for seconds; or so much is done that cannot be
    /// refused that nothing is left for the rest. In either case only those who have asked for more
    /// than the average.
    pub(super) fn is_far_over(&self, source: &Source) -> bool {
        let longest = WINDOW.as_secs().saturating_mul(2);
        let most = self.rate.saturating_mul(u32::try_from(longest).unwrap_or(u32::MAX));
        let first = source.parties().next().and_then(|party| self.accounts.get(&party));
        let has_asked_for_all = first.is_some_and(|account| account.asked > most);
        let is_in_debt = self.unrefused >= self.capacity();
        let mut group = self.all;
        (has_asked_for_all || is_in_debt)
            && source.parties().all(|party| {
                let account = self.accounts.get(&party).copied().unwrap_or_default();
                let is_most = account.asked >= average(group.asked, group.members);
                group = account;
                is_most
            })
    }

    /// Whether each party of a source has used no more than the average of its group.
    fn is_within_share(&self, source: &Source) -> bool {
        let mut group = self.all;
        for party in source.parties() {
            let Some(account) = self.accounts.get(&party) else {
                // It is new, unless too many are remembered to tell.
                return self.accounts.len() < ACCOUNTS;
            };
            if account.used > average(group.used, group.members) {
                return false;
            }
            group = *account;
        }
        true
    }

    fn capacity(&self) -> Duration {
        self.rate.saturating_mul(POOL)
    }

    fn take(&mut self, work: Duration) {
        self.done = self.done.saturating_add(work);
        let beyond = work.saturating_sub(self.pool);
        self.pool = self.pool.saturating_sub(work);
        self.debt = self.debt.saturating_add(beyond).min(self.capacity());
    }

    fn add(&mut self, source: &Source, used: Duration, asked: Duration) {
        if asked.is_zero() {
            return;
        }
        let add = |account: &mut Account| {
            account.used = account.used.saturating_add(used);
            account.asked = account.asked.saturating_add(asked);
        };
        add(&mut self.all);
        let mut group = None;
        for party in source.parties() {
            let has_room = self.accounts.len() < ACCOUNTS;
            match self.accounts.entry(party) {
                Entry::Occupied(mut account) => add(account.get_mut()),
                Entry::Vacant(place) if has_room => {
                    add(place.insert(Account { group, ..Account::default() }));
                    if let Some(group) = self.group(group) {
                        group.members = group.members.saturating_add(1);
                    }
                }
                Entry::Vacant(_) => return,
            }
            group = Some(party);
        }
    }

    /// Fills the pool, and halves the accounts.
    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        let filled = of_rate(self.rate, passed);
        let left = filled.saturating_sub(self.debt);
        self.debt = self.debt.saturating_sub(filled);
        self.unrefused = self.unrefused.saturating_sub(filled);
        self.pool = self.pool.saturating_add(left).min(self.capacity());
        while now.saturating_sub(self.halved_at) >= WINDOW {
            self.halved_at = match self.accounts.is_empty() {
                true => now,
                false => self.halved_at.saturating_add(WINDOW),
            };
            self.halve();
        }
    }

    fn halve(&mut self) {
        let halve = |account: &mut Account| {
            account.used = half(account.used);
            account.asked = half(account.asked);
        };
        halve(&mut self.all);
        self.accounts.values_mut().for_each(halve);
        let mut groups = Vec::new();
        self.accounts.retain(|_, account| {
            let stays = account.asked >= LEAST;
            if !stays {
                groups.push(account.group);
            }
            stays
        });
        for group in groups {
            if let Some(group) = self.group(group) {
                group.members = group.members.saturating_sub(1);
            }
        }
    }

    fn group(&mut self, group: Option<Party>) -> Option<&mut Account> {
        match group {
            Some(group) => self.accounts.get_mut(&group),
            None => Some(&mut self.all),
        }
    }
}

/// An equal share.
fn average(total: Duration, members: u32) -> Duration {
    total.checked_div(members.max(1)).unwrap_or(total)
}

fn half(work: Duration) -> Duration {
    average(work, 2)
}

/// The work that `rate`, for each second, allows in `time`.
fn of_rate(rate: Duration, time: Duration) -> Duration {
    let nanos = rate.as_nanos().saturating_mul(time.as_nanos()) / 1_000_000_000;
    u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    fn at(address: &str) -> Source {
        Source::new(PeerId::random(), Some(&address.parse().unwrap()))
    }

    /// Half of a core.
    fn budget() -> Budget {
        Budget::new(500 * MS)
    }

    #[test]
    fn others_get_the_configured_share_in_total() {
        let (mut budget, source) = (budget(), at("/ip4/198.51.100.1/tcp/1"));
        let mut admitted = Duration::ZERO;
        for n in 0..10_000 {
            if budget.reserve(&source, 4 * MS, false, n * MS) {
                admitted += 4 * MS;
            }
        }
        // Ten seconds, and a full pool at first.
        let most = 5 * SECOND + 504 * MS;
        assert!(admitted <= most && admitted >= most - 10 * MS, "{admitted:?}");
    }

    #[test]
    fn a_thousand_peers_of_one_network_do_not_displace_one_of_another() {
        for [flooding, honest] in [
            ["/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.2/tcp/1"],
            ["/ip6/2001:db8:1::/tcp/1", "/ip6/2001:db8:2::/tcp/1"],
            ["/ip6/2001:db8:1:100::/tcp/1", "/ip6/2001:db8:1:200::/tcp/1"],
        ] {
            let mut budget = budget();
            let flood: Vec<_> = (0..1_000).map(|_| at(flooding)).collect();
            let honest = at(honest);
            let (mut stored, mut flooded) = (0, Duration::ZERO);
            for n in 0..10_000_u32 {
                let now = n * MS;
                for source in flood.iter().cycle().skip(n as usize).take(4) {
                    flooded += MS * u32::from(budget.reserve(source, MS, false, now));
                }
                if n % 20 == 0 {
                    stored += u32::from(budget.reserve(&honest, MS, false, now));
                }
            }
            assert_eq!(stored, 500, "every one");
            assert!(flooded > 4 * SECOND, "what is left over: {flooded:?}");
        }
    }

    #[test]
    fn in_one_network_a_peer_does_not_displace_another() {
        let mut budget = budget();
        let [flooder, honest] = [(); 2].map(|()| at("/ip4/198.51.100.1/tcp/1"));
        let mut stored = 0;
        for n in 0..10_000_u32 {
            for _ in 0..4 {
                budget.reserve(&flooder, MS, false, n * MS);
            }
            stored += u32::from(n % 20 == 0 && budget.reserve(&honest, MS, false, n * MS));
        }
        assert_eq!(stored, 500);
    }

    #[test]
    fn what_was_reserved_and_not_used_is_given_back() {
        let (mut budget, source) = (budget(), at("/ip4/198.51.100.1/tcp/1"));
        for _ in 0..10_000 {
            assert!(budget.reserve(&source, 100 * MS, false, Duration::ZERO));
            budget.settle(&source, 100 * MS, Duration::from_micros(1));
        }
        assert!(budget.pool >= 489 * MS, "{budget:?}");
    }

    #[test]
    fn who_asks_for_more_than_there_is_for_all_is_far_over_and_others_are_not() {
        let mut budget = budget();
        let address = "/ip4/198.51.100.1/tcp/1";
        let [flooder, quiet] = [(); 2].map(|()| at(address));
        let other = at("/ip4/198.51.100.2/tcp/1");
        let mut far_over_at = None;
        for n in 0..20_000_u32 {
            let now = n * MS;
            budget.reserve(&flooder, 2 * MS, false, now);
            if n % 100 == 0 {
                budget.charge(&quiet, MS, now);
                budget.charge(&other, MS, now);
            }
            assert!(!budget.is_far_over(&quiet) && !budget.is_far_over(&other));
            if budget.is_far_over(&flooder) {
                far_over_at.get_or_insert(now);
            }
        }
        assert!(far_over_at.is_some_and(|at| at > SECOND && at < 10 * SECOND), "{far_over_at:?}");
        assert!(budget.is_far_over(&Source::of_address(Some(&address.parse().unwrap()))));
        // Half a minute later all is forgotten.
        budget.charge(&quiet, MS, 50 * SECOND);
        assert!(!budget.is_far_over(&flooder) && budget.all.members <= 2, "{budget:?}");
    }

    #[test]
    fn reads_that_cannot_be_refused_make_their_source_be_disconnected() {
        let mut budget = budget();
        let (greedy, other) = (at("/ip4/198.51.100.1/tcp/1"), at("/ip4/198.51.100.2/tcp/1"));
        for n in 0..2_000_u32 {
            budget.charge(&greedy, 2 * MS, n * MS);
        }
        budget.charge(&other, MS, 2 * SECOND);
        assert!(budget.is_far_over(&greedy) && !budget.is_far_over(&other));
    }

    #[test]
    fn the_number_of_accounts_is_bounded_and_members_are_counted() {
        let mut budget = budget();
        for n in 0..10_000_u32 {
            let ip = std::net::Ipv4Addr::from(n * 7);
            budget.charge(&at(&format!("/ip4/{ip}/tcp/1")), MS, Duration::ZERO);
        }
        assert!(budget.accounts.len() <= ACCOUNTS);
        let networks = budget.accounts.keys().filter(|it| matches!(it, Party::Network(_))).count();
        assert_eq!(budget.all.members as usize, networks);
        let newcomer = at("/ip4/203.0.113.1/tcp/1");
        assert!(!budget.reserve(&newcomer, MS, false, Duration::ZERO), "the pool is empty");
        budget.charge(&newcomer, MS, 600 * SECOND);
        assert_eq!((budget.accounts.len(), budget.all.members), (2, 1), "forgotten");
        assert_eq!(Source::of_address(None).parties().count(), 0);
        assert_eq!(Source::new(PeerId::random(), None).parties().count(), 1);
    }
}
