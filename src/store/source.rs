//! Where records come from.
//!
//! **Invariants.** A record has one source for as long as it is stored: that of the connection that
//! brought it first. Addresses cost something, ids of peers do not, so a source is an address
//! prefix.
//!
//! **Spec.** `docs/design.md`, section "Shares of a full store".

use std::net::IpAddr;

use smart_record_core::Timestamp;

/// The source of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Source(u64);

impl Source {
    /// All whose address is not known or is that of a relay.
    pub(super) const UNKNOWN: Self = Self(0);
    /// This node: what it has written or read.
    pub(super) const OWN: Self = Self(1);

    /// The source of a peer: the first 24 bits of its IPv4 address, or the first 32 of its IPv6
    /// address.
    pub(super) fn of(ip: Option<IpAddr>) -> Self {
        match ip.map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => Self(1 << 24 | u64::from(ip.to_bits() >> 8)),
            Some(IpAddr::V6(ip)) => {
                let first = u32::try_from(ip.to_bits() >> 96).unwrap_or(u32::MAX);
                Self(1 << 32 | u64::from(first))
            }
            None => Self::UNKNOWN,
        }
    }

    /// The source in a head.
    pub(super) const fn from_wire(source: u64) -> Self {
        Self(source)
    }

    /// The number in a head; zero for an unknown source.
    pub(super) const fn into_wire(self) -> u64 {
        self.0
    }
}

/// When a record was first stored, and its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) at: Timestamp,
    pub(super) source: Source,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_a_common_prefix_are_one_source_and_no_others() {
        let of = |ip: &str| Source::of(Some(ip.parse().unwrap()));
        assert_eq!(of("1.2.3.4"), of("1.2.3.255"));
        assert_eq!(of("1.2.3.4"), of("::ffff:1.2.3.4"));
        assert_eq!(of("2a01:4f8:1::1"), of("2a01:4f8:ffff::1"));
        let all = [
            Source::of(None),
            Source::OWN,
            of("0.0.0.0"),
            of("0.0.1.0"),
            of("1.2.3.4"),
            of("1.2.4.4"),
            of("255.255.255.255"),
            of("::"),
            of("0:1::"),
            of("100:102::"),
            of("2a01:4f8::"),
            of("2a01:4f9::"),
            of("ffff:ffff::"),
        ];
        let distinct: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(all.iter().all(|source| Source::from_wire(source.into_wire()) == *source));
        assert_eq!(Source::of(None), Source::UNKNOWN);
    }
}
