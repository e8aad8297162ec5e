//! Public keys with false claims or in a form that is not canonical.

use libp2p_smart_record::{Fault, Malformed, ValidationError, WriterError};
use prost::Message;

use super::*;

/// Alice's valid update under another public key.
fn under(public_key: Vec<u8>) -> Space {
    Space { public_key, ..alice().says(&Update::saying(1)) }
}

/// Checks that a public key is refused. Returns the reason.
fn refused_key(public_key: Vec<u8>) -> WriterError {
    match refused(under(public_key), Fault::Malformed) {
        ValidationError::Malformed(Malformed::Writer(error)) => error,
        other => panic!("{other}"),
    }
}

fn data(author: &Author) -> Vec<u8> {
    PublicKey::decode(&author.public_key()[..]).unwrap().data
}

#[test]
fn a_key_that_is_not_of_its_type_is_refused() {
    for (n, author) in Author::all_types().iter().enumerate() {
        // RSA 0, Ed25519 1, Secp256k1 2, ECDSA 3.
        for r#type in [0, 1, 2, 3] {
            let data = data(author);
            let forged = PublicKey { r#type, data }.encode_to_vec();
            if forged == author.public_key() {
                continue;
            }
            let error = refused_key(forged);
            assert!(matches!(error, WriterError::Key(_)), "{n} as {type}: {error}");
        }
    }
}

#[test]
fn a_key_of_an_unknown_type_is_unsupported() {
    for author in Author::all_types() {
        for r#type in [4, 7, 127, 128, i32::MAX, -1] {
            let forged = PublicKey { r#type, data: data(&author) }.encode_to_vec();
            let reason = refused(under(forged), Fault::Unsupported);
            assert!(reason.to_string().contains("a public key of type"), "{reason}");
        }
    }
}

#[test]
fn a_key_of_another_length_is_refused() {
    for author in Author::all_types() {
        let original = PublicKey::decode(&author.public_key()[..]).unwrap();
        let short = original.data.len() - 1;
        for len in [0, 1, short] {
            let mut key = original.clone();
            key.data.truncate(len);
            let error = refused_key(key.encode_to_vec());
            assert!(matches!(error, WriterError::Key(_)), "{len}: {error}");
        }
        // Surplus bytes are detected by the type, or by the form.
        let mut key = original;
        key.data.push(0);
        refused_key(key.encode_to_vec());
    }
}

#[test]
fn a_key_in_another_protobuf_form_is_refused() {
    for author in Author::all_types() {
        let canonical = author.public_key();
        let r#type = &canonical[..2];
        let data = &canonical[2..];
        let forms = [
            // Another order, a padded type, a field twice, an unknown field.
            [data, r#type].concat(),
            [&[0x08, r#type[1] | 0x80, 0x00], data].concat(),
            [r#type, &canonical].concat(),
            [data, &canonical].concat(),
            [&canonical[..], &field(9, b"x")].concat(),
        ];
        for form in forms {
            assert_eq!(refused_key(form), WriterError::NotCanonical);
        }
    }
    // A padded length.
    let canonical = alice().public_key();
    let padded = [&canonical[..3], &[0xa0, 0x00], &canonical[4..]].concat();
    assert_eq!(refused_key(padded), WriterError::NotCanonical);
}

#[test]
fn a_key_in_another_form_of_its_type_is_refused() {
    // Points of both curves can be written with one coordinate or with two.
    let secp256k1 = Author::secp256k1().0.public().try_into_secp256k1().unwrap();
    let uncompressed = PublicKey { r#type: 2, data: secp256k1.to_bytes_uncompressed().to_vec() };
    assert_eq!(refused_key(uncompressed.encode_to_vec()), WriterError::NotCanonical);

    // `30 59 30 13 <two OIDs> 03 42 00 04 <x> <y>`
    let der = data(&Author::ecdsa());
    assert_eq!(der.len(), 91);
    let mut compressed = der[..27 + 32].to_vec();
    compressed[24] = 34;
    compressed[26] = 2 | (der[90] & 1);
    let trailing = [&der[..], b"x"].concat();
    let mut length = der;
    length[1] ^= 1;
    for data in [compressed, trailing, length] {
        let forged = PublicKey { r#type: 3, data };
        assert_eq!(refused_key(forged.encode_to_vec()), WriterError::NotCanonical);
    }
}

#[test]
fn a_truncated_key_is_refused() {
    let whole = alice().public_key();
    for len in 0..whole.len() {
        let error = refused_key(whole[..len].to_vec());
        assert!(matches!(error, WriterError::Key(_)), "{len}: {error}");
    }
}
