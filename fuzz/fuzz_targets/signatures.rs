//! Signatures of Ed25519 that are verified together get the answers that each gets alone.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use curve25519_dalek::{
    EdwardsPoint, Scalar,
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
};
use libfuzzer_sys::fuzz_target;
use libp2p_smart_record::{SpaceRules, Writer};
use libp2p_smart_record_fuzz::{
    forge::{SignedUpdate, Space, Update, encode, key, message},
    now,
};
use prost::Message;
use sha2::{Digest, Sha512};

/// More than are verified in one batch.
const MOST: usize = 100;

/// After so many bad signatures a value is not verified any further.
const MAX_BAD: usize = 15;

/// An update, and how its signature is made.
#[derive(Arbitrary, Debug)]
struct Forged {
    /// The discrete logarithm of the public key; 0: the key is of small order.
    a: u16,
    /// What is added to the public key: a point of small order.
    beside_a: u8,
    /// The same for R, the first half of the signature.
    r: u16,
    beside_r: u8,
    says: i8,
    fault: Option<Fault>,
}

#[derive(Arbitrary, Debug)]
enum Fault {
    /// S is greater by this. If it is 0, it is no fault.
    Adds(u16),
    /// S is taken from the key alone, as if R were neutral.
    ForgetsR,
    /// S is greater by the order of the group.
    IsNotReduced,
    /// A bit is flipped.
    Flips(u16),
    /// Bytes are missing.
    Ends(u8),
    /// These bytes stand instead of the public key or the signature.
    Key([u8; 32]),
    Signature([[u8; 32]; 2]),
}

/// The order of the group, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// A multiple of the base, and a point of small order.
fn point(scalar: Scalar, beside: u8) -> [u8; 32] {
    let beside: EdwardsPoint = EIGHT_TORSION[usize::from(beside % 8)];
    (scalar * ED25519_BASEPOINT_POINT + beside).compress().to_bytes()
}

/// The sum of a scalar and the order of the group, which fits into 256 bits.
fn not_reduced(scalar: Scalar) -> [u8; 32] {
    let mut carry = 0;
    let mut bytes = scalar.to_bytes();
    for (byte, add) in bytes.iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = ((sum & 0xff) as u8, sum >> 8);
    }
    bytes
}

impl Forged {
    /// The public key and the signed update.
    fn sign(&self) -> ([u8; 32], SignedUpdate) {
        let (a, r) = (Scalar::from(self.a), Scalar::from(self.r));
        let public_key = match &self.fault {
            Some(Fault::Key(bytes)) => *bytes,
            _ => point(a, self.beside_a),
        };
        let commitment = point(r, self.beside_r);
        let update = Update::saying(self.says.into()).encode_to_vec();
        let hash = Sha512::new().chain_update(commitment).chain_update(public_key);
        let hash = hash.chain_update(message(&key(), &update)).finalize();
        let good = r + Scalar::from_bytes_mod_order_wide(&hash.into()) * a;
        let s = match &self.fault {
            Some(Fault::Adds(n)) => (good + Scalar::from(*n)).to_bytes(),
            Some(Fault::ForgetsR) => (good - r).to_bytes(),
            Some(Fault::IsNotReduced) => not_reduced(good),
            _ => good.to_bytes(),
        };
        let mut signature = [commitment, s].concat();
        match &self.fault {
            Some(Fault::Flips(bit)) => {
                let bit = usize::from(*bit) % (8 * signature.len());
                signature[bit / 8] ^= 1 << (bit % 8);
            }
            Some(Fault::Ends(len)) => signature.truncate(usize::from(*len)),
            Some(Fault::Signature(halves)) => signature = halves.concat(),
            _ => {}
        }
        (public_key, SignedUpdate { update, signature })
    }
}

fuzz_target!(|forged: Vec<Forged>| {
    let (rules, key, now) = (SpaceRules::default(), key(), now());
    // A space for each key; what is said first under it counts.
    let mut spaces = BTreeMap::new();
    for (public_key, update) in forged.iter().take(MOST).map(Forged::sign) {
        let public_key = [&[8, 1, 18, 32][..], &public_key].concat();
        let updates = vec![update];
        spaces.entry(public_key.clone()).or_insert(Space { public_key, updates });
    }
    let is_known = |space: &Space| Writer::decode(space.public_key.clone().into()).is_ok();
    spaces.retain(|_, space| is_known(space));

    let good = |spaces: &[Space]| -> Vec<Writer> {
        let record = rules.read(&key, &encode(spaces.iter().cloned()), now);
        record.map_or_else(
            |_| Vec::new(),
            |record| record.spaces().map(|(writer, _)| writer.clone()).collect(),
        )
    };
    let spaces: Vec<_> = spaces.into_values().collect();
    let mut alone: Vec<_> =
        spaces.iter().flat_map(|space| good(std::slice::from_ref(space))).collect();
    alone.sort_unstable();
    let together = good(&spaces);
    if spaces.len() - alone.len() <= MAX_BAD {
        assert_eq!(together, alone);
    } else {
        assert!(together.iter().all(|writer| alone.contains(writer)));
    }
    // A signature of the right form by a key of large order is good, whatever is added to its
    // points.
    for (forged, (public_key, _)) in forged.iter().take(MOST).map(|it| (it, it.sign())) {
        let public_key = [&[8, 1, 18, 32][..], &public_key].concat();
        if forged.fault.is_none() && forged.a > 0 {
            let first = spaces.iter().find(|space| space.public_key == public_key);
            let is_first = first.is_some_and(|space| space.updates[0] == forged.sign().1);
            let is_good = |writer: &Writer| writer.as_bytes() == public_key;
            assert!(!is_first || alone.iter().any(is_good));
        }
    }
});
