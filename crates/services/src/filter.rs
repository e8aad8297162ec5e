//! Which addresses a service may dial.
//!
//! **Invariants.** Pure. Only addresses known to be harmless pass: TCP or QUIC to a global IP
//! address, with the peer id, not relayed. An IPv6 address that embeds an IPv4 address is judged as
//! that address or refused. A NAT64 prefix that a network has chosen for itself cannot be
//! recognised and counts as global, so its gateway must refuse private IPv4 addresses. The
//! addresses at which clouds serve their own machines never pass, embedded or not.
//!
//! **Spec.** The IANA special-purpose address registries:
//! [IPv4](https://www.iana.org/assignments/iana-ipv4-special-registry),
//! [IPv6](https://www.iana.org/assignments/iana-ipv6-special-registry).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use libp2p_core::{Multiaddr, multiaddr::Protocol};
use libp2p_identity::PeerId;

use libp2p_smart_record::{rate::Subnet, settings};

/// Last port on which only the administrator of a machine may listen.
const LAST_PRIVILEGED: u16 = 1_023;

/// Which addresses a service dials for others, how often and for how long.
#[derive(Clone, Debug)]
pub struct DialPolicy {
    private_addresses: bool,
    privileged_ports: bool,
    timeout: Duration,
    host_interval: Duration,
    host_burst: u32,
    max_pending: usize,
}

impl Default for DialPolicy {
    fn default() -> Self {
        Self {
            private_addresses: false,
            privileged_ports: false,
            timeout: Duration::from_secs(5),
            host_interval: Duration::from_secs(60),
            host_burst: 4,
            max_pending: 16,
        }
    }
}

settings! { DialPolicy:
    /// Whether addresses that are not global may be dialled: loopback, private, link-local and the
    /// like. Multicast, broadcast and unspecified addresses never are, nor those at which clouds
    /// serve their own machines. Defaults to false. Use true
    /// for your own networks and for tests only: it lets strangers explore the network of the
    /// service.
    private_addresses, with_private_addresses: bool;
    /// Whether ports below 1,024 may be dialled. Defaults to false, because mail, web and other
    /// servers that never asked for it listen there.
    privileged_ports, with_privileged_ports: bool;
    /// Longest duration of a dial, after which the address counts as not dialable. Defaults to 5
    /// seconds, as in Go smart records.
    timeout, with_timeout: Duration;
    /// Average time between two dials of the same host: an IPv4 address, or the first 48 bits of an
    /// IPv6 address, as many as a site gets. Defaults to a minute, a guess.
    host_interval, with_host_interval: Duration;
    /// Most dials of the same host at once after a pause. Defaults to 4.
    host_burst, with_host_burst: u32;
    /// Most pending dials; further ones wait. A dial that has timed out here is pending until the
    /// swarm's transport gives it up as well, after ten seconds if `SwarmBuilder` made it. Defaults
    /// to 16.
    max_pending, with_max_pending: usize;
}

/// Why an address is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AddressRefusal {
    /// The address does not end in `/p2p/<peer id>`.
    #[error("the address does not end in /p2p/<peer id>")]
    NoPeer,
    /// The peer is the service's own; a service says nothing about itself.
    #[error("the address names the service's own peer")]
    OwnPeer,
    /// The address is not TCP or QUIC at an IP address or a name: a relayed address, for instance.
    #[error("the address is not a direct TCP or QUIC address")]
    Transport,
    /// The address has a name instead of an IP address, and the service has no resolver.
    #[error("the service does not resolve names")]
    Name,
    /// The IP address is not global.
    #[error("the address is not global")]
    NotGlobal,
    /// At the IP address a cloud serves its own machines, with their credentials for instance.
    #[error("the address is one of a cloud for its own machines")]
    Cloud,
    /// The IP address is one of the service's own swarm, from where the machine may permit
    /// connections that it refuses to others. Not with
    /// [`private_addresses`](DialPolicy::private_addresses).
    #[error("the address is on the service's own host")]
    OwnHost,
    /// The port is zero, or below 1,024 without [`privileged_ports`](DialPolicy::privileged_ports).
    #[error("port {0} must not be dialled")]
    Port(u16),
}

/// A peer to dial, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: Host,
    /// The address after the host, without the peer id.
    rest: Multiaddr,
    pub(super) peer: PeerId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Ip(IpAddr),
    /// A name, and whether its IPv4 and its IPv6 addresses may be dialled.
    Name {
        name: String,
        v4: bool,
        v6: bool,
    },
}

/// The host at an IP address, for rate limits: an IPv4 address, or the first 48 bits of an IPv6
/// address.
pub(super) fn host_of(ip: IpAddr) -> Subnet {
    Subnet::new(ip, 32, 48)
}

impl Target {
    /// The address to dial at an IP address of the host, without the peer id.
    pub(super) fn at(&self, ip: IpAddr) -> Multiaddr {
        Multiaddr::from(ip).into_iter().chain(self.rest.iter()).collect()
    }
}

impl DialPolicy {
    /// Parses an address and checks that it may be dialled.
    pub(super) fn target(
        &self,
        address: &Multiaddr,
        local: PeerId,
        with_names: bool,
    ) -> Result<Target, AddressRefusal> {
        let parts: Vec<_> = address.iter().collect();
        let Some((Protocol::P2p(peer), parts)) = parts.split_last() else {
            return Err(AddressRefusal::NoPeer);
        };
        let name = |name: &str, v4, v6| Host::Name { name: name.to_owned(), v4, v6 };
        let (host, port, rest) = match parts {
            [host, rest @ ..] => match (host, rest) {
                (host, [Protocol::Tcp(port)]) => (host, *port, rest),
                (host, [Protocol::Udp(port), Protocol::QuicV1]) => (host, *port, rest),
                _ => return Err(AddressRefusal::Transport),
            },
            [] => return Err(AddressRefusal::Transport),
        };
        let host = match host {
            Protocol::Ip4(ip) => Host::Ip(IpAddr::V4(*ip)),
            Protocol::Ip6(ip) => Host::Ip(IpAddr::V6(*ip)),
            Protocol::Dns(host) => name(host, true, true),
            Protocol::Dns4(host) => name(host, true, false),
            Protocol::Dns6(host) => name(host, false, true),
            _ => return Err(AddressRefusal::Transport),
        };
        if *peer == local {
            return Err(AddressRefusal::OwnPeer);
        }
        if port == 0 || (port <= LAST_PRIVILEGED && !self.privileged_ports) {
            return Err(AddressRefusal::Port(port));
        }
        match &host {
            Host::Ip(ip) => self.check_ip(*ip)?,
            Host::Name { .. } if !with_names => return Err(AddressRefusal::Name),
            Host::Name { .. } => {}
        }
        Ok(Target { host, rest: rest.iter().cloned().collect(), peer: *peer })
    }

    /// Checks that an IP address may be dialled.
    pub(super) fn check_ip(&self, ip: IpAddr) -> Result<(), AddressRefusal> {
        let ip = ip.to_canonical();
        if is_of_cloud(ip) || embedded(ip).is_some_and(|ip| is_of_cloud(IpAddr::V4(ip))) {
            return Err(AddressRefusal::Cloud);
        }
        let is_good = match (ip, self.private_addresses) {
            (IpAddr::V4(ip), false) => is_global_v4(ip),
            (IpAddr::V6(ip), false) => is_global_v6(ip),
            (IpAddr::V4(ip), true) => {
                !ip.is_multicast() && !ip.is_broadcast() && !ip.is_unspecified()
            }
            (IpAddr::V6(v6), true) => {
                let v4_is_good =
                    embedded(ip).is_none_or(|ip| !ip.is_multicast() && !ip.is_broadcast());
                !v6.is_multicast() && !v6.is_unspecified() && v4_is_good
            }
        };
        if is_good { Ok(()) } else { Err(AddressRefusal::NotGlobal) }
    }
}

/// The IPv4 address to which packets for an IPv6 address are translated or tunnelled.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else {
        return None;
    };
    let (high, low) = match ip.segments() {
        // NAT64, also with the prefix for local use, of which the IPv4 address may be the end.
        [0x64, 0xff9b, 0 | 1, .., high, low] => (high, low),
        // 6to4.
        [0x2002, high, low, ..] => (high, low),
        // IPv4-compatible.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

/// Whether clouds serve their own machines at an address: metadata, credentials, names, time.
fn is_of_cloud(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => matches!(
            ip.octets(),
            // Azure: the agent of the machine, names; a global address.
            [168, 63, 129, 16]
                // Amazon and most others; Amazon's containers; Tencent.
                | [169, 254, 169, _]
                | [169, 254, 170, 2 | 23]
                | [169, 254, 0, 23]
                // Scaleway.
                | [169, 254, 42, 42]
                // Alibaba.
                | [100, 100, 100, 200]
                // Oracle.
                | [192, 0, 0, 192]
        ),
        IpAddr::V6(ip) => matches!(
            ip.segments(),
            // Amazon, Google.
            [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, ..]
                // Scaleway.
                | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]
        ),
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    let special = match ip.octets() {
        // This network; private; loopback.
        [0 | 10 | 127, ..] => true,
        // Shared between a provider and its customers.
        [100, b, ..] => b & 0xc0 == 64,
        // Link-local, where clouds keep the credentials of their machines; private; benchmarks.
        [169, 254, ..] | [192, 168, ..] | [198, 18 | 19, ..] => true,
        [172, b, ..] => b & 0xf0 == 16,
        // Protocol assignments; documentation; the relays of 6to4.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        // Multicast, reserved, broadcast.
        [224..=255, ..] => true,
        _ => false,
    };
    !special
}

fn is_global_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        // Protocol assignments, including Teredo, whose IPv4 address the writer chooses.
        [0x2001, b, ..] if b < 0x200 => false,
        // Documentation; 6to4, which embeds an IPv4 address.
        [0x2001, 0x0db8, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        // The range of global unicast. Outside it: mapped, translated, local, multicast.
        [a, ..] => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    const PEER: &str = "12D3KooWKRyzVWW6ChFjQjK4miCty85Niy48tpPV95XdKu1BcvMA";

    fn refusal(policy: &DialPolicy, address: &str) -> Option<AddressRefusal> {
        let address = format!("{address}/p2p/{PEER}").parse().unwrap();
        policy.target(&address, PeerId::random(), false).err()
    }

    #[test]
    fn global_addresses_pass() {
        for address in [
            "/ip4/1.2.3.4/tcp/4001",
            "/ip4/100.128.0.1/tcp/4001",
            "/ip4/172.32.0.1/tcp/1024",
            "/ip4/192.0.3.1/udp/4001/quic-v1",
            "/ip6/2606:4700::1111/tcp/4001",
            "/ip6/2001:4860:4860::8888/udp/4001/quic-v1",
            "/ip6/::ffff:1.2.3.4/tcp/4001",
        ] {
            assert_eq!(refusal(&DialPolicy::default(), address), None, "{address}");
        }
    }

    #[test]
    fn addresses_that_are_not_global_are_refused_in_any_form() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            for address in [format!("/ip4/{ip}/tcp/4001"), format!("/ip6/::ffff:{ip}/tcp/4001")] {
                let refused = refusal(&DialPolicy::default(), &address);
                assert_eq!(refused, Some(AddressRefusal::NotGlobal), "{address}");
            }
        }
        for ip in [
            "::",
            "::1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "4000::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            let refused = refusal(&DialPolicy::default(), &format!("/ip6/{ip}/tcp/4001"));
            assert_eq!(refused, Some(AddressRefusal::NotGlobal), "{ip}");
        }
    }

    #[test]
    fn private_addresses_pass_if_allowed_but_not_multicast_broadcast_or_unspecified() {
        let policy = DialPolicy::default().with_private_addresses(true);
        for ip in ["/ip4/127.0.0.1", "/ip4/192.168.1.1", "/ip6/::1", "/ip6/fe80::1"] {
            assert_eq!(refusal(&policy, &format!("{ip}/tcp/4001")), None, "{ip}");
        }
        for ip in [
            "/ip4/0.0.0.0",
            "/ip4/224.0.0.1",
            "/ip4/255.255.255.255",
            "/ip6/::",
            "/ip6/ff02::1",
            "/ip6/::ffff:224.0.0.1",
            "/ip6/64:ff9b::224.0.0.1",
            "/ip6/2002:ffff:ffff::1",
        ] {
            let refused = refusal(&policy, &format!("{ip}/tcp/4001"));
            assert_eq!(refused, Some(AddressRefusal::NotGlobal), "{ip}");
        }
    }

    #[test]
    fn the_addresses_of_clouds_are_never_dialled() {
        for private in [false, true] {
            let policy = DialPolicy::default().with_private_addresses(private);
            for ip in [
                "168.63.129.16",
                "169.254.169.254",
                "169.254.170.2",
                "100.100.100.200",
                "192.0.0.192",
                "::ffff:169.254.169.254",
                "fd00:ec2::254",
                "fd20:ce::254",
                "169.254.42.42",
                "fd00:42::42",
                // NAT64, 6to4, IPv4-compatible.
                "64:ff9b::169.254.169.254",
                "64:ff9b:1::169.254.169.254",
                "64:ff9b::168.63.129.16",
                "2002:a9fe:a9fe::1",
                "2002:a83f:8110::",
                "::169.254.169.254",
                "::100.100.100.200",
            ] {
                let ip = IpAddr::from_str(ip).unwrap();
                assert_eq!(policy.check_ip(ip), Err(AddressRefusal::Cloud), "{ip}");
            }
        }
    }

    #[test]
    fn other_transports_relays_names_and_low_ports_are_refused() {
        let policy = DialPolicy::default();
        for address in [
            "/ip4/1.2.3.4/udp/4001",
            "/ip4/1.2.3.4/tcp/4001/ws",
            "/ip4/1.2.3.4/tcp/4001/tls/ws",
            "/ip4/1.2.3.4/udp/4001/webrtc-direct",
            "/unix/%2ftmp%2fsocket",
            "/memory/7",
            "/dnsaddr/example.org",
            "/ip4/1.2.3.4/tcp/4001/ip4/127.0.0.1/tcp/4001",
        ] {
            assert_eq!(refusal(&policy, address), Some(AddressRefusal::Transport), "{address}");
        }
        let relayed = format!("/ip4/1.2.3.4/tcp/4001/p2p/{PEER}/p2p-circuit");
        assert_eq!(refusal(&policy, &relayed), Some(AddressRefusal::Transport));
        assert_eq!(refusal(&policy, "/dns4/example.org/tcp/4001"), Some(AddressRefusal::Name));
        for port in [0, 22, 1_023] {
            let refused = refusal(&policy, &format!("/ip4/1.2.3.4/tcp/{port}"));
            assert_eq!(refused, Some(AddressRefusal::Port(port)));
        }
        let open = policy.clone().with_privileged_ports(true);
        assert_eq!(refusal(&open, "/ip4/1.2.3.4/tcp/443"), None);
        assert_eq!(refusal(&open, "/ip4/1.2.3.4/tcp/0"), Some(AddressRefusal::Port(0)));
        let nameless = "/ip4/1.2.3.4/tcp/4001".parse().unwrap();
        let refused = policy.target(&nameless, PeerId::random(), false);
        assert_eq!(refused, Err(AddressRefusal::NoPeer));
        let own: Multiaddr = format!("/ip4/1.2.3.4/tcp/4001/p2p/{PEER}").parse().unwrap();
        let refused = policy.target(&own, PEER.parse().unwrap(), false);
        assert_eq!(refused, Err(AddressRefusal::OwnPeer));
    }

    #[test]
    fn a_name_is_replaced_by_its_resolved_address() {
        let address: Multiaddr =
            format!("/dns4/example.org/udp/4001/quic-v1/p2p/{PEER}").parse().unwrap();
        let target = DialPolicy::default().target(&address, PeerId::random(), true).unwrap();
        let at = target.at("1.2.3.4".parse().unwrap());
        assert_eq!(at.to_string(), "/ip4/1.2.3.4/udp/4001/quic-v1");
    }

    #[test]
    fn a_host_is_an_ipv4_address_or_an_ipv6_network() {
        let of = |ip: &str| host_of(ip.parse().unwrap());
        assert_eq!(of("1.2.3.4"), of("::ffff:1.2.3.4"));
        assert_eq!(of("2606:4700::1"), of("2606:4700::ffff:2"));
        assert_eq!(of("2606:4700::1"), of("2606:4700:0:1::1"));
        assert_ne!(of("2606:4700::1"), of("2606:4700:1::1"));
    }
}
