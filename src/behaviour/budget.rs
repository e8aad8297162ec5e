//! Budget of the work for other peers: a total rate, shared fairly among the peers.
//!
//! Work is counted in the time of a [reference core](smart_record_core::SignatureMemory). The
//! estimated work of a request is reserved first, and replaced by its actual work afterwards. What
//! cannot be refused, receiving a message or a GET, is counted afterwards only, and the next
//! message waits if there is no work for it. A *pool* of work for all other peers fills at the
//! configured rate. While at least half of it is left, every message is read and every request is
//! served. Below that, they are if their source has used no more than the average: its network (an
//! IPv4 address, a /48 of IPv6) among networks, its part of that (a /56 of IPv6) among the parts of
//! the network, its peer among the peers of the part. So a source that takes all that it can leaves
//! half of the pool to the others, and a thousand peer ids in one network get no more than one. All
//! connections without a known IP address, relayed ones among them, count as one network.
//!
//! **Invariants.** Pure: the time is an argument. The number of accounts is bounded, and a newcomer
//! always gets one: peer ids, which are free, take no accounts from networks. Admitted work exceeds
//! the rate by no more than the pool and the requests under way. An unused reservation is given
//! back exactly. The account of a party is never less than the sum of its members'.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Work for others".

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use smart_record_lookup::Subnet;

use crate::addresses::ip_of;

/// How much the pool holds: the work of this time.
const POOL: u32 = 1;
/// Accounts are halved after this time, so that use is forgotten within minutes.
const WINDOW: Duration = Duration::from_secs(5);
/// Maximum number of accounts: some 700 KB.
const ACCOUNTS: usize = 4_096;
/// Maximum number of accounts within that of a network, or of a part of one. Further peers share
/// one.
const MEMBERS: u32 = 32;
/// How many accounts are closed at a time when there are too many.
const CLOSED_AT_ONCE: usize = 64;
/// An account with less work than this is closed when accounts are halved.
const LEAST: Duration = Duration::from_micros(100);
/// When work that could not be refused has used up the budget, peers are disconnected whose network
/// has asked for this many times the average of the others.
const GREEDY: u32 = 4;

/// The part of all work in which messages are read of those who have used more than their share.
const SPARE: u32 = 8;
/// Seconds after which the last of them has been read, if no more come.
const LONGEST_WAIT: u32 = 5;
/// How many of them are read at once at most.
const AT_ONCE: u32 = 32;

/// Receiving and answering any message: connection, encryption, streams, Kademlia. Measured by
/// `cargo bench --bench flooded`, without what a PUT takes besides.
pub(super) const MESSAGE: Duration = Duration::from_micros(120);
/// Receiving a byte of a record. A guess, on the high side.
const RECORD_BYTE: Duration = Duration::from_nanos(10);
/// A connection that another peer makes: three key agreements and two signatures.
pub(super) const HANDSHAKE: Duration = Duration::from_micros(300);
/// The work that a refused request is charged with. Its sender is not told of the refusal, so an
/// honest one goes on. A guess: an eighth of what the signatures in one value may take.
const REFUSED: Duration = Duration::from_micros(500);

/// Receiving a record of this size, which is refused unread.
pub(super) fn receiving(bytes: usize) -> Duration {
    RECORD_BYTE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// The network location of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Site {
    Subnet(Subnet),
    /// No IP address is known, or only that of a relay.
    Unknown,
}

/// Somebody who uses work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Party {
    /// All peers of a site.
    Site(Site),
    Peer(Site, PeerId),
    /// The peers in a site that have no account of their own.
    Rest(Site),
}

/// The source of a request: the subnets that it comes from, and the peer. Each party is within the
/// one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source([Option<Party>; 3]);

impl Source {
    /// A peer at this address, which may have no IP address.
    pub(super) fn new(peer: PeerId, address: Option<&Multiaddr>) -> Self {
        let Self([network, part, _]) = Self::of_address(address);
        let site = part.or(network).map_or(Site::Unknown, Party::site);
        Self([network, part, Some(Party::Peer(site, peer))])
    }

    /// The peers at this address.
    pub(super) fn of_address(address: Option<&Multiaddr>) -> Self {
        let ip = address.and_then(ip_of);
        let site = |v6_bits| ip.map(|ip| Site::Subnet(Subnet::new(ip, 32, v6_bits)));
        let network = site(48).unwrap_or(Site::Unknown);
        // The same for an IPv4 address.
        let part = site(56).filter(|part| *part != network);
        Self([Some(Party::Site(network)), part.map(Party::Site), None])
    }

    /// All peers of its network.
    pub(super) const fn network(&self) -> Self {
        let Self([network, ..]) = *self;
        Self([network, None, None])
    }
}

impl Party {
    const fn site(self) -> Site {
        match self {
            Self::Site(site) | Self::Peer(site, _) | Self::Rest(site) => site,
        }
    }
}

/// The account of a party.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Work that was done.
    used: Duration,
    /// Work that is reserved.
    reserved: Duration,
    /// Work that was asked for: what was done, and what refusals count as.
    asked: Duration,
    /// Number of accounts within this one.
    members: u32,
    /// The party that it is within, if it is not only within all.
    group: Option<Party>,
    /// Whether it has asked for more than there is for everybody, and not yet for much less.
    is_refused: bool,
}

impl Account {
    /// The work that counts towards its share.
    const fn taken(&self) -> Duration {
        self.used.saturating_add(self.reserved)
    }
}

/// The accounts that a request is charged to, each within the one before.
type Path = [Option<Party>; 3];

/// Work that was reserved for a source. It has to be [settled](Budget::settle).
#[derive(Clone, Copy, Debug)]
#[must_use = "it has to be settled"]
pub(super) struct Reserved {
    source: Source,
    path: Path,
    work: Duration,
    /// The work that was reserved for it, from the pool and beyond it.
    taken: Duration,
}

impl Reserved {
    /// The work that was expected of it. Forgeries may take up to one batch more.
    pub(super) const fn work(&self) -> Duration {
        self.work
    }

    /// For whom it was reserved.
    pub(super) const fn source(&self) -> Source {
        self.source
    }
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
    /// Work for reading messages of those who have used more than their share.
    spare: Duration,
    /// All work that was done.
    done: Duration,
    filled_at: Duration,
    halved_at: Duration,
    /// All parties together. Its members are networks.
    all: Account,
    accounts: HashMap<Party, Account>,
    /// How many accounts were closed because there were too many.
    closed: u64,
    /// How often work was counted for peers without an account of their own.
    shared: u64,
}

impl Budget {
    /// A budget of this work for each second. The pool is full at first. With no work nothing is
    /// admitted, and nobody is far over.
    pub(super) fn new(rate: Duration) -> Self {
        Self {
            rate,
            pool: rate.saturating_mul(POOL),
            debt: Duration::ZERO,
            unrefused: Duration::ZERO,
            spare: Duration::ZERO,
            done: Duration::ZERO,
            filled_at: Duration::ZERO,
            halved_at: Duration::ZERO,
            all: Account::default(),
            accounts: HashMap::new(),
            closed: 0,
            shared: 0,
        }
    }

    /// Whether there is work for reading a message of a source's network now. While less than half
    /// of the pool is left, not if it has used more than the average; while less than a quarter is
    /// left, for nobody, so that what a message asks for can still be done. Its peers take turns.
    pub(super) fn has_work_for(&mut self, source: &Source, now: Duration) -> bool {
        self.advance(now);
        let has_some = self.pool >= average(self.capacity(), 4);
        self.rate.is_zero()
            || !self.is_short()
            || has_some && self.is_within_share(&source.network(), Duration::ZERO)
    }

    /// Takes the work for reading one message that has waited for long: an eighth of all work, so
    /// that none waits for ever. Returns whether there is some.
    pub(super) fn takes_spare(&mut self, now: Duration) -> bool {
        self.advance(now);
        let left = self.spare.checked_sub(MESSAGE);
        left.map(|left| self.spare = left).is_some()
    }

    /// How many messages may wait: what is read of them in half of the time for which peers wait
    /// for an answer.
    pub(super) fn most_waiting(&self) -> usize {
        let of_spare = average(self.rate.saturating_mul(LONGEST_WAIT), SPARE);
        let messages = of_spare.as_nanos().checked_div(MESSAGE.as_nanos()).unwrap_or_default();
        usize::try_from(messages).unwrap_or(usize::MAX).max(64)
    }

    /// Number of accounts, and how many were closed because there were too many.
    pub(super) fn accounts(&self) -> (usize, u64) {
        (self.accounts.len(), self.closed)
    }

    /// How often work was counted for peers without an account of their own, because their network,
    /// or their part of it, has too many.
    pub(super) const fn shared(&self) -> u64 {
        self.shared
    }

    /// Whether a request of a source has to be refused, whatever work it is. It then counts as a
    /// refusal. `is_crowded`: whether the work would have to wait for that of others. It has to,
    /// too, while an eighth of the pool is reserved.
    pub(super) fn refuses(&mut self, source: &Source, is_crowded: bool, now: Duration) -> bool {
        self.advance(now);
        let is_short =
            is_crowded || self.is_short() || self.all.reserved >= average(self.capacity(), 8);
        let may = !self.pool.is_zero() && (!is_short || self.is_within_share(source, self.slack()));
        if !may {
            self.refused(source);
        }
        !may
    }

    /// Counts a refusal.
    pub(super) fn refused(&mut self, source: &Source) {
        let path = self.open(source);
        self.change(&path, |account| account.asked = account.asked.saturating_add(REFUSED));
    }

    /// Reserves work for a source, unless it is [refused](Self::refuses).
    pub(super) fn reserve(
        &mut self,
        source: &Source,
        work: Duration,
        is_crowded: bool,
        now: Duration,
    ) -> Option<Reserved> {
        if self.refuses(source, is_crowded, now) {
            return None;
        }
        Some(self.take_for(source, work))
    }

    /// Reserves work for a source that is not refused.
    pub(super) fn take_for(&mut self, source: &Source, work: Duration) -> Reserved {
        let path = self.open(source);
        self.change(&path, |account| account.reserved = account.reserved.saturating_add(work));
        let taken = self.take(work);
        Reserved { source: *source, path, work, taken }
    }

    /// Replaces the work that was reserved by what was done.
    pub(super) fn settle(&mut self, reserved: Reserved, done: Duration) {
        let Reserved { path, work, taken, .. } = reserved;
        self.change(&path, |account| account.reserved = account.reserved.saturating_sub(work));
        self.enter(&path, done);
        self.take(done.saturating_sub(taken));
        // Only what was taken is given back, whatever was estimated.
        let back = taken.saturating_sub(done);
        let to_pool = back.saturating_sub(self.debt);
        self.debt = self.debt.saturating_sub(back);
        self.pool = self.pool.saturating_add(to_pool).min(self.capacity());
    }

    /// Counts work that was done for a source and could not be refused.
    pub(super) fn charge(&mut self, source: &Source, done: Duration, now: Duration) {
        self.advance(now);
        let path = self.open(source);
        let is_shared = path.iter().flatten().any(|party| matches!(party, Party::Rest(_)));
        self.shared = self.shared.saturating_add(u64::from(is_shared));
        self.enter(&path, done);
        let beyond = done.saturating_sub(self.pool);
        self.unrefused = self.unrefused.saturating_add(beyond).min(self.capacity());
        self.take(done);
    }

    /// All work that was done.
    pub(super) const fn done(&self) -> Duration {
        self.done
    }

    /// Whether a source is so far over the budget that it should be disconnected:
    ///
    /// * its network has asked for more than the whole pool, for seconds, until it has asked for no
    ///   more than a quarter of that; or work that cannot be refused has used up the pool, and its
    ///   network has asked for four times the average of the others. In either case only a peer
    ///   that has asked for no less than the average of its network.
    pub(super) fn is_far_over(&mut self, source: &Source, now: Duration) -> bool {
        self.advance(now);
        if self.rate.is_zero() {
            return false;
        }
        let (path, most) = (self.path(source), self.most());
        let first = path.first().copied().flatten();
        let Some(first) = first.and_then(|party| self.accounts.get_mut(&party)) else {
            return false;
        };
        first.is_refused |= first.asked > most;
        let first = *first;
        let others = self.all.asked.saturating_sub(first.asked);
        let count = self.all.members.saturating_sub(1);
        let is_greedy = first.asked >= average(others, count).saturating_mul(GREEDY);
        let is_in_debt = self.unrefused >= self.capacity();
        let mut group = self.all;
        (first.is_refused || is_in_debt && is_greedy)
            && path.iter().flatten().all(|party| {
                let account = self.accounts.get(party).copied().unwrap_or_default();
                let is_most = account.asked >= average(group.asked, group.members);
                group = account;
                is_most
            })
    }

    /// Whether less than half of the pool is left.
    fn is_short(&self) -> bool {
        self.pool < half(self.capacity())
    }

    /// Who has asked for more than this is refused: all that there is in the time after which
    /// accounts are halved twice.
    fn most(&self) -> Duration {
        let longest = WINDOW.as_secs().saturating_mul(2);
        self.rate.saturating_mul(u32::try_from(longest).unwrap_or(u32::MAX))
    }

    /// How much more than the average may have been used by those whose message was read: it counts
    /// as used itself.
    fn slack(&self) -> Duration {
        average(self.capacity(), 64)
    }

    /// Whether each party of a source has used no more than the average of its group, and this much
    /// more.
    fn is_within_share(&self, source: &Source, slack: Duration) -> bool {
        let mut group = self.all;
        for party in self.path(source).iter().flatten() {
            let Some(account) = self.accounts.get(party) else {
                // It is new.
                return true;
            };
            let share = average(group.taken(), group.members).saturating_add(slack);
            if account.taken() > share {
                return false;
            }
            group = *account;
        }
        true
    }

    fn capacity(&self) -> Duration {
        self.rate.saturating_mul(POOL)
    }

    /// Takes work from the pool, and beyond it. Returns how much.
    fn take(&mut self, work: Duration) -> Duration {
        let from_pool = work.min(self.pool);
        let room = self.capacity().saturating_sub(self.debt);
        let beyond = work.saturating_sub(from_pool).min(room);
        self.pool = self.pool.saturating_sub(from_pool);
        self.debt = self.debt.saturating_add(beyond);
        from_pool.saturating_add(beyond)
    }

    /// Enters work that was done into accounts.
    fn enter(&mut self, path: &Path, done: Duration) {
        self.done = self.done.saturating_add(done);
        self.change(path, |account| {
            account.used = account.used.saturating_add(done);
            account.asked = account.asked.saturating_add(done);
        });
    }

    fn change(&mut self, path: &Path, change: impl Fn(&mut Account)) {
        change(&mut self.all);
        for party in path.iter().flatten() {
            self.accounts.get_mut(party).into_iter().for_each(&change);
        }
    }

    /// The parties whose accounts count for a source, those that have none yet included.
    fn path(&self, source: &Source) -> Path {
        let mut path = [None; 3];
        let mut group: Option<Party> = None;
        for (place, party) in path.iter_mut().zip(source.0.into_iter().flatten()) {
            let members = group.and_then(|group| self.accounts.get(&group));
            let is_full = members.is_some_and(|group| group.members >= MEMBERS);
            if is_full
                && !self.accounts.contains_key(&party)
                && let Some(group) = group
            {
                *place = Some(Party::Rest(group.site()));
                break;
            }
            *place = Some(party);
            group = Some(party);
        }
        path
    }

    /// Opens the accounts that a source lacks. Returns those that it has then.
    fn open(&mut self, source: &Source) -> Path {
        let (wanted, mut path, mut group) = (self.path(source), [None; 3], None);
        for (place, party) in path.iter_mut().zip(wanted.into_iter().flatten()) {
            if !self.accounts.contains_key(&party) {
                if self.accounts.len() >= ACCOUNTS && !self.close_some(group) {
                    break;
                }
                self.accounts.insert(party, Account { group, ..Account::default() });
                if let Some(group) = self.group(group) {
                    group.members = group.members.saturating_add(1);
                }
            }
            *place = Some(party);
            group = Some(party);
        }
        path
    }

    /// Closes the smallest accounts of the largest group, with those within them. `keeps` stays,
    /// and what it is within, and what is in use. Returns whether there were any.
    fn close_some(&mut self, keeps: Option<Party>) -> bool {
        let above = keeps.and_then(|keeps| self.accounts.get(&keeps)?.group);
        let largest = self.accounts.iter().max_by_key(|(_, account)| account.members);
        let largest = largest.filter(|(_, account)| account.members > self.all.members);
        let largest = largest.map(|(party, _)| *party);
        let mut closed = Vec::new();
        for (party, account) in &self.accounts {
            let stays = Some(*party) == keeps || Some(*party) == above;
            if account.group == largest && account.reserved.is_zero() && !stays {
                closed.push((account.asked, *party));
            }
        }
        closed.sort_unstable_by_key(|(asked, _)| *asked);
        closed.truncate(CLOSED_AT_ONCE);
        let closed: HashSet<_> = closed.into_iter().map(|(_, party)| party).collect();
        if let Some(group) = self.group(largest) {
            let count = u32::try_from(closed.len()).unwrap_or(u32::MAX);
            group.members = group.members.saturating_sub(count);
        }
        // An account is within at most two others.
        let is_in = |account: &Account, groups: &HashSet<Party>| {
            account.group.is_some_and(|group| groups.contains(&group))
        };
        let parts = self.accounts.iter().filter(|(_, account)| is_in(account, &closed));
        let parts: HashSet<_> = parts.map(|(party, _)| *party).collect();
        let before = self.accounts.len();
        self.accounts.retain(|party, account| {
            !closed.contains(party) && !parts.contains(party) && !is_in(account, &parts)
        });
        let gone = before.saturating_sub(self.accounts.len());
        self.closed = self.closed.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX));
        !closed.is_empty()
    }

    /// Fills the pool, and halves the accounts.
    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        let filled = of_rate(self.rate, passed);
        let left = filled.saturating_sub(self.debt);
        self.debt = self.debt.saturating_sub(filled);
        self.unrefused = self.unrefused.saturating_sub(filled);
        let spare = average(filled, SPARE).saturating_add(self.spare);
        self.spare = spare.min(MESSAGE.saturating_mul(AT_ONCE));
        self.pool = self.pool.saturating_add(left).min(self.capacity());
        while now.saturating_sub(self.halved_at) >= WINDOW {
            self.halved_at = match self.accounts.is_empty() {
                true => now,
                false => self.halved_at.saturating_add(WINDOW),
            };
            self.halve();
        }
    }

    /// Halves what was used and asked for. What is reserved stays until it is settled.
    fn halve(&mut self) {
        let few = average(self.most(), 4);
        let halve = |account: &mut Account| {
            account.used = half(account.used);
            account.asked = half(account.asked);
            account.is_refused &= account.asked > few;
        };
        halve(&mut self.all);
        self.accounts.values_mut().for_each(halve);
        let mut groups = Vec::new();
        // Whoever is within an account has asked for no more, and reserved no more.
        self.accounts.retain(|_, account| {
            let stays = account.asked >= LEAST || !account.reserved.is_zero();
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

    impl Budget {
        fn within_share(&self, source: &Source) -> bool {
            self.is_within_share(source, Duration::ZERO)
        }

        /// Reserves work and does it, at once. Returns whether it may be done.
        fn does(&mut self, source: &Source, work: Duration, now: Duration) -> bool {
            let reserved = self.reserve(source, work, false, now);
            let may = reserved.is_some();
            reserved.into_iter().for_each(|reserved| self.settle(reserved, work));
            may
        }

        fn check(&self) {
            let mut sums = HashMap::<Option<Party>, Account>::new();
            for account in self.accounts.values() {
                let sum = sums.entry(account.group).or_default();
                sum.used += account.used;
                sum.reserved += account.reserved;
                sum.asked += account.asked;
                sum.members += 1;
            }
            let groups = self.accounts.iter().map(|(party, account)| (Some(*party), account));
            for (group, account) in groups.chain([(None, &self.all)]) {
                let sum = sums.remove(&group).unwrap_or_default();
                assert!(account.used >= sum.used, "{group:?} in {self:?}");
                assert!(account.reserved >= sum.reserved, "{group:?} in {self:?}");
                assert!(account.asked >= sum.asked, "{group:?} in {self:?}");
                assert_eq!(account.members, sum.members, "{group:?} in {self:?}");
            }
            assert!(sums.is_empty(), "accounts within none");
            assert!(self.accounts.len() <= ACCOUNTS && self.pool <= self.capacity());
        }
    }

    #[test]
    fn others_get_the_configured_share_in_total() {
        let (mut budget, source) = (budget(), at("/ip4/198.51.100.1/tcp/1"));
        let mut admitted = Duration::ZERO;
        for n in 0..10_000 {
            if budget.does(&source, 4 * MS, n * MS) {
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
                    flooded += MS * u32::from(budget.does(source, MS, now));
                }
                if n % 20 == 0 {
                    stored += u32::from(budget.does(&honest, MS, now));
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
                budget.does(&flooder, MS, n * MS);
            }
            stored += u32::from(n % 20 == 0 && budget.does(&honest, MS, n * MS));
        }
        assert_eq!(stored, 500);
    }

    #[test]
    fn what_was_reserved_and_not_used_is_given_back() {
        let (mut budget, source) = (budget(), at("/ip4/198.51.100.1/tcp/1"));
        for _ in 0..10_000 {
            let reserved = budget.reserve(&source, 100 * MS, false, Duration::ZERO).unwrap();
            budget.settle(reserved, Duration::from_micros(1));
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
            budget.does(&flooder, 2 * MS, now);
            if n % 100 == 0 {
                budget.charge(&quiet, MS, now);
                budget.charge(&other, MS, now);
            }
            assert!(!budget.is_far_over(&quiet, now) && !budget.is_far_over(&other, now));
            if budget.is_far_over(&flooder, now) {
                far_over_at.get_or_insert(now);
            }
        }
        assert!(far_over_at.is_some_and(|at| at > SECOND && at < 10 * SECOND), "{far_over_at:?}");
        let network = Source::of_address(Some(&address.parse().unwrap()));
        assert!(budget.is_far_over(&network, 20 * SECOND - MS));
        // Half a minute later all is forgotten.
        budget.charge(&quiet, MS, 50 * SECOND);
        let now = 50 * SECOND;
        assert!(!budget.is_far_over(&flooder, now) && budget.all.members <= 2, "{budget:?}");
    }

    #[test]
    fn reads_that_cannot_be_refused_make_their_source_be_disconnected() {
        let mut budget = budget();
        let (greedy, other) = (at("/ip4/198.51.100.1/tcp/1"), at("/ip4/198.51.100.2/tcp/1"));
        for n in 0..2_000_u32 {
            budget.charge(&greedy, 2 * MS, n * MS);
        }
        let now = 2 * SECOND;
        budget.charge(&other, MS, now);
        assert!(budget.is_far_over(&greedy, now) && !budget.is_far_over(&other, now));
    }

    #[test]
    fn an_overestimate_gives_back_no_more_than_it_has_taken() {
        let (mut budget, source) = (budget(), at("/ip4/198.51.100.1/tcp/1"));
        assert!(budget.does(&source, 250 * MS, Duration::ZERO));
        let reserved = budget.reserve(&source, 100 * SECOND, false, Duration::ZERO).unwrap();
        budget.settle(reserved, Duration::from_micros(1));
        assert_eq!(
            (budget.pool, budget.debt),
            (250 * MS - Duration::from_micros(1), Duration::ZERO)
        );
        // What was done meanwhile for others is paid first.
        let reserved = budget.reserve(&source, 100 * SECOND, false, Duration::ZERO).unwrap();
        let other = at("/ip4/198.51.100.2/tcp/1");
        budget.charge(&other, 100 * MS, Duration::ZERO);
        budget.advance(400 * MS);
        budget.settle(reserved, Duration::ZERO);
        assert!(budget.pool >= 150 * MS && budget.debt.is_zero(), "{budget:?}");
        let first = budget.accounts[&source.0[0].unwrap()];
        assert!(first.asked < 251 * MS && first.reserved.is_zero(), "{first:?}");
        budget.check();
    }

    #[test]
    fn what_is_settled_after_a_halving_leaves_the_accounts_of_others_as_they_are() {
        let mut budget = budget();
        let [slow, honest] = ["/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.2/tcp/1"].map(at);
        let mut waiting = std::collections::VecDeque::new();
        for n in 0..20_000_u32 {
            let now = n * MS;
            waiting.extend(budget.reserve(&slow, 60 * MS, false, now).map(|it| (now, it)));
            if n % 200 == 0 {
                budget.does(&honest, MS, now);
                budget.check();
            }
            // Each is settled some seconds later, or almost.
            if waiting.front().is_some_and(|(at, _)| *at + 6 * SECOND <= now) {
                budget.settle(waiting.pop_front().unwrap().1, 59 * MS);
            }
        }
        for (_, reserved) in waiting {
            budget.settle(reserved, 60 * MS);
        }
        budget.check();
        assert!(budget.all.reserved.is_zero() && !budget.all.used.is_zero(), "{budget:?}");
        budget.pool = MS;
        assert!(budget.within_share(&honest) && !budget.within_share(&slow));
    }

    #[test]
    fn peer_ids_without_end_take_no_places_from_networks() {
        for address in ["/ip4/198.51.100.1/tcp/1", "/ip6/2001:db8:1::1/tcp/1", "/memory/1"] {
            let mut budget = budget();
            for _ in 0..5_000 {
                budget.does(&at(address), MS, Duration::ZERO);
            }
            budget.check();
            assert!(budget.accounts.len() <= 3 + MEMBERS as usize, "{}", budget.accounts.len());
            budget.pool = 100 * MS;
            let newcomer = at("/ip4/203.0.113.1/tcp/1");
            assert!(budget.does(&newcomer, MS, Duration::ZERO), "{address}");
            assert!(budget.within_share(&newcomer));
            assert!(!budget.within_share(&at(address)), "those without an account share one");
        }
    }

    #[test]
    fn a_full_table_closes_the_smallest_accounts_of_the_largest_group() {
        let mut budget = budget();
        let first = "/ip6/2001:db8:1::1/tcp/1";
        let held = budget.reserve(&at(first), MS, false, Duration::ZERO).unwrap();
        // The accounts of one network, which has used more than each of the others.
        for n in 0..2_000_u32 {
            let part = format!("/ip6/2001:db8:1:{:x}::1/tcp/1", (n % 40) << 8);
            budget.charge(&at(&part), MS, Duration::ZERO);
        }
        budget.check();
        assert!(budget.accounts.len() > 1_000, "{}", budget.accounts.len());
        for n in 0..3_000_u32 {
            let ip = std::net::Ipv4Addr::from(n + (1 << 24));
            let work = MS + n * Duration::from_nanos(1);
            budget.charge(&at(&format!("/ip4/{ip}/tcp/1")), work, Duration::ZERO);
            if n % 500 == 0 {
                budget.check();
            }
        }
        budget.check();
        let least = ACCOUNTS - 2 * CLOSED_AT_ONCE;
        assert!(budget.accounts.len() >= least, "{}", budget.accounts.len());
        let (open, closed) = budget.accounts();
        assert!(open == budget.accounts.len() && closed >= 1_000, "{closed} were closed");
        let network = |address: &str| at(address).0[0].unwrap();
        assert!(budget.accounts.contains_key(&network(first)), "it is in use");
        assert!(!budget.accounts.contains_key(&network("/ip4/1.0.0.0/tcp/1")), "the smallest");
        budget.pool = MS;
        let newcomer = "/ip4/203.0.113.1/tcp/1";
        assert!(budget.within_share(&at(newcomer)));
        budget.charge(&at(newcomer), MS, Duration::ZERO);
        assert!(budget.accounts.contains_key(&network(newcomer)));
        budget.settle(held, MS);
        assert!(budget.all.reserved.is_zero());
        budget.check();
    }

    #[test]
    fn a_refused_network_is_forgotten_while_nothing_happens() {
        let (mut budget, address) = (budget(), "/ip4/198.51.100.1/tcp/1");
        let flooder = at(address);
        for n in 0..20_000_u32 {
            budget.does(&flooder, 2 * MS, n * MS);
        }
        let network = Source::of_address(Some(&address.parse().unwrap()));
        assert!(budget.is_far_over(&network, 20 * SECOND - MS));
        assert!(!budget.is_far_over(&network, 80 * SECOND), "{budget:?}");
    }

    #[test]
    fn a_refused_network_comes_back_when_it_has_asked_for_little() {
        let (mut budget, address) = (budget(), "/ip4/198.51.100.1/tcp/1");
        let flooder = at(address);
        let network = Source::of_address(Some(&address.parse().unwrap()));
        let mut now = Duration::ZERO;
        while !budget.is_far_over(&flooder, now) {
            budget.does(&flooder, 2 * MS, now);
            now += MS;
        }
        // A halving of its account is not enough: it would flood for half of the time.
        let refused_for = (0..60).find(|n| !budget.is_far_over(&network, now + *n * SECOND));
        assert!(refused_for.is_some_and(|n| n > 5 && n <= 15), "{refused_for:?}");
    }

    #[test]
    fn a_network_beyond_its_share_waits_and_others_are_read() {
        for address in ["/ip4/198.51.100.1/tcp/1", "/ip6/2001:db8:1::1/tcp/1", "/memory/1"] {
            let mut budget = budget();
            let flood: Vec<_> = (0..1_000).map(|_| at(address)).collect();
            let honest = at("/ip4/198.51.100.2/tcp/1");
            let (mut read, mut spare) = (0, 0);
            for n in 0..20_000_u32 {
                let (now, flooder) = (n * MS / 2, &flood[n as usize % flood.len()]);
                if budget.has_work_for(flooder, now) {
                    budget.charge(flooder, MESSAGE, now);
                    budget.does(flooder, 5 * MS, now);
                    read += 1;
                } else if budget.takes_spare(now) {
                    budget.charge(flooder, MESSAGE, now);
                    spare += 1;
                }
                if n % 20 == 0 {
                    assert!(budget.has_work_for(&honest, now), "{n}: {budget:?}");
                    budget.charge(&honest, MESSAGE, now);
                    assert!(budget.does(&honest, MS, now), "{n}");
                }
                assert!(!budget.is_far_over(&honest, now));
                assert!(!budget.is_far_over(flooder, now), "{n}: {budget:?}");
            }
            // What others leave of ten seconds, and an eighth of them for messages that waited.
            assert!((500..2_000).contains(&read), "{read} of {address}");
            assert!((3_000..5_500).contains(&spare), "{spare} of {address}");
        }
    }

    #[test]
    fn a_crowd_behind_one_address_that_is_not_the_cause_is_read() {
        let mut budget = budget();
        let flooder = at("/ip4/198.51.100.1/tcp/1");
        let relayed: Vec<_> = (0..200).map(|_| at("/memory/1")).collect();
        let mut read = 0;
        for n in 0..4_000_u32 {
            let now = n * MS;
            if budget.has_work_for(&flooder, now) {
                budget.does(&flooder, 5 * MS, now);
            }
            let source = &relayed[n as usize % relayed.len()];
            if budget.has_work_for(source, now) {
                budget.charge(source, MESSAGE, now);
                read += 1;
            }
            assert!(!budget.is_far_over(source, now), "{n}");
        }
        assert!(read > 3_500, "{read}");
    }

    #[test]
    fn if_all_ask_for_too_much_they_are_read_later_and_not_refused() {
        let mut budget = budget();
        let all: Vec<_> = (1..=20).map(|n| at(&format!("/ip4/198.51.100.{n}/tcp/1"))).collect();
        let mut done = 0;
        for n in 0..50_000_u32 {
            let (now, source) = (n * MS / 5, &all[n as usize % all.len()]);
            if budget.has_work_for(source, now) {
                budget.charge(source, MESSAGE, now);
                assert!(budget.does(source, MS / 8, now), "{n}");
                done += 1;
            }
        }
        // Ten seconds, and the pool at first.
        let work = done * (MESSAGE + MS / 8);
        assert!(work > 5_000 * MS && work < 5_500 * MS, "{work:?}");
    }

    #[test]
    fn what_waits_is_not_more_than_an_eighth_of_the_pool_unless_others_have_done_more() {
        let mut budget = budget();
        let [flooder, honest] = ["/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.2/tcp/1"].map(at);
        assert!(budget.does(&honest, MS, Duration::ZERO));
        let mut reserve = |source: &Source| budget.reserve(source, 5 * MS, false, Duration::ZERO);
        let waiting = (0..100).map_while(|_| reserve(&flooder)).count();
        assert_eq!(waiting, 13);
        assert!(reserve(&honest).is_some());
    }

    #[test]
    fn who_sends_much_that_is_refused_is_not_taken_for_a_flooder() {
        let mut budget = budget();
        let [bulk, other] = ["/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.2/tcp/1"].map(at);
        // 400 chunks a second, of 4 ms each, for four seconds.
        for n in 0..1_600_u32 {
            let now = n * 2 * MS + n * MS / 2;
            budget.charge(&bulk, receiving(15_000) + MESSAGE, now);
            budget.does(&bulk, 4 * MS, now);
            budget.charge(&other, MESSAGE, now);
            assert!(!budget.is_far_over(&bulk, now), "{n}: {budget:?}");
        }
    }

    #[test]
    fn in_debt_only_who_has_asked_for_a_multiple_of_the_others_is_disconnected() {
        let mut budget = budget();
        let readers: Vec<_> = (1..=10).map(|n| at(&format!("/ip4/198.51.100.{n}/tcp/1"))).collect();
        for n in 0..3_000_u32 {
            // One reads twice as much as each of the others.
            let reader = &readers[(n as usize % 11).min(9)];
            budget.charge(reader, MS, n * MS);
        }
        let now = 3 * SECOND;
        assert!(budget.unrefused >= budget.capacity());
        assert!(readers.iter().all(|reader| !budget.is_far_over(reader, now)), "{budget:?}");
    }

    #[test]
    fn without_work_for_others_nothing_is_admitted_and_nobody_is_disconnected() {
        let (mut budget, source) = (Budget::new(Duration::ZERO), at("/ip4/198.51.100.1/tcp/1"));
        for n in 0..1_000_u32 {
            let now = n * MS;
            assert!(budget.reserve(&source, Duration::ZERO, false, now).is_none());
            assert!(budget.reserve(&source, MS, false, now).is_none());
            budget.charge(&source, MS, now);
            assert!(!budget.is_far_over(&source, now));
        }
        assert_eq!((budget.pool, budget.debt), (Duration::ZERO, Duration::ZERO));
        budget.check();
    }

    #[test]
    fn those_without_an_ip_address_are_one_network() {
        let relay =
            "/ip4/198.51.100.1/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        let network = |address: &str| at(address).0[0];
        let unknown = Source::new(PeerId::random(), None).0[0];
        assert_eq!(unknown, Some(Party::Site(Site::Unknown)));
        let peer = PeerId::random();
        for address in [
            format!("/p2p/{peer}"),
            "/dns4/example.org/tcp/1".to_owned(),
            format!("{relay}/p2p-circuit/p2p/{peer}"),
            "/memory/1".to_owned(),
        ] {
            assert_eq!(network(&address), unknown, "{address}");
        }
        assert_ne!(network(relay), unknown);
        assert_eq!(network("/dns4/198.51.100.1/tcp/1"), network(relay));
        // Within it, each peer has an account.
        let mut budget = budget();
        let [flooder, honest] = [(); 2].map(|()| at("/memory/1"));
        for n in 0..10_000_u32 {
            for _ in 0..4 {
                budget.does(&flooder, MS, n * MS);
            }
            assert!(n % 20 != 0 || budget.does(&honest, MS, n * MS));
        }
    }

    #[test]
    fn the_number_of_accounts_is_bounded_and_members_are_counted() {
        let mut budget = budget();
        for n in 0..10_000_u32 {
            let ip = std::net::Ipv4Addr::from(n * 7);
            budget.charge(&at(&format!("/ip4/{ip}/tcp/1")), MS, Duration::ZERO);
        }
        assert!(budget.accounts.len() <= ACCOUNTS);
        let networks = budget.accounts.keys().filter(|it| matches!(it, Party::Site(_))).count();
        assert_eq!(budget.all.members as usize, networks);
        let newcomer = at("/ip4/203.0.113.1/tcp/1");
        assert!(!budget.does(&newcomer, MS, Duration::ZERO), "the pool is empty");
        budget.charge(&newcomer, MS, 600 * SECOND);
        assert_eq!((budget.accounts.len(), budget.all.members), (2, 1), "forgotten");
        assert_eq!(Source::of_address(None).0.iter().flatten().count(), 1);
        assert_eq!(Source::new(PeerId::random(), None).0.iter().flatten().count(), 2);
    }
}
