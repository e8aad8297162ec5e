//! Subnets of IP addresses, and the share of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// The subnet of an IP address: its first bits. Ids of peers are free, subnets are not, so limits
/// count subnets.
///
/// ```
/// use smart_record_lookup::Subnet;
///
/// let of = |ip: &str| Subnet::new(ip.parse().unwrap(), 24, 48);
/// assert_eq!(of("198.51.100.1"), of("198.51.100.2"));
/// assert_ne!(of("198.51.100.1"), of("198.51.101.1"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Ip { first: IpAddr, bits: u32 },
    Named,
    Relayed,
}

impl Subnet {
    /// The subnet of all peers that are known by a name: names are free.
    pub const NAMED: Self = Self(Kind::Named);
    /// The subnet of all peers that are known through relays: circuits are free.
    pub const RELAYED: Self = Self(Kind::Relayed);

    /// Returns the subnet of the first `v4_bits` of an IPv4 address, or the first `v6_bits` of an
    /// IPv6 address. An IPv6 address that maps an IPv4 address counts as the latter.
    pub fn new(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> Self {
        let (first, bits) = match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let rest = u32::MAX.checked_shr(v4_bits).unwrap_or(0);
                (IpAddr::V4((ip.to_bits() & !rest).into()), v4_bits)
            }
            IpAddr::V6(ip) => {
                let rest = u128::MAX.checked_shr(v6_bits).unwrap_or(0);
                (IpAddr::V6((ip.to_bits() & !rest).into()), v6_bits)
            }
        };
        Self(Kind::Ip { first, bits })
    }

    /// Whether it is a subnet of IP addresses.
    pub const fn is_of_ips(&self) -> bool {
        matches!(self.0, Kind::Ip { .. })
    }
}

/// The places that subnets have taken, of a share that each has.
#[derive(Clone, Debug)]
pub struct SubnetShares {
    taken: BTreeMap<Subnet, usize>,
    share: usize,
}

impl SubnetShares {
    /// Each subnet has `share` places. 0 counts as 1.
    pub const fn new(share: usize) -> Self {
        let share = if share == 0 { 1 } else { share };
        Self { taken: BTreeMap::new(), share }
    }

    /// Takes a place in each of these subnets, if all of them have one left. Returns whether they
    /// had. A peer without subnets always has a place.
    pub fn take(&mut self, subnets: &BTreeSet<Subnet>) -> bool {
        let taken = |subnet| self.taken.get(subnet).copied().unwrap_or_default();
        let is_within = subnets.iter().all(|subnet| taken(subnet) < self.share);
        // A peer beyond a share takes nothing from the other subnets that it names.
        for subnet in subnets.iter().filter(|_| is_within) {
            let taken = self.taken.entry(*subnet).or_default();
            *taken = taken.saturating_add(1);
        }
        is_within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ip: &str, v4_bits: u32, v6_bits: u32) -> Subnet {
        Subnet::new(ip.parse().unwrap(), v4_bits, v6_bits)
    }

    #[test]
    fn addresses_with_the_same_first_bits_are_in_one_subnet() {
        assert_eq!(of("1.2.3.4", 24, 48), of("1.2.3.255", 24, 48));
        assert_ne!(of("1.2.3.4", 24, 48), of("1.2.4.4", 24, 48));
        assert_ne!(of("1.2.3.4", 32, 48), of("1.2.3.5", 32, 48));
        assert_eq!(of("1.2.3.4", 0, 0), of("255.255.255.255", 0, 0));
        assert_eq!(of("2a00:1:2:3::1", 24, 48), of("2a00:1:2:4::1", 24, 48));
        assert_ne!(of("2a00:1:2::1", 24, 48), of("2a00:1:3::1", 24, 48));
        assert_eq!(of("2a00:1:2:fe::1", 32, 56), of("2a00:1:2:ff::1", 32, 56));
        assert_ne!(of("2a00:1:2:fe::1", 32, 56), of("2a00:1:2:100::1", 32, 56));
        assert_ne!(of("2a00::1", 32, 128), of("2a00::2", 32, 128));
    }

    #[test]
    fn a_peer_is_within_its_share_if_all_its_subnets_have_a_place() {
        let set = |subnets: &[u8]| -> BTreeSet<_> {
            subnets.iter().map(|n| of(&format!("1.2.{n}.0"), 24, 48)).collect()
        };
        let mut shares = SubnetShares::new(2);
        assert!(shares.take(&set(&[1])) && shares.take(&set(&[1, 2])));
        assert!(!shares.take(&set(&[1])) && !shares.take(&set(&[1, 2, 3])));
        assert!(shares.take(&set(&[2, 3])), "who was beyond one has taken none");
        assert!(!shares.take(&set(&[2])) && shares.take(&set(&[3])) && shares.take(&set(&[])));
    }

    #[test]
    fn a_share_of_0_is_one_of_1() {
        let mut shares = SubnetShares::new(0);
        let subnets = BTreeSet::from([Subnet::NAMED]);
        assert!(shares.take(&subnets) && !shares.take(&subnets));
        assert!(shares.take(&BTreeSet::from([Subnet::RELAYED])) && !Subnet::RELAYED.is_of_ips());
    }

    #[test]
    fn a_mapped_address_is_an_ipv4_address_and_subnets_of_two_sizes_differ() {
        assert_eq!(of("::ffff:1.2.3.4", 24, 48), of("1.2.3.4", 24, 48));
        assert_ne!(of("2a00::", 24, 48), of("2a00::", 24, 56));
        assert_ne!(of("0.0.0.0", 0, 0), of("::", 0, 0));
    }
}
