//! Laws: selection does not depend on the order of the values; signed records can be decoded;
//! nothing panics.

use super::*;

use std::{sync::LazyLock, time::Duration};

use ipld_core::ipld::Ipld;
use proptest::{collection::btree_map, prelude::*, sample::subsequence};
use prost::Message;

/// Good records and bad ones: all pairs of some sequence numbers and EOLs, ties, forgeries,
/// garbage.
static POOL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let owner = ed25519(1);
    let mut pool = vec![vec![], b"no record".to_vec(), v1_and_v2(&ed25519(66)).encode_to_vec()];
    for sequence in [0, 1, 300] {
        for eol in ["2023-11-14T00:00:00Z", "2023-11-16T00:00:00Z", "2023-11-16T00:00:00.1Z"] {
            let value = numbered(&owner, sequence, eol);
            pool.push([&value[..], &[0x50, 1]].concat());
            pool.push(value);
        }
    }
    pool
});

fn eol() -> impl Strategy<Value = Eol> {
    // From the year 0 to the year 9999, in nanoseconds, as text.
    (0..=9_999_u16, 1..=12_u8, 1..=28_u8, 0..24_u8, 0..60_u8, 0..60_u8, 0..1_000_000_000_u32)
        .prop_map(|(y, m, d, h, min, s, n)| {
            format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}.{n:09}Z").parse().unwrap()
        })
}

proptest! {
    #[test]
    fn what_is_selected_does_not_depend_on_the_order(
        (values, shuffled) in subsequence(POOL.clone(), 1..POOL.len())
            .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle())),
    ) {
        let key = key(&ed25519(1));
        let select = |values: &[Vec<u8>]| {
            let values: Vec<_> = values.iter().map(Vec::as_slice).collect();
            IpnsValidator.select(&key, &values).ok()
        };
        let best = select(&values).map(|index| &values[index]);
        prop_assert_eq!(best, select(&shuffled).map(|index| &shuffled[index]));
        if let Some(best) = best {
            // The first of equal records is selected, and the best record is the best of each pair.
            let twice = [shuffled.clone(), shuffled.clone()].concat();
            prop_assert_eq!(select(&twice), shuffled.iter().position(|value| value == best));
            for other in &values {
                prop_assert_eq!(select(&[other.clone(), best.clone()]), Some(usize::from(other != best)));
            }
        }
    }

    #[test]
    fn what_is_signed_is_what_is_read(
        value in "/ipns/[^/.]{1,60}(/[a-z é]{1,9}x){0,3}",
        sequence in 0..=i64::MAX as u64,
        eol in eol(),
        (now, ttl) in (0..u64::from(u32::MAX), 0..=i64::MAX as u64),
        metadata in btree_map("[a-z_]{1,9}", any::<i64>(), 0..4),
        owner in 0..4_usize,
        (with_v1, with_key) in any::<(bool, bool)>(),
    ) {
        let owner = &all_types()[owner];
        let now = at(now);
        prop_assume!(eol.expires_at() > now);
        let ttl = Duration::from_nanos(ttl).min(eol.saturating_since(now));
        let mut builder = IpnsBuilder::new(value.clone(), sequence, eol)
            .with_ttl(ttl);
        for (field, number) in &metadata {
            builder = builder.with_metadata(field, *number);
        }
        if with_key {
            builder = builder.with_public_key();
        }
        if !with_v1 {
            builder = builder.without_v1();
        }
        let signed = builder.sign(owner, now).unwrap();
        let read = IpnsRecord::decode(&name(owner), signed.encode()).unwrap();
        prop_assert_eq!(&read, &signed);
        prop_assert_eq!(read.value(), value.as_bytes());
        prop_assert_eq!(read.sequence(), sequence);
        prop_assert_eq!(read.eol(), eol);
        prop_assert_eq!(read.ttl(now), Some(ttl));
        let expected = metadata.into_iter().map(|(k, v)| (k, Ipld::Integer(v.into()))).collect();
        prop_assert_eq!(read.metadata().unwrap(), expected);
        // At any millisecond, the record has expired exactly if its EOL is not later.
        let end = read.eol().expires_at();
        prop_assert!(read.check_expiry(end).is_err());
        if end.as_millis() > 0 {
            prop_assert!(read.check_expiry(at(end.as_millis() - 1)).is_ok());
            prop_assert!(i128::from(end.as_millis() - 1) * 1_000_000 < eol.unix_nanos());
        }
        prop_assert!(i128::from(end.as_millis()) * 1_000_000 >= eol.unix_nanos());
    }

    #[test]
    fn dates_are_written_as_they_are_read(a in eol(), b in eol()) {
        prop_assert_eq!(a.to_string().parse(), Ok(a));
        prop_assert_eq!(a.cmp(&b), a.unix_nanos().cmp(&b.unix_nanos()));
    }

    #[test]
    fn a_changed_byte_changes_nothing_or_is_noticed(index in any::<usize>(), change in 1..=255_u8) {
        let owner = ed25519(1);
        let good = IpnsRecord::decode(&name(&owner), v1_and_v2(&owner).encode_to_vec()).unwrap();
        let mut bytes = good.as_bytes().to_vec();
        let index = index % bytes.len();
        bytes[index] ^= change;
        if let Ok(read) = IpnsRecord::decode(&name(&owner), bytes) {
            prop_assert_eq!(
                (read.value(), read.sequence(), read.eol(), read.ttl(at(NOW))),
                (good.value(), good.sequence(), good.eol(), good.ttl(at(NOW)))
            );
        }
    }

    #[test]
    fn nothing_panics(bytes in any::<Vec<u8>>(), text in any::<String>()) {
        let owner = ed25519(1);
        prop_assert!(IpnsRecord::decode(&name(&owner), bytes.clone()).is_err());
        let signed = v2(&owner, bytes.clone()).encode_to_vec();
        prop_assert!(IpnsRecord::decode(&name(&owner), signed).is_err());
        let validity = fields().with("Validity", cbor::bytes(&bytes)).encode();
        let _ = IpnsRecord::decode(&name(&owner), v2(&owner, validity).encode_to_vec());
        let extra = fields().with("_extra", bytes.clone()).encode();
        let _ = IpnsRecord::decode(&name(&owner), v2(&owner, extra).encode_to_vec());
        let _ = text.parse::<IpnsName>();
        let _ = text.parse::<Eol>();
        let _ = Eol::parse(&bytes);
    }
}
