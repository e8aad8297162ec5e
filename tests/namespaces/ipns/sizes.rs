//! Sizes: both sides of every limit. Size is checked before everything else.

use libp2p_smart_record::{
    Fault, Limit, LimitExceeded,
    ipns::{IpnsError, IpnsRecord, MAX_RECORD_BYTES},
};
use prost::Message;

use super::*;

fn over(limit: Limit, got: u64, max: u64) -> IpnsError {
    let got = Some(got);
    LimitExceeded { limit, got, max }.into()
}

#[test]
fn a_record_is_at_most_10_kib() {
    assert_eq!(MAX_RECORD_BYTES, 10_240);
    for owner in all_types() {
        let of_len = |len: usize| {
            let with = |n| {
                let value = cbor::bytes(&vec![b'x'; n]);
                v2(&owner, fields().with("Value", value).encode()).encode_to_vec()
            };
            let overhead = with(9_000).len() - 9_000;
            // The length of signatures varies for some key types.
            (len - overhead - 8..).map(with).find(|value| value.len() >= len).unwrap()
        };
        let (fits, too_large) = (of_len(10_240), of_len(10_241));
        if fits.len() == 10_240 {
            accepted(&owner, &fits);
        }
        let got = too_large.len() as u64;
        refused(&owner, &too_large, Fault::LimitExceeded);
        let error = IpnsRecord::decode(&name(&owner), too_large).unwrap_err();
        assert_eq!(error, over(Limit::VALUE_BYTES, got, 10_240));
    }
}

#[test]
fn the_size_of_a_record_with_padding() {
    // Unsigned fields count, and no part of an oversized record is decoded.
    let owner = ed25519(1);
    let good = v1_and_v2(&owner).encode_to_vec();
    let padded = |len: usize| {
        let padding = len - good.len() - 3;
        [&good[..], &[0x52, padding as u8 & 0x7f | 0x80, (padding >> 7) as u8], &vec![0; padding]]
            .concat()
    };
    assert_eq!(padded(10_240).len(), 10_240);
    accepted(&owner, &padded(10_240));
    refused(&owner, &padded(10_241), Fault::LimitExceeded);
    refused(&owner, &[0xff; 10_240], Fault::Malformed);
    refused(&owner, &[0xff; 10_241], Fault::LimitExceeded);
    refused(&owner, &[0xff; 60_000], Fault::LimitExceeded);
}

#[test]
fn a_signature_is_at_most_1024_bytes() {
    for owner in all_types() {
        for (len, fault) in [(1_024, Fault::Invalid), (1_025, Fault::LimitExceeded)] {
            let mut entry = v1_and_v2(&owner);
            entry.signature_v2.as_mut().unwrap().resize(len, 0);
            let value = entry.encode_to_vec();
            refused(&owner, &value, fault);
            let error = IpnsRecord::decode(&name(&owner), value).unwrap_err();
            if fault == Fault::LimitExceeded {
                assert_eq!(error, over(Limit::SIGNATURE_BYTES, 1_025, 1_024));
            }
        }
    }
}

#[test]
fn a_public_key_is_at_most_1152_bytes() {
    for (len, fault) in [(1_152, Fault::Malformed), (1_153, Fault::LimitExceeded)] {
        let mut pub_key = vec![8, 0, 18, 0x80 | ((len - 5) & 0x7f) as u8, ((len - 5) >> 7) as u8];
        pub_key.resize(len, 0);
        let value = Entry { pub_key: Some(pub_key), ..v1_and_v2(&rsa()) }.encode_to_vec();
        refused(&rsa(), &value, fault);
        if fault == Fault::LimitExceeded {
            let error = IpnsRecord::decode(&name(&rsa()), value).unwrap_err();
            assert_eq!(error, over(Limit::PUBLIC_KEY_BYTES, 1_153, 1_152));
        }
    }
}
