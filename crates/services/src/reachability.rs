//! The smart tags of Go smart records: `connectivity` and `dialable`.
//!
//! | asked | found | if |
//! |---|---|---|
//! | `connectivity(address=A)` | `connected(address=A)` | the service has a connection with the peer that it dialled at A, or a dial of A reaches the peer |
//! | | `notConnected(address=A)` | otherwise |
//! | `dialable(address=A)` | `dialed(address=A)` | a fresh dial of A reaches the peer |
//! | | `notDialable(address=A)` | otherwise: no peer answers in time, or another one does |
//!
//! A is a multiaddress that ends in `/p2p/<peer id>`, as a String or as `multiaddr(String)`.
//!
//! **Invariants.** Only addresses that [`DialPolicy`] allows are dialled. A name is resolved by
//! this node, and its IP addresses are checked in the same way. A check that learns nothing has no
//! finding.
//!
//! **Spec.** Go smart records, `ir/base/reachable.go`, with three differences. In Go `connectivity`
//! accepts any connection with the peer and makes none. In Go an address without a peer is
//! `notDialable`; here it is refused. In Go a service is always reachable for itself; here it
//! refuses.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Either, select},
};
use futures_timer::Delay;
use hashlink::LruCache;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::{
    dialer::{DialHandle, DialOutcome},
    filter::{AddressRefusal, DialPolicy, Host, Target, host_of},
    tag::{Outcome, RequestRefusal, SmartTag},
};
use libp2p_smart_record::{
    Clock, Kind, Node, Predicate, Timestamp,
    rate::{RateLimit, Subnet},
};

/// Most hosts whose rates are remembered: more than are dialled in an hour by default.
const MAX_HOSTS: usize = 4_096;
/// Most future dials of a host that are reserved.
const MAX_RESERVED: u32 = 60;
/// Most IP addresses at which a name is dialled, one after the other.
const MAX_ADDRESSES_OF_NAME: usize = 2;
/// Delay of a check when too many dials are pending.
const BUSY_DELAY: Duration = Duration::from_secs(1);
/// The same for a name, which is resolved again each time: strangers must not be able to have names
/// resolved without end.
const BUSY_DELAY_OF_NAME: Duration = Duration::from_secs(30);

/// Resolver of names, with which a service dials addresses such as `/dns4/…`.
pub trait Resolve: Send + Sync + 'static {
    /// Resolves a name to its IP addresses.
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// A request to check whether the service can connect to a peer at this address, which ends in
/// `/p2p/<peer id>`.
///
/// ```
/// let address = "/ip4/1.2.3.4/tcp/4001/p2p/12D3KooWKRyzVWW6ChFjQjK4miCty85Niy48tpPV95XdKu1BcvMA".parse()?;
/// let request = smart_record_services::connectivity(&address);
/// assert_eq!(request.tag, "connectivity");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connectivity(address: &Multiaddr) -> Predicate {
    about(Question::Connectivity.tag(), address)
}

/// A request to dial an address, which ends in `/p2p/<peer id>`, and to say whether the peer
/// answers.
pub fn dialable(address: &Multiaddr) -> Predicate {
    about(Question::Dialable.tag(), address)
}

fn about(tag: &str, address: &Multiaddr) -> Predicate {
    Predicate::new(tag).with_named("address", address.to_string())
}

/// Which of the two requests it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Connectivity,
    Dialable,
}

impl Question {
    const fn tag(self) -> &'static str {
        match self {
            Self::Connectivity => "connectivity",
            Self::Dialable => "dialable",
        }
    }

    const fn status(self, is_reached: bool) -> &'static str {
        match (self, is_reached) {
            (Self::Connectivity, true) => "connected",
            (Self::Connectivity, false) => "notConnected",
            (Self::Dialable, true) => "dialed",
            (Self::Dialable, false) => "notDialable",
        }
    }
}

/// State that both tags share.
pub(super) struct Reachability {
    policy: DialPolicy,
    local: PeerId,
    dial: DialHandle,
    resolver: Option<Arc<dyn Resolve>>,
    hosts: Mutex<HostRates>,
    clock: Arc<dyn Clock>,
}

/// Rates of dials by host.
struct HostRates {
    limit: RateLimit<Subnet>,
    interval: Duration,
    /// End of the reserved dials of each host over its rate, so that delayed checks are retried
    /// one after the other.
    reserved_until: LruCache<Subnet, Timestamp>,
}

impl HostRates {
    fn new(policy: &DialPolicy) -> Self {
        let interval = policy.host_interval();
        let limit = RateLimit::new(MAX_HOSTS, interval, policy.host_burst());
        Self { limit, interval, reserved_until: LruCache::new(MAX_HOSTS) }
    }

    /// Admits a dial now, or returns the time of a reserved dial.
    fn admit(&mut self, host: Subnet, now: Timestamp) -> Result<(), Timestamp> {
        let Err(open_at) = self.limit.admit(host, now) else {
            return Ok(());
        };
        let after = self.reserved_until.get(&host).map_or(open_at, |at| open_at.max(*at));
        // Beyond this many reservations several checks share a time; by then most requests are
        // gone.
        let at = after.min(open_at.saturating_add(self.interval.saturating_mul(MAX_RESERVED)));
        self.reserved_until.insert(host, at.saturating_add(self.interval));
        Err(at)
    }

    /// Takes back an admitted dial that was not made.
    fn give_back(&mut self, host: Subnet) {
        self.limit.give_back(&host);
    }
}

struct ReachabilityTag {
    kind: Question,
    shared: Arc<Reachability>,
}

impl Reachability {
    pub(super) fn new(
        policy: DialPolicy,
        local: PeerId,
        dial: DialHandle,
        resolver: Option<Arc<dyn Resolve>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let hosts = HostRates::new(&policy);
        Self { policy, local, dial, resolver, hosts: Mutex::new(hosts), clock }
    }

    pub(super) fn tags(self) -> [Box<dyn SmartTag>; 2] {
        let shared = Arc::new(self);
        [Question::Connectivity, Question::Dialable].map(|kind| {
            Box::new(ReachabilityTag { kind, shared: shared.clone() }) as Box<dyn SmartTag>
        })
    }

    fn target(&self, address: &Multiaddr) -> Result<Target, RequestRefusal> {
        let target = self.policy.target(address, self.local, self.resolver.is_some())?;
        if let Host::Ip(ip) = target.host {
            self.check_own(ip)?;
        }
        Ok(target)
    }

    /// Refuses an IP address of the service's own swarm, unless private addresses are allowed.
    fn check_own(&self, ip: IpAddr) -> Result<(), AddressRefusal> {
        let is_own = !self.policy.private_addresses() && self.dial.is_own(ip);
        if is_own { Err(AddressRefusal::OwnHost) } else { Ok(()) }
    }

    /// Dials an address. Returns whether the peer answered, or an outcome if that is not known.
    async fn check(&self, address: &Multiaddr, is_fresh: bool) -> Result<bool, Outcome> {
        let target = self.target(address).map_err(|_| Outcome::Unknown)?;
        let (mut is_known, mut was_busy) = (false, false);
        for ip in self.addresses(&target.host).await? {
            match (self.admit(ip), &target.host) {
                (Ok(()), _) => {}
                (Err(later), Host::Ip(_)) => return Err(later),
                // A name has been resolved, so this counts as a check; otherwise strangers could
                // have names resolved without end.
                (Err(_), Host::Name { .. }) => continue,
            }
            let dial = self.dial.dial(target.peer, target.at(ip), is_fresh);
            match self.in_time(dial).await {
                Some(DialOutcome::Reached) => return Ok(true),
                Some(DialOutcome::Failed) | None => is_known = true,
                Some(DialOutcome::Unknown) => {}
                Some(DialOutcome::Busy) => {
                    self.hosts().give_back(host_of(ip));
                    was_busy = true;
                }
            }
        }
        match (is_known, was_busy, &target.host) {
            (true, ..) => Ok(false),
            (false, true, Host::Ip(_)) => Err(Outcome::Later(BUSY_DELAY)),
            (false, true, Host::Name { .. }) => Err(Outcome::Later(BUSY_DELAY_OF_NAME)),
            (false, false, _) => Err(Outcome::Unknown),
        }
    }

    /// The IP addresses of a host that may be dialled.
    async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, Outcome> {
        let (name, v4, v6) = match host {
            Host::Ip(ip) => return Ok(vec![*ip]),
            Host::Name { name, v4, v6 } => (name, *v4, *v6),
        };
        let Some(resolver) = &self.resolver else {
            return Err(Outcome::Unknown);
        };
        let Some(Ok(addresses)) = self.in_time(resolver.resolve(name)).await else {
            return Err(Outcome::Unknown);
        };
        let may_be = |ip: &IpAddr| {
            let is_of_kind = if ip.is_ipv4() { v4 } else { v6 };
            is_of_kind && self.policy.check_ip(*ip).is_ok() && self.check_own(*ip).is_ok()
        };
        Ok(addresses.into_iter().filter(may_be).take(MAX_ADDRESSES_OF_NAME).collect())
    }

    fn admit(&self, ip: IpAddr) -> Result<(), Outcome> {
        let now = self.clock.now();
        let later = |at: Timestamp| Outcome::Later(at.saturating_since(now));
        self.hosts().admit(host_of(ip), now).map_err(later)
    }

    fn hosts(&self) -> MutexGuard<'_, HostRates> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match select(Box::pin(work), Delay::new(self.policy.timeout())).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}

/// The address in a request: a String, or `multiaddr(String)`.
fn address_of(request: &Predicate) -> Option<Multiaddr> {
    let text = |node: &Node| match &node.kind {
        Kind::String(text) => text.parse().ok(),
        _ => None,
    };
    let node = request.named.get("address")?;
    match &node.kind {
        Kind::Predicate(inner) if inner.tag == "multiaddr" => {
            inner.positional.iter().next().and_then(text)
        }
        _ => text(node),
    }
}

impl SmartTag for ReachabilityTag {
    fn tag(&self) -> &str {
        self.kind.tag()
    }

    fn request(&self, asked: &Predicate) -> Result<Predicate, RequestRefusal> {
        let address = address_of(asked).ok_or(RequestRefusal::Malformed)?;
        self.shared.target(&address)?;
        Ok(about(self.kind.tag(), &address))
    }

    fn check(&self, request: &Predicate) -> BoxFuture<'static, Outcome> {
        let (kind, shared, address) = (self.kind, self.shared.clone(), address_of(request));
        async move {
            let Some(address) = address else {
                return Outcome::Unknown;
            };
            match shared.check(&address, kind == Question::Dialable).await {
                Ok(is_reached) => Outcome::Found(about(kind.status(is_reached), &address)),
                Err(outcome) => outcome,
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialer::Dialer;

    struct Names;

    impl Resolve for Names {
        fn resolve(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            async { Ok(vec![IpAddr::from([1, 2, 3, 4])]) }.boxed()
        }
    }

    #[test]
    fn a_dial_that_the_busy_dialer_refuses_is_not_charged_to_the_host() {
        let (mut dialer, dial) = Dialer::new(0);
        let (policy, clock) = (DialPolicy::default(), Arc::new(libp2p_smart_record::SystemClock));
        let names = Some(Arc::new(Names) as Arc<dyn Resolve>);
        let reachability = Reachability::new(policy, PeerId::random(), dial, names, clock);
        let check = |host: &str| {
            let address = format!("/{host}/tcp/4001/p2p/{}", PeerId::random());
            let address: Multiaddr = address.parse().unwrap();
            let reachability = &reachability;
            async move { reachability.check(&address, true).await }
        };
        let checks = async {
            for _ in 0..20 {
                assert_eq!(check("ip4/1.2.3.4").await, Err(Outcome::Later(BUSY_DELAY)));
                assert_eq!(check("dns4/a.test").await, Err(Outcome::Later(BUSY_DELAY_OF_NAME)));
            }
        };
        let work = std::future::poll_fn(|cx| {
            // The dialer refuses all dials, so the swarm has nothing to do.
            assert!(libp2p_swarm::NetworkBehaviour::poll(&mut dialer, cx).is_pending());
            std::task::Poll::<()>::Pending
        });
        futures::executor::block_on(select(Box::pin(checks), work));
    }

    #[test]
    fn the_services_own_host_is_not_dialled_by_address_or_by_name() {
        let own = "/ip4/1.2.3.4/tcp/4001".parse().unwrap();
        let with = |policy: DialPolicy| {
            let (mut dialer, dial) = Dialer::new(1);
            let confirmed = libp2p_swarm::behaviour::ExternalAddrConfirmed { addr: &own };
            let event = libp2p_swarm::FromSwarm::ExternalAddrConfirmed(confirmed);
            libp2p_swarm::NetworkBehaviour::on_swarm_event(&mut dialer, event);
            let clock = Arc::new(libp2p_smart_record::SystemClock);
            Reachability::new(policy, PeerId::random(), dial, Some(Arc::new(Names)), clock)
        };
        let at = |ip: &str| format!("/ip4/{ip}/tcp/5001/p2p/{}", PeerId::random()).parse().unwrap();
        let name = Host::Name { name: "a.test".to_owned(), v4: true, v6: true };
        let strict = with(DialPolicy::default());
        let refusal = |ip: &str| strict.target(&at(ip)).err();
        assert_eq!(refusal("1.2.3.4"), Some(RequestRefusal::Address(AddressRefusal::OwnHost)));
        assert_eq!(refusal("1.2.3.5"), None);
        let resolved = futures::executor::block_on(strict.addresses(&name));
        assert_eq!(resolved, Ok(Vec::new()));
        let open = with(DialPolicy::default().with_private_addresses(true));
        assert!(open.target(&at("1.2.3.4")).is_ok());
        assert_eq!(futures::executor::block_on(open.addresses(&name)).unwrap().len(), 1);
    }

    #[test]
    fn delayed_dials_of_a_host_are_spread_over_time() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let minutes = |n: u64| now.saturating_add(Duration::from_secs(60 * n));
        let mut hosts = HostRates::new(&DialPolicy::default());
        let host = |ip: &str| host_of(ip.parse().unwrap());
        for _ in 0..4 {
            assert_eq!(hosts.admit(host("1.2.3.4"), now), Ok(()));
        }
        for n in 1..=50 {
            assert_eq!(hosts.admit(host("1.2.3.4"), now), Err(minutes(n)));
        }
        for n in 1..=50 {
            assert_eq!(hosts.admit(host("1.2.3.4"), minutes(n)), Ok(()));
        }
        assert_eq!(hosts.admit(host("1.2.3.5"), now), Ok(()), "another host");
    }
}
