//! Signatures that some implementations accept and others refuse, and second signatures of the same
//! update.
//!
//! Replicas have to agree, so the result must be the same on all machines, and for a signature that
//! is verified alone or with others: Ed25519 as in ZIP 215 without keys of small order, and the
//! least of several good signatures of the same bytes.

use std::time::Duration;

use curve25519_dalek::{
    EdwardsPoint, Scalar,
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
    edwards::CompressedEdwardsY,
    scalar::clamp_integer,
};
use libp2p_smart_record::{
    Fault, Incoming, Limits, Malformed, Open, Refusals, SignatureMemory, Space as CoreSpace,
    ValidationError, WriterError,
};
use prost::Message;
use sha2::{Digest, Sha512};

use super::{replays::converges, *};

/// The order of the base point of Ed25519, little-endian.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The orders of the base points of secp256k1 and P-256, big-endian.
const N_SECP256K1: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];
const N_P256: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fn ed25519_key(point: &[u8; 32]) -> Vec<u8> {
    [&[0x08, 0x01, 0x12, 0x20][..], point].concat()
}

/// A space under an irregular Ed25519 key.
fn space_of(point: &[u8; 32], update: &Update, r: &[u8; 32], s: &[u8; 32]) -> Space {
    Space {
        public_key: ed25519_key(point),
        updates: vec![SignedUpdate {
            update: update.encode_to_vec(),
            signature: [*r, *s].concat(),
        }],
    }
}

/// Whether libp2p's own check, which is not strict, accepts it.
fn libp2p_takes(space: &Space) -> bool {
    let SignedUpdate { update, signature } = &space.updates[0];
    libp2p_identity::PublicKey::try_decode_protobuf(&space.public_key)
        .is_ok_and(|public| public.verify(&message(&key(), update), signature))
}

/// Alice's secret scalar.
fn secret_scalar(author: &Author) -> Scalar {
    let keypair = author.0.clone().try_into_ed25519().unwrap();
    let seed = keypair.secret();
    let hash = Sha512::digest(seed.as_ref());
    let mut low = [0; 32];
    low.copy_from_slice(&hash[..32]);
    Scalar::from_bytes_mod_order(clamp_integer(low))
}

fn scalar_of(parts: &[&[u8]]) -> Scalar {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
}

/// A signature with a given nonce: `R = r B`, `S = r + H(R ‖ A ‖ M) a`.
fn sign_with(secret: Scalar, public: &[u8; 32], nonce: u64, message: &[u8]) -> Vec<u8> {
    let nonce = scalar_of(&[b"a nonce", &nonce.to_le_bytes()]);
    let r = (nonce * ED25519_BASEPOINT_POINT).compress().to_bytes();
    let s = nonce + scalar_of(&[&r, public, message]) * secret;
    [r, s.to_bytes()].concat()
}

/// `a + b`, little-endian.
fn add(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    let mut carry = 0_u16;
    std::array::from_fn(|n| {
        carry += u16::from(a[n]) + u16::from(b[n]);
        let digit = carry as u8;
        carry >>= 8;
        digit
    })
}

#[test]
fn small_order_public_keys_sign_nothing() {
    // With a public key of small order, R of small order and S = 0 are a signature of every
    // message, or of some.
    let mut taken_by_others = 0;
    for a in EIGHT_TORSION {
        for r in EIGHT_TORSION {
            let (a, r) = (a.compress().to_bytes(), r.compress().to_bytes());
            let space = space_of(&a, &Update::saying(1), &r, &[0; 32]);
            taken_by_others += u32::from(libp2p_takes(&space));
            refused(space, Fault::Invalid);
        }
    }
    // Otherwise these would not be attacks.
    assert_ne!(taken_by_others, 0);
}

/// Encodings of points of small order that are not the canonical ones.
fn odd_encodings() -> [([u8; 32], bool); 8] {
    // y = p, p + 1 with either sign, and those whose x = 0 has a sign.
    let big = |first: u8, last: u8| {
        let mut point = [0xff; 32];
        (point[0], point[31]) = (first, last);
        point
    };
    let one = |last: u8| {
        let mut point = [0; 32];
        (point[0], point[31]) = (1, last);
        point
    };
    [
        (big(0xed, 0x7f), false),
        (big(0xed, 0xff), false),
        (big(0xee, 0x7f), false),
        (big(0xee, 0xff), false),
        (big(0xff, 0x7f), false),
        (big(0xff, 0xff), false),
        // These are below p; only the sign is odd.
        (one(0x80), true),
        (big(0xec, 0xff), true),
    ]
}

#[test]
fn public_keys_beyond_the_prime_are_refused() {
    for (point, reduced) in odd_encodings() {
        let mut identity = [0; 32];
        identity[0] = 1;
        for r in [identity, point] {
            let space = space_of(&point, &Update::saying(1), &r, &[0; 32]);
            if reduced {
                refused(space, Fault::Invalid);
            } else {
                let reason = refused(space, Fault::Malformed);
                assert_eq!(
                    reason,
                    Malformed::Writer(WriterError::NotCanonical).into(),
                    "{point:x?}"
                );
            }
        }
    }
}

#[test]
fn a_public_key_that_is_no_point_is_refused() {
    // About every second y has no x.
    let no_point = (2_u8..)
        .map(|y| {
            let mut point = [0; 32];
            point[0] = y;
            point
        })
        .find(|point| CompressedEdwardsY(*point).decompress().is_none())
        .unwrap();
    let space = space_of(&no_point, &Update::saying(1), &[1; 32], &[0; 32]);
    refused(space, Fault::Invalid);
}

#[test]
fn a_small_order_r_is_good_in_each_of_its_encodings() {
    // Made by the writer: R = T, S = H(R ‖ A ‖ M) a. Only who holds the secret key can make it.
    let alice = alice();
    let update = Update::saying(1);
    let public: [u8; 32] = alice.public_key()[4..].try_into().unwrap();
    let message = message(&key(), &update.encode_to_vec());
    let mut refused_by_others = 0;
    let is_small = |r: &[u8; 32]| {
        CompressedEdwardsY(*r).decompress().is_some_and(|point| point.is_small_order())
    };
    let odd = odd_encodings().map(|(point, _)| point).into_iter().filter(is_small);
    let canonical = EIGHT_TORSION.map(|point| point.compress().to_bytes());
    for r in canonical.into_iter().chain(odd) {
        let s = scalar_of(&[&r, &public, &message]) * secret_scalar(&alice);
        let space = space_of(&public, &update, &r, &s.to_bytes());
        refused_by_others += u32::from(!libp2p_takes(&space));
        accepted(space);
        // Another encoding of the same point is hashed, so it is another signature.
        let mut other = r;
        other[31] ^= 0x80;
        refused(space_of(&public, &update, &other, &s.to_bytes()), Fault::Invalid);
    }
    assert!(refused_by_others > 1);
}

#[test]
fn s_beyond_the_order_is_refused() {
    let good = alice().sign(&Update::saying(1));
    let mut s: [u8; 32] = good.signature[32..].try_into().unwrap();
    // S + L, S + 2 L, … as long as they fit into the bytes: equal to S for a lax verifier.
    for _ in 0..14 {
        s = add(&s, &L);
        let mut bad = good.clone();
        bad.signature[32..].copy_from_slice(&s);
        refused(alice().space([bad]), Fault::Invalid);
    }
    // L itself is out of range too: it equals 0.
    let mut bad = good;
    bad.signature[32..].copy_from_slice(&L);
    refused(alice().space([bad]), Fault::Invalid);
}

#[test]
fn a_key_of_mixed_order_gets_one_answer() {
    // A = a B + T with T of order 8. Where H(R ‖ A ‖ M) is not a multiple of 8, only the equation
    // times the cofactor holds; where it is, both do. Ours is the one with the cofactor, because
    // others do not give a batch the answer of its parts.
    let secret = secret_scalar(&alice());
    let torsion = EIGHT_TORSION[1];
    let public = (secret * ED25519_BASEPOINT_POINT + torsion).compress().to_bytes();
    let update = Update::saying(1);
    let message = message(&key(), &update.encode_to_vec());
    let (mut both, mut with_cofactor) = (0, 0);
    for nonce in 0..64 {
        let signature = sign_with(secret, &public, nonce, &message);
        let (r, s) = signature.split_at(32);
        let (r, s): ([u8; 32], [u8; 32]) = (r.try_into().unwrap(), s.try_into().unwrap());
        let k = scalar_of(&[&r, &public, &message]);
        let space = space_of(&public, &update, &r, &s);
        let is_strict = k * torsion == EdwardsPoint::default();
        assert_eq!(libp2p_takes(&space), is_strict);
        both += u32::from(is_strict);
        with_cofactor += u32::from(!is_strict);
        accepted(space);
    }
    assert!(both > 0 && with_cofactor > 0, "{both} {with_cofactor}");
}

/// Several good signatures of one update give one state with the least signature, and one view.
fn second_signatures_converge(author: &Author, update: &[u8], signatures: &[Vec<u8>]) {
    let spaces: Vec<_> = signatures
        .iter()
        .map(|signature| {
            author.space([SignedUpdate { update: update.to_vec(), signature: signature.clone() }])
        })
        .collect();
    for space in &spaces {
        accepted(space.clone());
    }
    let least = signatures.iter().min().unwrap();
    let winner = spaces.iter().find(|space| space.updates[0].signature == *least).unwrap();
    let state = converges(&spaces);
    assert_eq!(state, encode([winner.clone()]));
    for space in spaces {
        let view = read(&encode([space])).view(at(NOW));
        assert_eq!(view, read(&state).view(at(NOW)));
    }
}

#[test]
fn a_second_ed25519_signature_changes_nothing() {
    let alice = alice();
    let good = alice.sign(&Update::saying(1));
    let public: [u8; 32] = alice.public_key()[4..].try_into().unwrap();
    let message = message(&key(), &good.update);
    let mut signatures = vec![good.signature];
    signatures.extend((0..3).map(|n| sign_with(secret_scalar(&alice), &public, n, &message)));
    second_signatures_converge(&alice, &good.update, &signatures);
}

#[test]
fn a_bad_second_signature_changes_nothing() {
    // Neither one that sorts before the good one, which is verified, nor one after it, which need
    // not be.
    let good = alice().sign(&Update::saying(1));
    let with = |signature: &[u8]| {
        alice().space([SignedUpdate { update: good.update.clone(), signature: signature.to_vec() }])
    };
    let least = [0; 64];
    let greatest = [0xff; 64];
    assert!(least[..] < good.signature[..] && good.signature[..] < greatest[..]);
    for bad in [&least[..], &greatest, &[], &good.signature[..63]] {
        refused(with(bad), Fault::Invalid);
        let mut replica = Replica::new();
        replica.hears([with(&good.signature)]);
        let before = replica.stored();
        replica.hears([with(bad)]);
        assert_eq!(replica.stored(), before);
        replica.hears([with(bad), with(&good.signature)]);
        assert_eq!(replica.stored(), before);
        // In any order.
        let mut replica = Replica::new();
        replica.hears([with(bad)]);
        assert!(replica.is_empty());
        replica.hears([with(&good.signature)]);
        assert_eq!(replica.stored(), before);
        let values = [encode([with(bad)]), encode([with(&good.signature)])];
        let joined = consolidate(&[&values[0], &values[1]]).unwrap();
        assert_eq!(Some(joined), before);
    }
}

/// The two numbers of a DER signature, big-endian, and back.
fn from_der(signature: &[u8]) -> [[u8; 32]; 2] {
    let mut rest = &signature[2..];
    [(); 2].map(|()| {
        let (head, tail) = rest.split_at(2);
        let (number, tail) = tail.split_at(head[1].into());
        rest = tail;
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        let mut out = [0; 32];
        out[32 - number.len()..].copy_from_slice(number);
        out
    })
}

fn to_der(numbers: &[[u8; 32]; 2]) -> Vec<u8> {
    let numbers: Vec<_> = numbers
        .iter()
        .map(|number| {
            let first = number.iter().position(|byte| *byte != 0).unwrap_or(31);
            let sign = if number[first] & 0x80 == 0 { &[][..] } else { &[0] };
            let number = [sign, &number[first..]].concat();
            [&[0x02, number.len() as u8], &number[..]].concat()
        })
        .collect();
    let body = numbers.concat();
    [&[0x30, body.len() as u8], &body[..]].concat()
}

/// `n - s`, big-endian: with `(r, s)`, `(r, n - s)` satisfies the equation, and anyone can compute
/// it.
fn mirrored(signature: &[u8], n: &[u8; 32]) -> Vec<u8> {
    let [r, s] = from_der(signature);
    let mut borrow = 0;
    let mut difference = [0; 32];
    for digit in (0..32).rev() {
        let value = i16::from(n[digit]) - i16::from(s[digit]) - borrow;
        borrow = i16::from(value < 0);
        difference[digit] = value as u8;
    }
    assert_eq!(to_der(&[r, s]), signature);
    to_der(&[r, difference])
}

#[test]
fn a_mirrored_ecdsa_signature_changes_nothing() {
    // Anyone can compute it, and P-256 verifiers accept both.
    let author = Author::ecdsa();
    for n in 0..4 {
        let good = author.sign(&Update::saying(n));
        let other = mirrored(&good.signature, &N_P256);
        assert_ne!(other, good.signature);
        second_signatures_converge(&author, &good.update, &[good.signature, other]);
    }
}

#[test]
fn a_mirrored_secp256k1_signature_is_refused() {
    // Of the two, this curve's verifiers accept only the one with the low s.
    let author = Author::secp256k1();
    for n in 0..4 {
        let mut bad = author.sign(&Update::saying(n));
        bad.signature = mirrored(&bad.signature, &N_SECP256K1);
        refused(author.space([bad]), Fault::Invalid);
    }
}

#[test]
fn other_encodings_of_a_signature_are_refused() {
    for author in [Author::ecdsa(), Author::secp256k1()] {
        let good = author.sign(&Update::saying(1));
        let der = &good.signature;
        let [r, s] = from_der(der);
        let padded = {
            // A zero before r that its sign does not need.
            let r = [&[0, 0][..], &r].concat();
            let rest = &to_der(&[[0; 32], s])[5..];
            let body = [&[0x02, r.len() as u8], &r[..], rest].concat();
            [&[0x30, body.len() as u8], &body[..]].concat()
        };
        let long_length = [&[0x30, 0x81], &der[1..]].concat();
        let trailing = [&der[..], &[0]].concat();
        let raw = [r, s].concat();
        for signature in [padded, long_length, trailing, raw, Vec::new()] {
            let update = good.update.clone();
            let bad = SignedUpdate { update, signature };
            refused(author.space([bad]), Fault::Invalid);
        }
        // Numbers out of range.
        for numbers in [[[0; 32], s], [r, [0; 32]], [[0xff; 32], s], [r, [0xff; 32]]] {
            let update = good.update.clone();
            let signature = to_der(&numbers);
            let bad = SignedUpdate { update, signature };
            refused(author.space([bad]), Fault::Invalid);
        }
    }
    // RSA: of another length, and the number plus the modulus is out of range, so nothing is left
    // to try but leading zeros.
    let author = Author::rsa();
    let mut bad = author.sign(&Update::saying(1));
    bad.signature.insert(0, 0);
    refused(author.space([bad]), Fault::Invalid);
}

#[test]
fn an_invalid_signature_names_the_space_it_claims() {
    let bad = alice().space([mallory().sign(&Update::saying(1))]);
    let mut replica = Replica::new();
    let events = replica.hears([bad]);
    let [libp2p_smart_record::store::StoreEvent::Refused { writer, reason, .. }] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(*writer, Some(alice().peer_id()));
    assert!(matches!(reason, ValidationError::Invalid(_)));
}

/// This many updates in Alice's space, signed by Mallory.
fn forgeries(count: u64) -> Space {
    alice().space_of((0..count).map(|n| mallory().sign(&Update::saying(1).after(n))).collect())
}

#[test]
fn fifteen_bad_signatures_cost_a_neighbour_nothing() {
    let (bob, good) = neighbour();
    let mut replica = Replica::new();
    replica.put(&key(), encode([forgeries(15), good.clone()]));
    assert_eq!(replica.stored(), Some(encode([good])));
    let counters = replica.store.counters();
    assert_eq!(counters.refused.get(&Fault::Invalid), Some(&15));
    assert_eq!(counters.refused.get(&Fault::LimitExceeded), None);
    assert!(replica.view().get(&bob.peer_id()).is_some());
}

#[test]
fn after_sixteen_bad_signatures_the_rest_is_refused_unread() {
    let mut replica = Replica::new();
    replica.put(&key(), encode([forgeries(40)]));
    assert!(replica.is_empty());
    let counters = replica.store.counters();
    assert_eq!(counters.refused.get(&Fault::Invalid), Some(&16));
    assert_eq!(counters.refused.get(&Fault::LimitExceeded), Some(&24));
}

/// Signatures by the rule and against it: the space, and whether it is good.
fn irregular(seed: u64) -> (Space, bool) {
    let author = Author::ed25519(100 + seed);
    let update = Update::saying(seed as i64);
    let good = author.sign(&update);
    let public: [u8; 32] = author.public_key()[4..].try_into().unwrap();
    let secret = secret_scalar(&author);
    let torsion = EIGHT_TORSION[1 + seed as usize % 7];
    let message = message(&key(), &good.update);
    let by = |public: &[u8; 32], r: EdwardsPoint, nonce: Scalar| {
        let r = r.compress().to_bytes();
        let s = nonce + scalar_of(&[&r, public, &message]) * secret;
        space_of(public, &update, &r, &s.to_bytes())
    };
    let nonce = Scalar::from(seed + 3);
    let r = nonce * ED25519_BASEPOINT_POINT;
    let flipped = |at: usize| {
        let mut bad = good.clone();
        bad.signature[at] ^= 1;
        author.space([bad])
    };
    match seed % 8 {
        // Several batches have no bad one at all.
        _ if seed.is_multiple_of(3) => (author.space([good]), true),
        // The key, R, or both have a part of small order.
        0 => {
            let mixed = (secret * ED25519_BASEPOINT_POINT + torsion).compress().to_bytes();
            (by(&mixed, r, nonce), true)
        }
        1 => (by(&public, r + torsion, nonce), true),
        2 => {
            let mixed = (secret * ED25519_BASEPOINT_POINT + torsion).compress().to_bytes();
            (by(&mixed, r + EIGHT_TORSION[3], nonce), true)
        }
        3 => (by(&public, torsion, Scalar::ZERO), true),
        // Its equation holds: only its order is against the rule.
        4 => {
            let (key, r) = (torsion.compress().to_bytes(), EIGHT_TORSION[0].compress().to_bytes());
            (space_of(&key, &update, &r, &[0; 32]), false)
        }
        5 => (flipped(40), false),
        6 => (flipped(3), false),
        _ => (by(&public, r, nonce + Scalar::ONE), false),
    }
}

#[test]
fn together_with_others_a_signature_gets_the_answer_that_it_gets_alone() {
    let all: Vec<_> = (0..64).map(irregular).collect();
    for (space, is_good) in &all {
        if *is_good {
            accepted(space.clone());
        } else {
            refused(space.clone(), Fault::Invalid);
        }
    }
    // Groups of different sizes and orders, none with more than 15 bad ones.
    let mut dice = 1_u64;
    for size in (2..60).chain([48, 49, 64]) {
        let mut group: Vec<_> = all
            .iter()
            .filter(|_| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                size > 40 || dice >> 63 == 0
            })
            .cloned()
            .collect();
        group.rotate_left(size % all.len().min(7));
        group.truncate(size);
        let mut bad = 0;
        group.retain(|(_, is_good)| {
            bad += u64::from(!is_good);
            *is_good || bad <= if size % 3 == 0 { 0 } else { 15 }
        });
        let spaces = || group.iter().map(|(space, _)| space.clone());
        let good = spaces().zip(&group).filter(|(_, (_, is_good))| *is_good);
        let mut good: Vec<_> = good.map(|(space, _)| space).collect();
        good.sort_by(|a, b| a.public_key.cmp(&b.public_key));
        let (value, expected) = (encode(spaces()), encode(good));
        assert_eq!(consolidate(&[&value]).ok().unwrap_or_default(), expected);
        let mut replica = Replica::new();
        replica.put(&key(), value);
        assert_eq!(replica.stored().unwrap_or_default(), expected);
        let refused = replica.store.counters().refused.get(&Fault::Invalid).copied();
        let bad = group.iter().filter(|(_, is_good)| !is_good).count() as u64;
        assert_eq!(refused.unwrap_or(0), bad);
    }
}

#[test]
fn what_was_verified_together_counts_for_nothing_else() {
    let rules = SpaceRules::default();
    let value = encode((0..6).map(|n| Author::ed25519(n).says(&Update::saying(1))));
    let opened = || {
        let mut spaces =
            rules.open(&key(), value.clone().into(), &mut Refusals::default()).unwrap();
        let nothing = CoreSpace::new();
        let together = spaces.iter_mut().map(|(writer, updates)| (&*writer, &nothing, updates));
        rules.verify_together(&key(), together.collect(), Some(at(NOW)));
        spaces
    };
    let merged = |rules: &SpaceRules, key, writer, updates| {
        let (updates, mut refusals) = (Incoming::Unverified(updates), Refusals::default());
        let now = Some(at(NOW));
        let merged = rules.merge(&key, &writer, CoreSpace::new(), updates, now, &mut refusals);
        (merged.admitted, refusals.first().map(ValidationError::fault))
    };
    let memory = SignatureMemory::new(1_024);
    let small = SpaceRules::new(Limits::default().with_update_bytes(8), Open);
    for (writer, updates) in opened() {
        let again = || merged(&rules, key(), writer.clone(), updates.clone());
        assert_eq!(memory.during(Duration::MAX, again).0, (1, None));
        assert_eq!(memory.counts().verified, 0);
        let invalid = (0, Some(Fault::Invalid));
        let other = RecordKey::new("/sr/rooms/other");
        assert_eq!(merged(&rules, other, writer.clone(), updates.clone()), invalid);
        assert_eq!(merged(&rules, key(), mallory().writer(), updates.clone()), invalid);
        let limit = (0, Some(Fault::LimitExceeded));
        assert_eq!(merged(&small, key(), writer, updates), limit);
    }
}
