//! Subnets of IP addresses.

use std::net::IpAddr;

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
pub struct Subnet {
    first: IpAddr,
    bits: u32,
}

impl Subnet {
    /// Returns the subnet of the first `v4_bits` of an IPv4 address, or the first `v6_bits` of an
    /// IPv6 address. An IPv6 address that maps an IPv4 address counts as the latter.
    pub fn new(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let rest = u32::MAX.checked_shr(v4_bits).unwrap_or(0);
                Self { first: IpAddr::V4((ip.to_bits() & !rest).into()), bits: v4_bits }
            }
            IpAddr::V6(ip) => {
                let rest = u128::MAX.checked_shr(v6_bits).unwrap_or(0);
                Self { first: IpAddr::V6((ip.to_bits() & !rest).into()), bits: v6_bits }
            }
        }
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
    fn a_mapped_address_is_an_ipv4_address_and_subnets_of_two_sizes_differ() {
        assert_eq!(of("::ffff:1.2.3.4", 24, 48), of("1.2.3.4", 24, 48));
        assert_ne!(of("2a00::", 24, 48), of("2a00::", 24, 56));
        assert_ne!(of("0.0.0.0", 0, 0), of("::", 0, 0));
    }
}
