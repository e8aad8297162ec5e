//! Requests to a service, and checks of what it dials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::Arbitrary;
use libp2p_core::{Multiaddr, multiaddr::Protocol};
use libp2p_smart_record::{Dict, Node, Predicate, Set, codec};
use libp2p_swarm::{DialError, DialFailure, FromSwarm, NetworkBehaviour, dial_opts::DialOpts};
use smart_record_services::Dialer;

use crate::{author, forge::Update};

/// A request to dial a valid or nearly valid address.
#[derive(Arbitrary, Clone, Debug)]
pub struct Asked<'a> {
    is_fresh: bool,
    /// Whether the address is wrapped in `multiaddr(…)`.
    is_wrapped: bool,
    host: Host<'a>,
    transport: Transport,
    port: u16,
    peer: Option<u8>,
    /// Text after the address.
    rest: Option<&'a str>,
}

#[derive(Arbitrary, Clone, Debug)]
enum Host<'a> {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Mapped(Ipv4Addr),
    Name(u8),
    Text(&'a str),
}

#[derive(Arbitrary, Clone, Debug)]
enum Transport {
    Tcp,
    Quic,
    Udp,
    Relayed,
}

impl Asked<'_> {
    fn address(&self) -> String {
        let host = match self.host {
            Host::V4(ip) => format!("/ip4/{ip}"),
            Host::V6(ip) => format!("/ip6/{ip}"),
            Host::Mapped(ip) => format!("/ip6/{}", ip.to_ipv6_mapped()),
            Host::Name(kind) => {
                format!("/{}/a.test", ["dns", "dns4", "dns6", "dnsaddr"][usize::from(kind % 4)])
            }
            Host::Text(text) => text.to_owned(),
        };
        let port = self.port;
        let transport = match self.transport {
            Transport::Tcp => format!("/tcp/{port}"),
            Transport::Quic => format!("/udp/{port}/quic-v1"),
            Transport::Udp => format!("/udp/{port}"),
            Transport::Relayed => format!("/tcp/{port}/p2p/{}/p2p-circuit", author(2).peer_id()),
        };
        let peer = self.peer.map(|peer| format!("/p2p/{}", author(peer).peer_id()));
        host + &transport + &peer.unwrap_or_default() + self.rest.unwrap_or_default()
    }

    fn predicate(&self) -> Predicate {
        let address = Node::from(self.address());
        let address = if self.is_wrapped {
            Predicate::new("multiaddr").with(address).into()
        } else {
            address
        };
        Predicate::new(if self.is_fresh { "dialable" } else { "connectivity" })
            .with_named("address", address)
    }
}

/// An update with these requests.
pub fn document(asked: &[Asked<'_>]) -> Update {
    let asked: Set = asked.iter().take(4).map(Asked::predicate).collect();
    Update::of(codec::encode(&Dict::from([("asked", asked)])))
}

/// Checks that the addresses are public.
pub fn check_dial(opts: &DialOpts) {
    // `DialOpts` shows its addresses only in its debug output.
    let text = format!("{opts:?}");
    let addresses = text.split_once("addresses: [").and_then(|(_, rest)| rest.split_once(']'));
    let address: Multiaddr = addresses.expect("addresses").0.parse().expect("one address");
    let parts: Vec<_> = address.iter().collect();
    let (ip, port) = match parts[..] {
        [Protocol::Ip4(ip), Protocol::Tcp(port)] => (IpAddr::V4(ip), port),
        [Protocol::Ip6(ip), Protocol::Tcp(port)] => (IpAddr::V6(ip), port),
        [Protocol::Ip4(ip), Protocol::Udp(port), Protocol::QuicV1] => (IpAddr::V4(ip), port),
        [Protocol::Ip6(ip), Protocol::Udp(port), Protocol::QuicV1] => (IpAddr::V6(ip), port),
        _ => panic!("{address} is dialled"),
    };
    assert!(port >= 1_024 && is_public(ip), "{address} is dialled");
}

fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && b & 0xc0 == 64;
            let is_local = ip.is_private() || ip.is_loopback() || ip.is_link_local();
            let is_many = ip.is_multicast() || ip.is_broadcast() || a == 0 || a >= 224;
            !(is_local || is_shared || is_many || ip.is_documentation())
        }
        IpAddr::V6(ip) => {
            let is_local = ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback();
            !(is_local || ip.is_multicast() || ip.is_unspecified())
        }
    }
}

/// Lets a dial fail.
pub fn fail(dialer: &mut Dialer, opts: &DialOpts) {
    let (obtained, address) = (author(4).peer_id(), Multiaddr::empty());
    let error = DialError::WrongPeerId { obtained, address };
    let connection_id = opts.connection_id();
    dialer.on_swarm_event(FromSwarm::DialFailure(DialFailure {
        peer_id: None,
        error: &error,
        connection_id,
    }));
}
