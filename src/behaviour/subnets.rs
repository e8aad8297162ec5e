//! The subnets of peers. One subnet gets only a share of a bucket, and of the peers closest to a
//! key.
//!
//! **Invariants.** Pure. The subnet of a connected peer is the subnet of its connection, whatever
//! the peer claims. Each address that is not exempt has a subnet: all names share one, and all
//! relayed addresses share another. Private addresses are exempt, unless the settings say
//! otherwise.

use std::collections::BTreeSet;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use smart_record_lookup::{Named, Subnet, SubnetShares};

use super::{config::BehaviourConfig, remotes::Remotes};
use crate::{
    addresses::{ip_of, is_private, is_relayed},
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

/// A peer of the routing table, or one that is to be.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) peer: PeerId,
    pub(super) subnets: BTreeSet<Subnet>,
    pub(super) is_connected: bool,
}

impl Subnets {
    pub(super) fn new(config: &BehaviourConfig) -> Self {
        Self { share: config.subnet_share(), exempts_private: config.exempts_private_subnets() }
    }

    /// The subnet of an address; `None` if it is exempt.
    pub(super) fn of(&self, address: &Multiaddr) -> Option<Subnet> {
        let [v4, v6] = BITS;
        match ip_of(address) {
            // Names of the own host or link are private, circuits through them are not.
            _ if self.exempts_private && !is_relayed(address) && is_private(address) => None,
            Some(ip) => Some(Subnet::new(ip, v4, v6)),
            None if is_relayed(address) => Some(Subnet::RELAYED),
            None => Some(Subnet::NAMED),
        }
    }

    /// The subnet of a connected peer, or those of the addresses of another. Names and circuits
    /// count where no IP address says more.
    pub(super) fn of_peer<'a>(
        &self,
        peer: &PeerId,
        remotes: &Remotes,
        addresses: impl IntoIterator<Item = &'a Multiaddr>,
    ) -> BTreeSet<Subnet> {
        if let Some(remote) = remotes.of(peer) {
            return self.of(remote).into_iter().collect();
        }
        let mut subnets: BTreeSet<_> =
            addresses.into_iter().filter_map(|address| self.of(address)).collect();
        if subnets.iter().any(Subnet::is_of_ips) {
            subnets.retain(Subnet::is_of_ips);
        }
        subnets
    }

    /// The peers that an answer names.
    pub(super) fn named<'a>(
        &'a self,
        closer: &'a [Closer],
        remotes: &'a Remotes,
    ) -> impl Iterator<Item = Named> + 'a {
        closer
            .iter()
            .map(|Closer { peer, addresses }| (*peer, self.of_peer(peer, remotes, addresses)))
    }

    /// The peer to remove from a full bucket so that a newcomer finds room, if that is within the
    /// share of its subnets: one beyond the share of its own, if possible a disconnected one, and
    /// of several the last.
    pub(super) fn surplus(&self, bucket: &[Place], newcomer: &Place) -> Option<PeerId> {
        let mut shares = SubnetShares::new(self.share);
        // Connected peers come first: peers that others only name take no slots from them.
        let of = |is_connected| move |place: &&Place| place.is_connected == is_connected;
        let all = || bucket.iter().chain([newcomer]);
        let by_rank = all().filter(of(true)).chain(all().filter(of(false)));
        let beyond: Vec<_> = by_rank.filter(|place| !shares.take(&place.subnets)).collect();
        if beyond.iter().any(|place| place.peer == newcomer.peer) {
            return None;
        }
        beyond.last().map(|place| place.peer)
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
        assert_eq!(of("/dns4/1.2.3.4/tcp/1"), of("/ip4/1.2.3.4/tcp/1"));
        assert_eq!(of("/dns/localhost/tcp/1"), None);
    }

    #[test]
    fn all_names_share_a_subnet_and_all_relayed_addresses() {
        let id = PeerId::random();
        for exempts in [true, false] {
            let config = BehaviourConfig::default().with_exempts_private_subnets(exempts);
            let subnets = Subnets::new(&config);
            let of = |address: &str| subnets.of(&at(&address.replace("ID", &id.to_string())));
            for name in ["/dns4/example.org/tcp/1", "/dnsaddr/example.org", "/dns/a.b/tcp/1/ws"] {
                assert_eq!(of(name), Some(Subnet::NAMED), "{name}");
            }
            for relayed in [
                "/p2p/ID",
                "/ip4/1.2.3.4/tcp/1/p2p/ID/p2p-circuit",
                "/ip4/10.0.0.1/tcp/1/p2p/ID/p2p-circuit/p2p/ID",
                "/dns4/example.org/tcp/1/p2p/ID/p2p-circuit",
            ] {
                assert_eq!(of(relayed), Some(Subnet::RELAYED), "{relayed}");
            }
        }
    }

    #[test]
    fn a_peer_with_several_addresses_is_in_the_subnet_of_each_that_is_not_exempt() {
        let subnets = Subnets::new(&BehaviourConfig::default());
        let of = |addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|address| at(address)).collect();
            subnets.of_peer(&PeerId::random(), &Remotes::default(), &addresses)
        };
        let public = "/ip4/1.2.3.4/tcp/1";
        let one = of(&[public]);
        assert_eq!(one.len(), 1);
        assert_eq!(of(&["/ip4/192.168.1.2/tcp/1", public]), one);
        assert_eq!(of(&["/dns4/example.org/tcp/1", public]), one, "the address says more");
        let dual = of(&[public, "/ip6/2a00:1:2::1/tcp/1"]);
        assert!(dual.len() == 2 && dual.is_superset(&one));
        assert_eq!(of(&["/dns4/example.org/tcp/1"]), [Subnet::NAMED].into());
        assert_eq!(of(&["/ip4/192.168.1.2/tcp/1"]), [].into());
    }

    fn places<const N: usize>(of: [(&[u8], bool); N]) -> Vec<Place> {
        let subnet = |n: &u8| Subnet::new([198, 51, *n, 0].into(), 24, 48);
        let place = |(subnets, is_connected): (&[u8], bool)| Place {
            peer: PeerId::random(),
            subnets: subnets.iter().map(subnet).collect(),
            is_connected,
        };
        of.map(place).into()
    }

    #[test]
    fn a_newcomer_within_its_share_displaces_surplus_and_surplus_nobody() {
        let subnets = Subnets::new(&BehaviourConfig::default());
        let surplus = |bucket: &[Place], newcomer: &[u8]| {
            let newcomer = &places([(newcomer, true)])[0];
            let found = subnets.surplus(bucket, newcomer)?;
            bucket.iter().position(|place| place.peer == found)
        };
        let full = places([(&[1], true), (&[1], true), (&[2], true), (&[1], true), (&[], true)]);
        assert_eq!(surplus(&full, &[3]), Some(3));
        assert_eq!(surplus(&full, &[2]), Some(3));
        assert_eq!(surplus(&full, &[]), Some(3));
        assert_eq!(surplus(&full, &[1]), None);
        assert_eq!(surplus(&full, &[3, 1]), None, "one of its subnets is over");
        let fair = places([(&[1], true), (&[1], true), (&[2], true), (&[2], true), (&[], true)]);
        assert_eq!(surplus(&fair, &[3]), None);
    }

    #[test]
    fn disconnected_peers_leave_first_and_take_no_places_by_their_claims() {
        let subnets = Subnets::new(&BehaviourConfig::default());
        let newcomer = &places([(&[9], true)])[0];
        let mixed = places([(&[1], false), (&[1], true), (&[1], true), (&[1], true)]);
        assert_eq!(subnets.surplus(&mixed, newcomer), Some(mixed[0].peer));
        let claims = places([(&[5, 1], false), (&[6, 1], false), (&[1], true), (&[1], true)]);
        assert_eq!(subnets.surplus(&claims, newcomer), Some(claims[1].peer));
    }

    #[test]
    fn a_share_of_0_is_one_of_1() {
        let subnets = Subnets::new(&BehaviourConfig::default().with_subnet_share(0));
        let bucket = places([(&[1], true), (&[1], true), (&[2], true)]);
        let [one, three] = [1, 3].map(|n| places([(&[n], true)]).remove(0));
        assert_eq!(subnets.surplus(&bucket, &three), Some(bucket[1].peer));
        assert_eq!(subnets.surplus(&bucket, &one), None);
    }
}
