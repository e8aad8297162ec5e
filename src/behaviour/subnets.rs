//! The subnets of peers. One subnet takes only a share of a bucket, and of the peers closest to a
//! key.
//!
//! **Invariants.** Pure. The subnet of a connected peer is that of its connection, whatever it
//! claims. Peers of private subnets have none, unless the settings say otherwise.

use std::collections::HashMap;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use smart_record_lookup::Subnet;

use super::{config::BehaviourConfig, remotes::Remotes};
use crate::{
    addresses::{ip_of, is_private},
    outbound::Closer,
};

/// Bits of an IPv4 and of an IPv6 address that peers of one subnet share: the smallest part of
/// either that others are told the way to.
const BITS: [u32; 2] = [24, 48];

/// The rules by which peers share a subnet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subnets {
    /// Number of peers of one subnet.
    pub(super) share: usize,
    exempts_private: bool,
}

impl Subnets {
    pub(super) fn new(config: &BehaviourConfig) -> Self {
        Self { share: config.subnet_share(), exempts_private: config.exempts_private_subnets() }
    }

    /// The subnet of an address.
    pub(super) fn of(&self, address: &Multiaddr) -> Option<Subnet> {
        if self.exempts_private && is_private(address) {
            return None;
        }
        let [v4, v6] = BITS;
        Some(Subnet::new(ip_of(address)?, v4, v6))
    }

    /// The subnet of a peer with these addresses; `None` also if they are in several.
    pub(super) fn of_peer<'a>(
        &self,
        peer: &PeerId,
        remotes: &Remotes,
        addresses: impl IntoIterator<Item = &'a Multiaddr>,
    ) -> Option<Subnet> {
        if let Some(remote) = remotes.of(peer) {
            return self.of(remote);
        }
        let mut subnets = addresses.into_iter().map(|address| self.of(address));
        let first = subnets.next()?;
        subnets.all(|subnet| subnet == first).then_some(first).flatten()
    }

    /// The peers that an answer names.
    pub(super) fn named<'a>(
        &'a self,
        closer: &'a [Closer],
        remotes: &'a Remotes,
    ) -> impl Iterator<Item = (PeerId, Option<Subnet>)> + 'a {
        closer
            .iter()
            .map(|Closer { peer, addresses }| (*peer, self.of_peer(peer, remotes, addresses)))
    }

    /// The peer to remove from a full bucket so that one of this subnet finds room, if it is within
    /// the share of its subnet: the last one beyond the share of another.
    pub(super) fn surplus(
        &self,
        bucket: &[(PeerId, Option<Subnet>)],
        newcomer: Option<Subnet>,
    ) -> Option<PeerId> {
        let mut counts = HashMap::<Subnet, usize>::new();
        for subnet in bucket.iter().filter_map(|(_, subnet)| *subnet) {
            let count = counts.entry(subnet).or_default();
            *count = count.saturating_add(1);
        }
        let is_over = |subnet: &Subnet, more: usize| {
            counts.get(subnet).is_some_and(|count| count.saturating_add(more) > self.share)
        };
        if newcomer.is_some_and(|subnet| is_over(&subnet, 1)) {
            return None;
        }
        let is_beyond = |subnet: &Option<Subnet>| subnet.is_some_and(|it| is_over(&it, 0));
        bucket.iter().rfind(|(_, subnet)| is_beyond(subnet)).map(|(peer, _)| *peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Multiaddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_subnet_is_24_bits_of_ipv4_and_48_of_ipv6_and_private_ones_are_exempt() {
        let subnets = Subnets::new(&BehaviourConfig::default());
        let of = |address: &str| subnets.of(&at(address));
        assert_eq!(of("/ip4/1.2.3.4/tcp/1"), of("/ip4/1.2.3.5/udp/2/quic-v1"));
        assert_ne!(of("/ip4/1.2.3.4/tcp/1"), of("/ip4/1.2.4.4/tcp/1"));
        assert_eq!(of("/ip6/2a00:1:2:3::1/tcp/1"), of("/ip6/2a00:1:2:4::1/tcp/1"));
        assert_ne!(of("/ip6/2a00:1:2::1/tcp/1"), of("/ip6/2a00:1:3::1/tcp/1"));
        assert_eq!(of("/ip4/1.2.3.4/tcp/1"), of("/ip6/::ffff:1.2.3.4/tcp/1"));
        for private in ["/ip4/127.0.0.1/tcp/1", "/ip4/10.1.2.3/tcp/1", "/ip6/fd00::1/tcp/1"] {
            assert_eq!(of(private), None);
            let all = BehaviourConfig::default().with_exempts_private_subnets(false);
            assert!(Subnets::new(&all).of(&at(private)).is_some());
        }
        assert_eq!(of("/dns4/example.org/tcp/1"), None);
    }

    #[test]
    fn a_newcomer_within_its_share_displaces_surplus_and_surplus_nobody() {
        let subnets = Subnets::new(&BehaviourConfig::default());
        let peers: Vec<_> = (0..5).map(|_| PeerId::random()).collect();
        let subnet = |n: u8| Subnet::new([198, 51, n, 0].into(), 24, 48);
        let bucket = |of: [Option<u8>; 5]| -> Vec<_> {
            let of = of.map(|n| n.map(subnet));
            peers.iter().copied().zip(of).collect()
        };
        let full = bucket([Some(1), Some(1), Some(2), Some(1), None]);
        assert_eq!(subnets.surplus(&full, Some(subnet(3))), Some(peers[3]));
        assert_eq!(subnets.surplus(&full, Some(subnet(2))), Some(peers[3]));
        assert_eq!(subnets.surplus(&full, None), Some(peers[3]));
        assert_eq!(subnets.surplus(&full, Some(subnet(1))), None);
        let fair = bucket([Some(1), Some(1), Some(2), Some(2), None]);
        assert_eq!(subnets.surplus(&fair, Some(subnet(3))), None);
    }
}
