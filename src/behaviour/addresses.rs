//! Which addresses of a peer stay in the routing table.
//!
//! What is in the routing table goes into each reply, beside the record: with some eight addresses of each of 20 peers a
//! slice does not fit into Kademlia's packet any more, and whoever asked finds nothing. A host with a few networks has as many,
//! and a peer may claim any number.
//!
//! **Invariants.** Those that are kept are no more than [`MAX_ADDRESSES`], and so long all together that 20 peers of them
//! leave room for a slice of the default size. What nobody elsewhere can reach is not passed on: loopback and link-local
//! addresses stay only of peers that were met there.
//!
//! **Spec.** `docs/design.md`, section "What libp2p-kad does with a store".

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use libp2p_core::{Multiaddr, multiaddr::Protocol};
use libp2p_identity::PeerId;
use libp2p_swarm::FromSwarm;

use super::env::Env;

/// How many addresses of a peer are kept: one for each of a few ways to it. A guess.
pub(super) const MAX_ADDRESSES: usize = 3;
/// How many bytes they may have all together: of 16 KiB, 8 KiB are a slice and 600 bytes the key, twice; a twentieth of the rest,
/// without the peer id.
const MAX_BYTES: usize = 330;
/// What an address has around it in a reply.
const FRAME_BYTES: usize = 3;

/// Where the peers are with whom we are connected.
#[derive(Debug, Default)]
pub(super) struct Remotes(HashMap<PeerId, Multiaddr>);

impl Remotes {
    pub(super) fn on_swarm_event(&mut self, event: &FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let remote = established.endpoint.get_remote_address();
                // Whoever has dialled us need not listen there.
                if established.endpoint.is_dialer() || !self.0.contains_key(&established.peer_id) {
                    self.0.insert(established.peer_id, remote.clone());
                }
            }
            FromSwarm::ConnectionClosed(closed) if closed.remaining_established == 0 => {
                self.0.remove(&closed.peer_id);
            }
            _ => {}
        }
    }

    /// Takes out of the routing table what is too much there of a peer's addresses.
    pub(super) fn trim(&self, env: &mut Env, peer: PeerId) {
        let Some(bucket) = env.kad.kbucket(peer) else {
            return;
        };
        let entry = bucket.iter().find(|entry| *entry.node.key.preimage() == peer);
        let addresses = entry.iter().flat_map(|entry| entry.node.value.iter());
        for address in surplus(addresses, self.0.get(&peer)) {
            // With its last one the peer goes, too.
            env.kad.remove_address(&peer, &address);
        }
    }
}

/// From where an address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Everywhere,
    Site,
    Link,
    Host,
    Nowhere,
}

impl Reach {
    fn of(address: &Multiaddr) -> Self {
        let ip = match address.iter().next() {
            Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
            Some(Protocol::Ip6(ip)) => IpAddr::V6(ip).to_canonical(),
            // A name, or a transport of the user's.
            Some(_) => return Self::Everywhere,
            None => return Self::Nowhere,
        };
        let (is_link, is_site) = match ip {
            IpAddr::V4(ip) => {
                let shared = matches!(ip.octets(), [100, 64..=127, _, _]);
                (ip.is_link_local(), ip.is_private() || shared)
            }
            IpAddr::V6(ip) => (ip.is_unicast_link_local(), Ipv6Addr::is_unique_local(&ip)),
        };
        match ip {
            ip if ip.is_unspecified() || ip.is_multicast() => Self::Nowhere,
            ip if ip.is_loopback() => Self::Host,
            _ if is_link => Self::Link,
            _ if is_site => Self::Site,
            _ => Self::Everywhere,
        }
    }

    /// Whether it means to others what it means to those who have met the peer at `remote`.
    fn is_shared(self, remote: Option<Self>) -> bool {
        match self {
            Self::Everywhere | Self::Site => true,
            Self::Link | Self::Host => remote.is_none_or(|remote| remote >= self),
            Self::Nowhere => false,
        }
    }
}

/// Those of a peer's addresses that are not to be kept.
fn surplus<'a>(
    addresses: impl IntoIterator<Item = &'a Multiaddr>,
    remote: Option<&Multiaddr>,
) -> Vec<Multiaddr> {
    let without_peer = |address: &Multiaddr| -> Multiaddr {
        address.iter().take_while(|part| !matches!(part, Protocol::P2p(_))).collect()
    };
    let (met, host) = (remote.map(without_peer), remote.and_then(|it| it.iter().next()));
    let reach = remote.map(Reach::of);
    // The better first: by which we are connected, on the machine that we have met, of the widest reach.
    let mut ranked: Vec<_> = addresses
        .into_iter()
        .map(|address| {
            let is_met = met.as_ref().is_some_and(|met| *met == without_peer(address));
            let is_same = host.is_some() && address.iter().next() == host;
            ((!is_met, !is_same, Reach::of(address)), address)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let (mut kept, mut bytes) = (0_usize, 0_usize);
    let mut surplus = Vec::new();
    for ((_, _, of), address) in ranked {
        let with = bytes.saturating_add(address.len()).saturating_add(FRAME_BYTES);
        if of.is_shared(reach) && kept < MAX_ADDRESSES && with <= MAX_BYTES {
            (kept, bytes) = (kept.saturating_add(1), with);
        } else {
            surplus.push(address.clone());
        }
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(addresses: &[&str], remote: Option<&str>) -> Vec<String> {
        let addresses: Vec<Multiaddr> = addresses.iter().map(|it| it.parse().unwrap()).collect();
        let remote = remote.map(|it| it.parse().unwrap());
        let surplus = surplus(&addresses, remote.as_ref());
        let kept = addresses.iter().filter(|address| !surplus.contains(address));
        kept.map(ToString::to_string).collect()
    }

    #[test]
    fn the_address_that_works_stays_and_then_those_of_the_widest_reach() {
        let all = [
            "/ip4/172.17.0.1/tcp/4001",
            "/ip4/10.0.0.2/tcp/4001",
            "/ip4/192.168.1.2/tcp/4001",
            "/ip4/1.2.3.4/tcp/4001",
            "/ip6/2001:4860::1/tcp/4001",
        ];
        assert_eq!(
            kept(&all, Some("/ip4/192.168.1.2/tcp/4001")),
            [all[2], all[3], all[4]],
            "by which we are connected"
        );
        assert_eq!(kept(&all, Some("/ip4/10.0.0.2/tcp/50000")), [all[1], all[3], all[4]]);
        assert_eq!(kept(&all, None), [all[0], all[3], all[4]]);
        assert_eq!(kept(&all[..3], Some("/ip4/1.2.3.4/tcp/1")), all[..3], "few enough");
    }

    #[test]
    fn loopback_and_link_local_addresses_stay_only_of_peers_met_there() {
        let all = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip4/0.0.0.0/tcp/1",
            "/dns4/example.org/tcp/1",
        ];
        assert_eq!(kept(&all, Some("/ip4/1.2.3.4/tcp/1")), [all[4]]);
        assert_eq!(kept(&all, Some("/ip4/10.0.0.2/tcp/1")), [all[4]]);
        assert_eq!(kept(&all, Some("/ip6/fe80::2/tcp/1")), [all[2], all[4]]);
        assert_eq!(kept(&all, Some("/ip4/127.0.0.1/tcp/9")), [all[0], all[2], all[4]]);
    }

    #[test]
    fn what_is_too_long_goes_and_what_remains_leaves_room_for_a_slice() {
        let peer = PeerId::random();
        let name = format!("/dns4/{}/tcp/1/p2p/{peer}", "x".repeat(63));
        let long = format!("/dns4/{}/tcp/1/p2p/{peer}", "x".repeat(253));
        let longer = format!("/dns4/{}/ws", vec!["x".repeat(60); 10].join("."));
        let all = [&*longer, &*long, &*name];
        assert_eq!(kept(&all, None), [long.as_str()]);
        assert_eq!(kept(&all[..1], None), Vec::<String>::new());
        // A packet is 16 KiB; a slice is half of it; the key is there twice, 20 peers with their ids.
        let peers = 20 * (MAX_BYTES + 50);
        assert!(8 * 1_024 + 2 * 256 + peers + 64 <= 16 * 1_024);
    }
}
