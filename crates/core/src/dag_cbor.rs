//! Decoder for DAG-CBOR from untrusted sources.
//!
//! The deserializer of `Ipld` reserves the memory that a list claims to need, up to a megabyte at
//! every level. A few hundred unsigned bytes can thus take hundreds of megabytes.
//!
//! **Invariants.** Decoding takes memory in proportion to the input, whatever lengths it claims.
//! Only the one encoding of a value is read: the codec refuses other forms of all but links, whose
//! bytes have to be those of their CID. Depth is bounded by the codec (256 steps, two for each
//! level).
//!
//! **Spec.** [DAG-CBOR](https://ipld.io/specs/codecs/dag-cbor/spec/).

use ipld_core::ipld::Ipld;

use crate::{data::Data, text::printable};

/// Why bytes are not DAG-CBOR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", printable(.0))]
pub struct DecodeError(String);

/// Decodes one item. Time and memory are proportional to the length of the input.
///
/// ```
/// use smart_record_core::dag_cbor;
/// use ipld_core::ipld::Ipld;
///
/// assert_eq!(dag_cbor::from_slice(&[0x81, 0x17]), Ok(Ipld::List(vec![Ipld::Integer(23)])));
/// assert!(dag_cbor::from_slice(&[0x9b, 0xff]).is_err());
/// ```
///
/// # Errors
/// [`DecodeError`] if the bytes are not exactly one item of DAG-CBOR.
pub fn from_slice(bytes: &[u8]) -> Result<Ipld, DecodeError> {
    let Data(data) =
        serde_ipld_dagcbor::from_slice(bytes).map_err(|e| DecodeError(e.to_string()))?;
    Ok(data)
}

#[cfg(test)]
pub(crate) mod tests {
    use cid::Cid;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_data() -> impl Strategy<Value = Ipld> {
        let cid: Cid =
            "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy".parse().unwrap();
        let leaf = prop_oneof![
            Just(Ipld::Null),
            Just(Ipld::Link(cid)),
            any::<bool>().prop_map(Ipld::Bool),
            any::<i64>().prop_map(|n| Ipld::Integer(n.into())),
            any::<u64>().prop_map(|n| Ipld::Integer(-1 - i128::from(n))),
            any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Ipld::Float),
            any::<String>().prop_map(Ipld::String),
            any::<Vec<u8>>().prop_map(Ipld::Bytes),
        ];
        leaf.prop_recursive(4, 32, 6, |data| {
            prop_oneof![
                prop::collection::vec(data.clone(), 0..6).prop_map(Ipld::List),
                prop::collection::btree_map(any::<String>(), data, 0..6).prop_map(Ipld::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_ipld_reads(
            data in any_data(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = serde_ipld_dagcbor::to_vec(&data).unwrap();
            prop_assert_eq!(from_slice(&bytes).unwrap(), data);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let theirs = serde_ipld_dagcbor::from_slice::<Ipld>(&bytes).ok();
            let is_canonical = |data: &Ipld| serde_ipld_dagcbor::to_vec(data).unwrap() == bytes;
            prop_assert_eq!(from_slice(&bytes).ok(), theirs.filter(is_canonical));
        }
    }

    #[test]
    fn case_13_a_link_has_no_bytes_after_its_cid() {
        // Tag 42, and the CID of no bytes after the prefix of a link.
        let link = |len: u8, cid: &[u8]| [&[0xd8, 42, 0x40 | len, 0][..], cid].concat();
        assert!(matches!(from_slice(&link(5, &[1, 0x55, 0, 0])), Ok(Ipld::Link(_))));
        let longer = link(6, &[1, 0x55, 0, 0, 7]);
        assert!(serde_ipld_dagcbor::from_slice::<Ipld>(&longer).is_ok());
        assert!(from_slice(&longer).is_err());
    }
}
