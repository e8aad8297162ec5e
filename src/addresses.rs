//! Selection of the peers' addresses to keep.
//!
//! A host with several networks has many addresses, and a peer may claim any number of them.
//! Addresses in the routing table take room in each reply, beside the record: with some eight
//! addresses for each of 20 peers, a slice no longer fits into Kademlia's packet, and the reader
//! gets nothing. Unreachable addresses in an answer cost failed dials.
//!
//! **Invariants.** At most [`MAX_ADDRESSES`] addresses of a peer are kept, short enough in total
//! that those of 20 peers leave room for a slice of the default size. Addresses that other hosts
//! cannot reach are not kept: loopback and link-local addresses stay only for peers that were met
//! there, or were named by a peer met there.
//!
//! **Spec.** `docs/design.md`, section "What libp2p-kad does with a store".

use std::net::{IpAddr, Ipv6Addr};

use libp2p_core::{Multiaddr, multiaddr::Protocol};

/// Maximum number of addresses kept per peer: one for each of a few paths to it. A guess.
pub(crate) const MAX_ADDRESSES: usize = 3;
/// Maximum total size of a peer's addresses: a twentieth of what a packet of 16 KiB has left beside
/// a slice of 8 KiB and twice a key of up to 300 bytes, without the peer id.
pub(crate) const MAX_BYTES: usize = 330;
/// Encoding overhead of an address in a reply.
const FRAME_BYTES: usize = 3;

/// Scope from which an address can be reached.
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
        let mut parts = address.iter().skip_while(|part| matches!(part, Protocol::Ip6zone(_)));
        let host = parts.next();
        let is_dialable = match (parts.next(), parts.next()) {
            (Some(Protocol::Tcp(port)), _) => port != 0,
            // Every transport over UDP has a name of its own.
            (Some(Protocol::Udp(port)), over) => port != 0 && !is_end(over.as_ref()),
            (transport, _) => !is_end(transport.as_ref()),
        };
        match host {
            Some(Protocol::Ip4(ip)) if is_dialable => Self::of_ip(IpAddr::V4(ip)),
            Some(Protocol::Ip6(ip)) if is_dialable => Self::of_ip(IpAddr::V6(ip)),
            Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name))
                if is_dialable =>
            {
                Self::of_name(&name)
            }
            Some(Protocol::Dnsaddr(name)) => Self::of_name(&name),
            Some(Protocol::Unix(_) | Protocol::Memory(_)) => Self::Host,
            // A host without a transport, or a peer without a host, cannot be dialled.
            None
            | Some(
                Protocol::Ip4(_)
                | Protocol::Ip6(_)
                | Protocol::Dns(_)
                | Protocol::Dns4(_)
                | Protocol::Dns6(_)
                | Protocol::P2p(_)
                | Protocol::P2pCircuit,
            ) => Self::Nowhere,
            // Transports of the application.
            Some(_) => Self::Everywhere,
        }
    }

    fn of_ip(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let (is_link, is_site, is_nowhere) = match ip {
            IpAddr::V4(ip) => {
                let shared = matches!(ip.octets(), [100, 64..=127, _, _]);
                // This network, reserved, broadcast.
                let special = matches!(ip.octets(), [0 | 240..=255, ..]);
                (ip.is_link_local(), ip.is_private() || shared, special)
            }
            IpAddr::V6(ip) => (ip.is_unicast_link_local(), Ipv6Addr::is_unique_local(&ip), false),
        };
        match ip {
            ip if is_nowhere || ip.is_unspecified() || ip.is_multicast() => Self::Nowhere,
            ip if ip.is_loopback() => Self::Host,
            _ if is_link => Self::Link,
            _ if is_site => Self::Site,
            _ => Self::Everywhere,
        }
    }

    /// Names of the host itself ([RFC 6761](https://www.rfc-editor.org/rfc/rfc6761#section-6.3))
    /// and of its link ([RFC 6762](https://www.rfc-editor.org/rfc/rfc6762#section-3)).
    fn of_name(name: &str) -> Self {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match (name.parse(), name.rsplit('.').next()) {
            (Ok(ip), _) => Self::of_ip(ip),
            (_, None | Some("")) => Self::Nowhere,
            (_, Some("localhost")) => Self::Host,
            (_, Some("local")) => Self::Link,
            _ => Self::Everywhere,
        }
    }

    /// Whether other nodes can use the address as those that met the peer at `remote` can.
    fn is_shared(self, remote: Option<Self>) -> bool {
        match self {
            Self::Everywhere | Self::Site => true,
            Self::Link | Self::Host => remote.is_none_or(|remote| remote >= self),
            Self::Nowhere => false,
        }
    }
}

/// Whether nothing follows that a transport dials.
fn is_end(part: Option<&Protocol<'_>>) -> bool {
    matches!(part, None | Some(Protocol::P2p(_) | Protocol::P2pCircuit))
}

/// Selects the best of a peer's addresses, best first.
///
/// `remote` is the address at which the peer, or the peer that named the addresses, was met.
pub(crate) fn best(
    addresses: impl IntoIterator<Item = Multiaddr>,
    remote: Option<&Multiaddr>,
) -> Vec<Multiaddr> {
    let (met, host) = (remote.map(without_peer), remote.and_then(|it| it.iter().next()));
    let reach = remote.map(Reach::of);
    // Best first: the address of the connection, then the same host, then the widest reach.
    let mut ranked: Vec<_> = addresses
        .into_iter()
        .map(|address| {
            let is_met = met.as_ref().is_some_and(|met| *met == without_peer(&address));
            let is_same = host.is_some() && address.iter().next() == host;
            ((!is_met, !is_same, Reach::of(&address)), address)
        })
        .filter(|((_, _, of), _)| of.is_shared(reach))
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut bytes = 0_usize;
    let fits = |address: &Multiaddr| {
        let with = bytes.saturating_add(address.len()).saturating_add(FRAME_BYTES);
        let fits = with <= MAX_BYTES;
        if fits {
            bytes = with;
        }
        fits
    };
    ranked.into_iter().map(|(_, address)| address).filter(fits).take(MAX_ADDRESSES).collect()
}

/// The IP address of the host, be it written as a name. `None` for a name, and for a relayed
/// address, whose host is the relay.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    if is_relayed(address) {
        return None;
    }
    match address.iter().find(|part| !matches!(part, Protocol::Ip6zone(_)))? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
            name.strip_suffix('.').unwrap_or(&name).parse().ok()
        }
        _ => None,
    }
}

/// Whether an address is that of a circuit through a relay. The remote address of an inbound one
/// has no host.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), None | Some(Protocol::P2p(_)))
        || address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

/// Whether an address is not one of the Internet: loopback, private or link-local.
pub(crate) fn is_private(address: &Multiaddr) -> bool {
    matches!(Reach::of(address), Reach::Site | Reach::Link | Reach::Host)
}

/// Returns the address without a trailing peer id.
pub(crate) fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;

    fn kept(addresses: &[&str], remote: Option<&str>) -> Vec<String> {
        let addresses: Vec<Multiaddr> = addresses.iter().map(|it| it.parse().unwrap()).collect();
        let remote = remote.map(|it| it.parse().unwrap());
        let best = best(addresses.clone(), remote.as_ref());
        let kept = addresses.iter().filter(|address| best.contains(address));
        kept.map(ToString::to_string).collect()
    }

    #[test]
    fn the_address_of_the_connection_is_preferred_then_the_widest_reach() {
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
            "the address of the connection"
        );
        assert_eq!(kept(&all, Some("/ip4/10.0.0.2/tcp/50000")), [all[1], all[3], all[4]]);
        assert_eq!(kept(&all, None), [all[0], all[3], all[4]]);
        assert_eq!(
            kept(&all[..3], Some("/ip4/1.2.3.4/tcp/1")),
            all[..3],
            "no more than the maximum"
        );
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
    fn case_17_an_address_that_cannot_be_dialled_takes_no_place() {
        let id = format!("/p2p/{}", PeerId::random());
        let dialable = ["/ip4/10.0.0.2/tcp/4001", "/memory/1", "/dnsaddr/example.org"];
        for undialable in [
            vec!["/ip4/8.8.8.8", "/ip4/8.8.4.4", "/ip4/1.1.1.1"],
            vec!["/ip6/2001:4860::1", "/dns4/example.org", "/ip4/1.1.1.1X", "X"],
            vec!["/ip4/1.2.3.4/tcp/0", "/ip4/1.2.3.4/udp/0/quic-v1", "/dns/example.org/tcp/0"],
            vec!["/ip4/1.2.3.4/udp/4001", "/ip4/1.2.3.4/udp/4001X", "/ip6/2001:4860::1/udp/1"],
            vec!["/ip4/1.2.3.4/p2p-circuit", "X/p2p-circuit", "X/p2p-circuitX", "/p2p-circuit"],
            vec!["/ip4/0.1.2.3/tcp/1", "/ip4/255.255.255.255/tcp/1", "/ip4/224.0.0.1/tcp/1"],
            vec!["/ip6/ff02::1/tcp/1", "/ip6/::/tcp/1", "/ip4/240.0.0.1/udp/1/quic-v1"],
            vec!["/dns4/0.0.0.0/tcp/1", "/dns/./tcp/1"],
        ] {
            let undialable: Vec<_> = undialable.iter().map(|it| it.replace('X', &id)).collect();
            let all: Vec<_> = undialable.iter().map(String::as_str).chain(dialable).collect();
            assert_eq!(kept(&all, None), dialable, "{undialable:?}");
        }
        let relayed = format!("/ip4/1.2.3.4/udp/4001/quic-v1{id}/p2p-circuit{id}");
        assert_eq!(kept(&[&relayed], None), [relayed]);
    }

    #[test]
    fn case_17_what_only_the_host_or_its_link_can_dial_is_not_kept_for_others() {
        let host = ["/dns4/localhost/tcp/1", "/dns/a.LocalHost./tcp/1", "/dns4/127.0.0.1/tcp/1"];
        let more = ["/unix/%2Ftmp%2Fx", "/memory/1"];
        let link = ["/dns/printer.local/tcp/1", "/ip6zone/eth0/ip6/fe80::1/tcp/1"];
        for addresses in [&host[..], &more, &link] {
            assert_eq!(kept(addresses, Some("/ip4/1.2.3.4/tcp/1")), Vec::<String>::new());
            assert_eq!(kept(addresses, Some("/ip4/127.0.0.1/tcp/9")), addresses);
        }
    }

    #[test]
    fn the_ip_address_is_that_of_the_peer_itself() {
        let id = PeerId::random();
        for (address, ip) in [
            ("/ip4/203.0.113.7/tcp/1".to_owned(), Some("203.0.113.7")),
            ("/dns4/203.0.113.7/tcp/1".to_owned(), Some("203.0.113.7")),
            ("/dns/203.0.113.7./tcp/1".to_owned(), Some("203.0.113.7")),
            ("/dns6/2001:db8::7/tcp/1".to_owned(), Some("2001:db8::7")),
            ("/ip6zone/eth0/ip6/fe80::1/tcp/1".to_owned(), Some("fe80::1")),
            (format!("/ip6/2001:db8::7/udp/1/quic-v1/p2p/{id}"), Some("2001:db8::7")),
            ("/dns4/example.org/tcp/1".to_owned(), None),
            (format!("/ip4/203.0.113.7/tcp/1/p2p/{id}/p2p-circuit"), None),
            (format!("/ip4/203.0.113.7/tcp/1/p2p/{id}/p2p-circuit/p2p/{id}"), None),
            (format!("/p2p/{id}"), None),
            ("/memory/1".to_owned(), None),
        ] {
            let ip = ip.map(|ip| ip.parse().unwrap());
            assert_eq!(ip_of(&address.parse().unwrap()), ip, "{address}");
        }
    }

    #[test]
    fn a_trailing_peer_id_is_not_part_of_an_address() {
        let id = format!("/p2p/{}", PeerId::random());
        let relayed = format!("/ip4/1.2.3.4/tcp/1{id}/p2p-circuit");
        let named: Multiaddr = format!("{relayed}{id}").parse().unwrap();
        assert_eq!(without_peer(&named).to_string(), relayed);
        assert_eq!(without_peer(&without_peer(&named)).to_string(), relayed);
    }

    #[test]
    fn long_addresses_are_dropped_so_that_a_slice_fits_into_a_packet() {
        let peer = PeerId::random();
        let name = format!("/dns4/{}/tcp/1/p2p/{peer}", "x".repeat(63));
        let long = format!("/dns4/{}/tcp/1/p2p/{peer}", "x".repeat(253));
        let longer = format!("/dns4/{}/ws", vec!["x".repeat(60); 10].join("."));
        let all = [&*longer, &*long, &*name];
        assert_eq!(kept(&all, None), [long.as_str()]);
        assert_eq!(kept(&all[..1], None), Vec::<String>::new());
        // A packet is 16 KiB; half of it is a slice. The key occurs twice, and 20 peers with their
        // ids.
        let peers = 20 * (MAX_BYTES + 50);
        assert!(8 * 1_024 + 2 * 256 + peers + 64 <= 16 * 1_024);
    }
}
