//! Public keys, and signatures that some implementations accept and others refuse.

use curve25519_dalek::{
    Scalar,
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
    edwards::EdwardsPoint,
    scalar::clamp_integer,
};
use libp2p_identity::Keypair;
use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use smart_record_core::Writer;
use smart_record_testing::{
    envelope::{bound, envelope, field},
    forge::{PublicKey, Update},
    keys::{self, ecdsa, ed25519, other_signature, secp256k1},
};

use super::{case, refused, rsa};
use crate::{forms::hex, judge::unhex};

const KEY: &[u8] = b"/sr/rooms/lobby";

fn key_of(keypair: &Keypair) -> Vec<u8> {
    keypair.public().encode_protobuf()
}

fn good_key(name: &str, about: &str, public_key: &[u8]) -> Value {
    let writer = Writer::decode(public_key.to_vec().into()).unwrap();
    case(
        name,
        "3",
        about,
        [
            ("public_key", json!(hex(public_key))),
            ("peer_id", json!(writer.peer_id().to_string())),
            ("peer_id_bytes", json!(hex(writer.peer_id().to_bytes()))),
        ],
    )
}

fn bad_key(name: &str, about: &str, public_key: &[u8], fault: &str, reason: &str) -> Value {
    let refusal = refused(fault, reason);
    case(name, "3", about, [("public_key", json!(hex(public_key))), ("refused", refusal)])
}

fn ed25519_key(point: &[u8; 32]) -> Vec<u8> {
    [&[0x08, 0x01, 0x12, 0x20][..], point].concat()
}

/// The prime 2^255 - 19 plus an offset, little-endian.
fn prime_plus(n: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    (bytes[0], bytes[31]) = (0xed + n, 0x7f);
    bytes
}

/// The prime of P-256.
const P256_PRIME: [u8; 32] = {
    let mut prime = [0xff; 32];
    let mut n = 4;
    while n < 20 {
        prime[n] = if n == 7 { 1 } else { 0 };
        n += 1;
    }
    prime
};
/// The y of a point of P-256 with x = 0.
const P256_ROOT_OF_B: &str = "66485c780e2f83d72433bd5d84a06bb6541c2af31dae871728bf856a174f93f4";

/// The x of a point of P-256 with y = 5.
const P256_X_OF_5: &str = "d7325d7646cd60d80a92738ceb345f844cffaf35841022cab176f692de8de1d7";
/// The prime of secp256k1, and 1.
const K256_PRIME_PLUS_1: [u8; 32] = {
    let mut number = [0xff; 32];
    number[27] = 0xfe;
    (number[30], number[31]) = (0xfc, 0x30);
    number
};

pub fn keys() -> Vec<Value> {
    let [alice, k256, p256, rsa] =
        [ed25519(1), secp256k1(), ecdsa(), keys::rsa()].map(|k| key_of(&k));
    let data = |key: &[u8]| PublicKey::decode(key).unwrap().data;
    let form = |r#type, data: &[u8]| PublicKey { r#type, data: data.to_vec() }.encode_to_vec();
    let malformed =
        |name: &str, about: &str, key: &[u8]| bad_key(name, about, key, "malformed", "public-key");
    let mut minus_one = prime_plus(0);
    minus_one[0] = 0xec;
    let mut no_point = [0; 32];
    no_point[0] = 2;
    let uncompressed = secp256k1().public().try_into_secp256k1().unwrap().to_bytes_uncompressed();
    let spki = data(&p256);
    let mut compressed = spki[..27 + 32].to_vec();
    compressed[1] = 57;
    compressed[24] = 34;
    compressed[26] = 2 | (spki[90] & 1);
    let mut other_curve = spki.clone();
    other_curve[22] ^= 1;
    let off_curve = [&[2][..], &[0xff; 32]].concat();
    let mut no_point_of_k256 = [0; 33];
    (no_point_of_k256[0], no_point_of_k256[32]) = (2, 5);
    let mut off_p256 = spki.clone();
    off_p256[90] ^= 1;
    let mut hybrid = spki.clone();
    hybrid[26] = 6 | (spki[90] & 1);
    let headed = |first: u8| [&[first], &data(&k256)[1..]].concat();
    let of_y = |y: [u8; 32]| [&spki[..27], &unhex(P256_X_OF_5), &y].concat();
    let mut five = [0; 32];
    five[31] = 5;
    // The prime and 5, with a carry: it ends in 96 bits of ones.
    let mut prime_and_5 = P256_PRIME;
    prime_and_5[19] += 1;
    prime_and_5[20..].fill(0);
    prime_and_5[31] = 4;
    let of_x = |x: [u8; 32]| [&spki[..27], &x, &unhex(P256_ROOT_OF_B)].concat();
    vec![
        good_key("ed25519", "36 bytes, so the peer id is the key itself.", &alice),
        good_key("secp256k1", "37 bytes, so the peer id is the key itself.", &k256),
        good_key("ecdsa", "More than 42 bytes, so the peer id is a hash.", &p256),
        good_key("rsa", "2,048 bits. The type 0 is written.", &rsa),
        good_key(
            "ed25519-least-below-prime",
            "y = p - 1 is reduced. It is of small order, so no signature of it is good.",
            &ed25519_key(&minus_one),
        ),
        good_key(
            "ed25519-no-point",
            "No point of the curve has this y. That is found with a signature only.",
            &ed25519_key(&no_point),
        ),
        malformed("ed25519-prime", "y = p is 0 in another form.", &ed25519_key(&prime_plus(0))),
        malformed("ed25519-prime-plus-one", "y = p + 1.", &ed25519_key(&prime_plus(1))),
        malformed(
            "ed25519-prime-with-sign",
            "y = p, with the bit of the sign of x.",
            &ed25519_key(&{
                let mut point = prime_plus(0);
                point[31] = 0xff;
                point
            }),
        ),
        malformed("ed25519-short", "31 bytes.", &form(1, &data(&alice)[1..])),
        malformed(
            "padded-type",
            "The type as a varint of two bytes.",
            &[&[0x08, 0x81, 0x00][..], &alice[2..]].concat(),
        ),
        malformed(
            "padded-length",
            "The length as a varint of two bytes.",
            &[&alice[..3], &[0xa0, 0x00], &alice[4..]].concat(),
        ),
        malformed("other-order", "The data before the type.", &[&alice[2..], &alice[..2]].concat()),
        malformed("type-twice", "The type twice.", &[&alice[..2], &alice[..]].concat()),
        malformed("unknown-field", "Something follows.", &[&alice[..], &field(3, b"x")].concat()),
        malformed("truncated", "The last byte is missing.", &alice[..alice.len() - 1]),
        malformed("no-data", "The type alone.", &alice[..2]),
        malformed("empty", "No bytes at all.", &[]),
        malformed("secp256k1-uncompressed", "65 bytes.", &form(2, &uncompressed)),
        malformed("secp256k1-off-curve", "x is beyond the prime.", &form(2, &off_curve)),
        malformed(
            "secp256k1-x-beyond-prime",
            "The prime and 1. There is a point with x = 1.",
            &form(2, &[&[2][..], &K256_PRIME_PLUS_1].concat()),
        ),
        malformed("secp256k1-compact", "A first byte of 05.", &form(2, &headed(5))),
        malformed("secp256k1-of-first-byte-4", "A first byte of 04.", &form(2, &headed(4))),
        malformed("secp256k1-of-first-byte-0", "A first byte of 00.", &form(2, &headed(0))),
        malformed("secp256k1-no-point", "No point has x = 5.", &form(2, &no_point_of_k256)),
        malformed(
            "secp256k1-34-bytes",
            "A byte before the point.",
            &form(2, &[&[0], &data(&k256)[..]].concat()),
        ),
        malformed("ecdsa-other-curve", "The name of another curve.", &form(3, &other_curve)),
        malformed("ecdsa-compressed", "The point in compressed form.", &form(3, &compressed)),
        malformed("ecdsa-trailing", "A byte after the DER.", &form(3, &[&spki[..], b"x"].concat())),
        malformed("ecdsa-off-curve", "One bit of y is another.", &form(3, &off_p256)),
        good_key("ecdsa-x-0", "A point with x = 0.", &form(3, &of_x([0; 32]))),
        malformed(
            "ecdsa-x-prime",
            "The same with the prime in the place of x.",
            &form(3, &of_x(P256_PRIME)),
        ),
        good_key("ecdsa-y-5", "A point with y = 5.", &form(3, &of_y(five))),
        malformed(
            "ecdsa-y-prime-plus-5",
            "The same with 5 more than the prime in the place of y.",
            &form(3, &of_y(prime_and_5)),
        ),
        malformed("ecdsa-hybrid", "A point in hybrid form.", &form(3, &hybrid)),
        malformed(
            "rsa-trailing",
            "A byte after the DER.",
            &form(0, &[&data(&rsa)[..], b"x"].concat()),
        ),
        malformed("rsa-of-ed25519", "The data of another type.", &form(0, &data(&alice))),
        bad_key(
            "type-4",
            "A type that there is not.",
            &form(4, &data(&alice)),
            "unsupported",
            "key-type",
        ),
        bad_key(
            "type-300",
            "Two bytes of type.",
            &form(300, &data(&alice)),
            "unsupported",
            "key-type",
        ),
        bad_key(
            "type-4-padded",
            "The type as a varint of two bytes.",
            &[&[0x08, 0x84, 0x00][..], &form(4, &data(&alice))[2..]].concat(),
            "unsupported",
            "key-type",
        ),
        malformed("type-4-cut", "The same, and the last byte is missing.", &form(4, b"ab")[..5]),
        bad_key(
            "1153-bytes",
            "Longer than any public key; its type is not looked at.",
            &form(4, &[1; 1_148]),
            "limit",
            "public-key-bytes",
        ),
    ]
    .into_iter()
    .chain(rsa_forms())
    .collect()
}

/// RSA keys in other forms than the one that there is. What the bit string holds is not looked at.
fn rsa_forms() -> Vec<Value> {
    const RSA_ENCRYPTION: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    const RSA_PSS: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
    const NULL: &[u8] = &[5, 0];
    let algorithm = |parts: &[&[u8]]| rsa::der(0x30, &parts.concat());
    let usual = algorithm(&[RSA_ENCRYPTION, NULL]);
    let bits = rsa::der(0x03, &[0, 1, 2, 3]);
    let body = [&usual[..], &bits].concat();
    let key = |data: Vec<u8>| PublicKey { r#type: 0, data }.encode_to_vec();
    let of = |parts: &[&[u8]]| key(rsa::der(0x30, &parts.concat()));
    let headed = |head: &[u8], rest: &[u8]| key([head, &body, rest].concat());
    let no = |name: &str, about: &str, key: Vec<u8>| {
        bad_key(name, about, &key, "malformed", "public-key")
    };
    let len = body.len() as u8;
    vec![
        good_key("rsa-of-any-bits", "The bit string is no RSAPublicKey.", &of(&[&body])),
        good_key("rsa-of-no-bits", "It may be empty.", &of(&[&usual, &rsa::der(0x03, &[0])])),
        no(
            "rsa-without-unused-bits",
            "The bit string does not say how many bits are unused.",
            of(&[&usual, &rsa::der(0x03, &[])]),
        ),
        no("rsa-unused-bit", "One bit is unused.", of(&[&usual, &rsa::der(0x03, &[1, 2])])),
        no("rsa-after-bits", "Something after the bit string.", of(&[&body, NULL])),
        no(
            "rsa-without-parameters",
            "The algorithm without NULL.",
            of(&[&algorithm(&[RSA_ENCRYPTION]), &bits]),
        ),
        no(
            "rsa-other-parameters",
            "Empty bytes in the place of NULL.",
            of(&[&algorithm(&[RSA_ENCRYPTION, &[4, 0]]), &bits]),
        ),
        no(
            "rsa-after-parameters",
            "Something after NULL.",
            of(&[&algorithm(&[RSA_ENCRYPTION, NULL, NULL]), &bits]),
        ),
        no("rsa-other-algorithm", "RSASSA-PSS.", of(&[&algorithm(&[RSA_PSS, NULL]), &bits])),
        no("rsa-long-length", "A length in two bytes.", headed(&[0x30, 0x81, len], &[])),
        no("rsa-longer-length", "A length in three bytes.", headed(&[0x30, 0x82, 0, len], &[])),
        no("rsa-indefinite-length", "The length 80.", headed(&[0x30, 0x80], &[0, 0])),
        no(
            "rsa-long-length-of-bits",
            "The length of the bit string in two bytes.",
            of(&[&usual, &[0x03, 0x81, 4, 0, 1, 2, 3]]),
        ),
        good_key("1152-bytes", "The longest public key.", &rsa::of_len(1_152)),
        good_key("42-bytes", "The longest whose peer id is the key itself.", &rsa::of_len(42)),
        good_key("43-bytes", "The shortest whose peer id is a hash.", &rsa::of_len(43)),
    ]
}

/// A signed message and its signer.
struct Signed {
    domain: &'static str,
    payload_type: &'static str,
    /// The key that it is bound to.
    key: Option<&'static [u8]>,
    body: Vec<u8>,
}

impl Signed {
    fn update() -> Self {
        Self {
            domain: "libp2p-smart-record",
            payload_type: "/libp2p-smart-record/update",
            key: Some(KEY),
            body: Update::saying(1).encode_to_vec(),
        }
    }

    fn preimage(&self) -> Vec<u8> {
        match self.key {
            Some(key) => bound(self.domain, self.payload_type, key, &self.body),
            None => envelope(self.domain.as_bytes(), self.payload_type.as_bytes(), &self.body),
        }
    }

    fn case(&self, name: &str, about: &str, key: &[u8], signature: &[u8], good: bool) -> Value {
        let mut case = case(
            name,
            if good && name.starts_with("over-") { "4.1" } else { "4.2" },
            about,
            [
                ("domain", json!(self.domain)),
                ("payload_type", json!(self.payload_type)),
                ("body", json!(hex(&self.body))),
                ("preimage", json!(hex(self.preimage()))),
                ("public_key", json!(hex(key))),
                ("signature", json!(hex(signature))),
                ("good", json!(good)),
            ],
        );
        if let Some(key) = self.key {
            case["key"] = json!(hex(key));
        }
        case
    }
}

fn scalar_of(parts: &[&[u8]]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&Sha512::digest(parts.concat()).into())
}

/// The secret scalar of the Ed25519 key with this seed.
fn secret_scalar(seed: u8) -> Scalar {
    let secret: [u8; 32] = Sha512::digest([seed; 32])[..32].try_into().unwrap();
    Scalar::from_bytes_mod_order(clamp_integer(secret))
}

/// `R = r B`, `S = r + H(R ‖ A ‖ m) a`, with a given nonce.
fn sign_with(secret: Scalar, public: &[u8; 32], nonce: u64, message: &[u8]) -> Vec<u8> {
    let nonce = Scalar::from(nonce);
    let r = (nonce * ED25519_BASEPOINT_POINT).compress().to_bytes();
    let s = nonce + scalar_of(&[&r, public, message]) * secret;
    [r, s.to_bytes()].concat()
}

/// `s + L`, little-endian.
fn plus_order(s: &[u8; 32]) -> [u8; 32] {
    let mut carry = 0_u16;
    std::array::from_fn(|n| {
        carry += u16::from(s[n]) + u16::from(ORDER[n]);
        let digit = carry as u8;
        carry >>= 8;
        digit
    })
}

/// `y = -1` with the sign 1.
fn minus_one_with_sign() -> [u8; 32] {
    let mut point = EIGHT_TORSION[4].compress().to_bytes();
    point[31] |= 0x80;
    point
}

/// The order of the base point of Ed25519, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

pub fn signatures() -> Vec<Value> {
    let mut cases = everything_signed();
    cases.extend(ed25519_signatures());
    cases.extend(ecdsa_signatures());
    cases.extend(chosen_numbers());
    let update = Signed::update();
    let good = keys::rsa().sign(&update.preimage()).unwrap();
    let rsa_key = key_of(&keys::rsa());
    cases.push(update.case("rsa", "A good signature.", &rsa_key, &good, true));
    let long = [&[0], &good[..]].concat();
    cases.push(update.case("rsa-longer", "A zero before it.", &rsa_key, &long, false));
    let mut flipped = good;
    flipped[255] ^= 1;
    cases.push(update.case("rsa-flipped", "One bit is another.", &rsa_key, &flipped, false));
    cases.extend(rsa_encodings());
    cases
}

/// RSA signatures that differ in what they encode, and keys of several sizes.
fn rsa_encodings() -> Vec<Value> {
    // The digest is odd, so that a key can be made for what the signature encodes.
    let signed = (1..)
        .map(|n| Signed { body: Update::saying(n).encode_to_vec(), ..Signed::update() })
        .find(|signed| rsa::digest(&signed.preimage())[31] % 2 == 1)
        .unwrap();
    let digest = rsa::digest(&signed.preimage());
    let info = [rsa::WITH_NULL, &digest].concat();
    let cubed = |encoded: &[u8]| {
        let (modulus, signature) = rsa::raised(3, encoded);
        (rsa::public_key(&modulus, 3), signature)
    };
    let case = |name: &str, about: &str, encoded: &[u8], good| {
        let (key, signature) = cubed(encoded);
        signed.case(name, about, &key, &signature, good)
    };
    let no = |name: &str, about: &str, key: &[u8], signature: &[u8]| {
        signed.case(name, about, key, signature, false)
    };
    // With an even digest the modulus is even.
    let other = (1..)
        .map(|n| Signed { body: Update::saying(n).encode_to_vec(), ..Signed::update() })
        .find(|signed| rsa::digest(&signed.preimage())[31].is_multiple_of(2))
        .unwrap();
    let of_other = {
        let info = [rsa::WITH_NULL, &rsa::digest(&other.preimage())].concat();
        cubed(&rsa::padded(256, &[&info]))
    };
    let (modulus, third) = rsa::raised(3, &rsa::padded(256, &[&info]));
    let (modulus_of_4, fourth) = rsa::raised(4, &rsa::padded(256, &[&info]));
    let (modulus_of_1025, long) = rsa::raised(3, &rsa::padded(1_025, &[&info]));
    let rsa_key = key_of(&keys::rsa());
    let [greatest, too_large] = rsa::OF_LARGE_EXPONENTS.map(|(exponent, signature)| {
        (rsa::public_key(rsa::modulus(&rsa_key), exponent), unhex(signature))
    });
    let update = Signed::update();
    let of_len = |len| rsa::padded(len, &[&info]);
    // A modulus and an exponent of a first byte of 80 or more.
    let large = unsigned(rsa::modulus(&rsa_key));
    let exponent = [2, 3, 1, 0, 1];
    let (modulus_of_227, of_227) = rsa::raised(227, &rsa::padded(256, &[&info]));
    let of_numbers = |numbers: &[&[u8]]| rsa::with_bits(&rsa::der(0x30, &numbers.concat()));
    let small = rsa::number(&modulus);
    let by_rsa = keys::rsa().sign(&update.preimage()).unwrap();
    let garbage = [0x01; 256 - 3 - 8 - 19 - 32];
    vec![
        case(
            "rsa-exponent-3",
            "The least exponent, and a modulus of 2,043 bits.",
            &of_len(256),
            true,
        ),
        case("rsa-1024-bytes", "The longest modulus.", &of_len(1_024), true),
        case("rsa-255-bytes", "A modulus that is too short.", &of_len(255), false),
        signed.case(
            "rsa-exponent-1",
            "An exponent that is too small.",
            &rsa::of_exponent_1(256),
            &of_len(256),
            false,
        ),
        case(
            "rsa-without-null",
            "The algorithm of the digest without NULL.",
            &rsa::padded(256, &[rsa::WITHOUT_NULL, &digest]),
            false,
        ),
        case(
            "rsa-short-padding",
            "Eight bytes of padding, and something after the digest.",
            &[&rsa::padded(256 - garbage.len(), &[&info])[..], &garbage].concat(),
            false,
        ),
        case(
            "rsa-zero-padding",
            "The padding is zeros.",
            &[&[0, 1][..], &vec![0; 256 - 2 - info.len()], &info].concat(),
            false,
        ),
        no(
            "rsa-1025-bytes",
            "A modulus that is too long.",
            &rsa::public_key(&modulus_of_1025, 3),
            &long,
        ),
        no("rsa-exponent-even", "The exponent 4.", &rsa::public_key(&modulus_of_4, 4), &fourth),
        other.case("rsa-modulus-even", "A modulus that is even.", &of_other.0, &of_other.1, false),
        no(
            "rsa-beyond-modulus",
            "As a number, the signature is that of rsa-exponent-3 and the modulus.",
            &rsa::public_key(&modulus, 3),
            &rsa::sum(&third, &modulus),
        ),
        no(
            "rsa-key-padded",
            "A modulus with a zero that its sign does not need.",
            &rsa::padded_key(&modulus, 3),
            &third,
        ),
        no(
            "rsa-key-trailing",
            "A byte after the DER in the bit string.",
            &rsa::trailing_key(&modulus, 3),
            &third,
        ),
        no(
            "rsa-key-after-exponent",
            "An integer after the exponent.",
            &of_numbers(&[&small, &[2, 1, 3], &[2, 1, 3]]),
            &third,
        ),
        no(
            "rsa-exponent-padded",
            "An exponent with a zero that its sign does not need.",
            &of_numbers(&[&small, &[2, 2, 0, 3]]),
            &third,
        ),
        update.case(
            "rsa-modulus-negative",
            "A modulus without the zero of its sign.",
            &of_numbers(&[&large, &exponent]),
            &by_rsa,
            false,
        ),
        signed.case(
            "rsa-exponent-227",
            "An exponent of two bytes, of which the first is the zero of its sign.",
            &rsa::public_key(&modulus_of_227, 227),
            &of_227,
            true,
        ),
        no(
            "rsa-exponent-negative",
            "The same without that zero.",
            &of_numbers(&[&rsa::number(&modulus_of_227), &[2, 1, 227]]),
            &of_227,
        ),
        update.case(
            "rsa-exponent-greatest",
            "The greatest exponent, 2^33 - 1.",
            &greatest.0,
            &greatest.1,
            true,
        ),
        update.case(
            "rsa-exponent-too-large",
            "The exponent 2^33 + 5.",
            &too_large.0,
            &too_large.1,
            false,
        ),
    ]
}

/// One good signature for each purpose.
fn everything_signed() -> Vec<Value> {
    let purposes = [
        ("update", "libp2p-smart-record", "/libp2p-smart-record/update", true),
        ("iprs", "libp2p-iprs", "/libp2p-iprs/record", true),
        ("announcement-client", "libp2p-presence", "/libp2p-presence/announcement/client", true),
        ("announcement-node", "libp2p-presence", "/libp2p-presence/announcement/node", true),
        ("withdrawal", "libp2p-presence", "/libp2p-presence/withdrawal", true),
        ("signed-record", "libp2p-signed-record", "/libp2p-signed-record/record", false),
    ];
    let alice = ed25519(1);
    let signed = purposes.map(|(name, domain, payload_type, is_bound)| {
        let key = is_bound.then_some(KEY);
        // Long enough for lengths of two bytes.
        let signed = Signed { domain, payload_type, key, body: vec![7; 200] };
        let signature = alice.sign(&signed.preimage()).unwrap();
        let about = "What is signed for this purpose, of a body of 200 bytes.";
        signed.case(&format!("over-{name}"), about, &key_of(&alice), &signature, true)
    });
    let other = Signed { key: Some(b"/sr/rooms/attic"), ..Signed::update() };
    let moved = alice.sign(&other.preimage()).unwrap();
    let moved = Signed::update().case(
        "moved",
        "A good signature for another key of the DHT.",
        &key_of(&alice),
        &moved,
        false,
    );
    signed.into_iter().chain([moved]).collect()
}

fn ed25519_signatures() -> Vec<Value> {
    let update = Signed::update();
    let message = update.preimage();
    let alice = ed25519(1);
    let key = key_of(&alice);
    let public: [u8; 32] = key[4..].try_into().unwrap();
    let secret = secret_scalar(1);
    let good = alice.sign(&message).unwrap();
    let s: [u8; 32] = good[32..].try_into().unwrap();
    let mut cases = vec![
        update.case("ed25519", "A good signature.", &key, &good, true),
        update.case(
            "ed25519-other-nonce",
            "Another good signature of the same bytes, with a nonce of the signer's choice.",
            &key,
            &sign_with(secret, &public, 7, &message),
            true,
        ),
        update.case("ed25519-of-another", "Of another key.", &key_of(&ed25519(2)), &good, false),
        update.case("ed25519-short", "63 bytes.", &key, &good[..63], false),
        update.case("ed25519-empty", "No bytes.", &key, &[], false),
        update.case(
            "ed25519-s-plus-order",
            "S + L is the same number to who reduces it.",
            &key,
            &[&good[..32], &plus_order(&s)].concat(),
            false,
        ),
    ];
    // With R of small order, S = H(R ‖ A ‖ m) a.
    for (n, point) in EIGHT_TORSION.iter().enumerate() {
        let r = point.compress().to_bytes();
        let s = scalar_of(&[&r, &public, &message]) * secret;
        cases.push(update.case(
            &format!("ed25519-small-order-r-{n}"),
            "R is of small order.",
            &key,
            &[r, s.to_bytes()].concat(),
            true,
        ));
    }
    // R = r B + T with T of order 8.
    let torsion = EIGHT_TORSION[1];
    let r = (Scalar::from(9_u8) * ED25519_BASEPOINT_POINT + torsion).compress().to_bytes();
    let s = Scalar::from(9_u8) + scalar_of(&[&r, &public, &message]) * secret;
    cases.push(update.case(
        "ed25519-mixed-r",
        "R has a part of order 8.",
        &key,
        &[r, s.to_bytes()].concat(),
        true,
    ));
    // R = 1 in the forms y = p + 1 and y = 1 with a sign.
    let mut one_with_sign = [0; 32];
    (one_with_sign[0], one_with_sign[31]) = (1, 0x80);
    for (name, r) in [("beyond-prime", prime_plus(1)), ("odd-sign", one_with_sign)] {
        let s = scalar_of(&[&r, &public, &message]) * secret;
        cases.push(update.case(
            &format!("ed25519-r-{name}"),
            "R is the neutral element in another form than its own.",
            &key,
            &[r, s.to_bytes()].concat(),
            true,
        ));
        let own = EIGHT_TORSION[0].compress().to_bytes();
        let s = scalar_of(&[&own, &public, &message]) * secret;
        cases.push(update.case(
            &format!("ed25519-r-{name}-hashed-as-its-own"),
            "The same, but k is the hash of its own form.",
            &key,
            &[r, s.to_bytes()].concat(),
            false,
        ));
    }
    let mut no_point = [0; 32];
    no_point[0] = 2;
    let s = scalar_of(&[&no_point, &public, &message]) * secret;
    cases.push(update.case(
        "ed25519-r-no-point",
        "No point of the curve has this R.",
        &key,
        &[no_point, s.to_bytes()].concat(),
        false,
    ));
    cases.push(update.case(
        "ed25519-key-no-point",
        "The public key is no point of the curve.",
        &ed25519_key(&no_point),
        &good,
        false,
    ));
    for (name, a) in [("one", one_with_sign), ("minus-one", minus_one_with_sign())] {
        let signature = [EIGHT_TORSION[0].compress().to_bytes(), [0; 32]].concat();
        cases.push(update.case(
            &format!("ed25519-small-order-key-{name}-with-sign"),
            "The public key has x = 0 and the sign 1; R is the neutral element and S is 0.",
            &ed25519_key(&a),
            &signature,
            false,
        ));
    }
    // With A of small order, R = 1 and S = 0 are a signature of some messages.
    for (n, point) in EIGHT_TORSION.iter().enumerate() {
        let a = point.compress().to_bytes();
        let r = EIGHT_TORSION[0].compress().to_bytes();
        cases.push(update.case(
            &format!("ed25519-small-order-key-{n}"),
            "The public key is of small order, R is the neutral element and S is 0.",
            &ed25519_key(&a),
            &[r, [0; 32]].concat(),
            false,
        ));
    }
    // With k = H(R ‖ A ‖ m), and T of order 8 in both, these satisfy the equation of rule 4
    // without the factor 8 too.
    let a = torsion.compress().to_bytes();
    let signature =
        (1..).map(|nonce| sign_with(Scalar::ZERO, &a, nonce, &message)).find(|signature| {
            scalar_of(&[&signature[..32], &a, &message]) * torsion == EdwardsPoint::default()
        });
    cases.push(update.case(
        "ed25519-small-order-key-large-r",
        "The public key is of order 8 and R is not; A = T, k T = 0, S B = R.",
        &ed25519_key(&a),
        &signature.unwrap(),
        false,
    ));
    let (a, s) = (1_u64..)
        .map(|n| {
            let secret = secret + Scalar::from(n);
            let mixed = (secret * ED25519_BASEPOINT_POINT + torsion).compress().to_bytes();
            let k = scalar_of(&[&a, &mixed, &message]);
            (mixed, k * secret, k * torsion == -torsion)
        })
        .find_map(|(mixed, s, fits)| fits.then_some((mixed, s)))
        .unwrap();
    cases.push(update.case(
        "ed25519-small-order-r-mixed-key",
        "R is of order 8 and the public key is not; R = T, A = a B + T, k T = -T, S = k a.",
        &ed25519_key(&a),
        &[torsion.compress().to_bytes(), s.to_bytes()].concat(),
        true,
    ));
    // A = a B + T with T of order 8.
    let mixed = (secret * ED25519_BASEPOINT_POINT + torsion).compress().to_bytes();
    let signed = (0..64).map(|nonce| {
        let signature = sign_with(secret, &mixed, 1 + nonce, &message);
        let k = scalar_of(&[&signature[..32], &mixed, &message]);
        (signature, k * torsion == EdwardsPoint::default())
    });
    let signed: Vec<_> = signed.collect();
    for is_strict in [true, false] {
        let (signature, _) = signed.iter().find(|(_, fits)| *fits == is_strict).unwrap();
        let (name, about) = if is_strict {
            (
                "ed25519-mixed-order",
                "The public key has a part of order 8, of which k is a multiple.",
            )
        } else {
            (
                "ed25519-mixed-order-cofactored",
                "The equation holds only if it is multiplied by the cofactor.",
            )
        };
        cases.push(update.case(name, about, &ed25519_key(&mixed), signature, true));
    }
    cases
}

fn ecdsa_signatures() -> Vec<Value> {
    let update = Signed::update();
    let message = update.preimage();
    let mut cases = Vec::new();
    for (name, keypair) in [("ecdsa", ecdsa()), ("secp256k1", secp256k1())] {
        let key = key_of(&keypair);
        let der = keypair.sign(&message).unwrap();
        let [r, s] = from_der(&der);
        let mut case = |form: &str, about: &str, signature: &[u8], good| {
            let name = format!("{name}{form}");
            cases.push(update.case(&name, about, &key, signature, good));
        };
        case("", "A good signature.", &der, true);
        let padded = {
            let r = [&[0, 0][..], &r].concat();
            let rest = &to_der(&[[0; 32], s])[5..];
            let body = [&[0x02, r.len() as u8], &r[..], rest].concat();
            [&[0x30, body.len() as u8], &body[..]].concat()
        };
        case("-padded-r", "r with zeros that its sign does not need.", &padded, false);
        case(
            "-long-length",
            "The length in two bytes.",
            &[&[0x30, 0x81], &der[1..]].concat(),
            false,
        );
        case("-trailing", "A byte after the DER.", &[&der[..], &[0]].concat(), false);
        case("-raw", "r and s without DER.", &[r, s].concat(), false);
        let inside = {
            let body = [&der[2..], &[2, 1, 1]].concat();
            [&[0x30, body.len() as u8], &body[..]].concat()
        };
        case("-third-number", "A number after s, in the SEQUENCE.", &inside, false);
        case("-r-zero", "r = 0.", &to_der(&[[0; 32], s]), false);
        case("-s-zero", "s = 0.", &to_der(&[r, [0; 32]]), false);
        case("-r-too-large", "r is beyond the order.", &to_der(&[[0xff; 32], s]), false);
    }
    for (name, keypair) in [("ecdsa", ecdsa()), ("secp256k1", secp256k1())] {
        let sign = |n| {
            let signed = Signed { body: Update::saying(n).encode_to_vec(), ..Signed::update() };
            let signature = keypair.sign(&signed.preimage()).unwrap();
            (signed, from_der(&signature))
        };
        let (signed, [r, s]) = (1..).map(sign).find(|(_, [r, _])| r[0] >= 0x80).unwrap();
        let body = [unsigned(&r), to_der(&[[1; 32], s])[36..].to_vec()].concat();
        let negative = [&[0x30, body.len() as u8], &body[..]].concat();
        cases.push(signed.case(
            &format!("{name}-r-of-sign"),
            "r has a zero for its sign.",
            &key_of(&keypair),
            &to_der(&[r, s]),
            true,
        ));
        cases.push(signed.case(
            &format!("{name}-r-negative"),
            "The same without that zero.",
            &key_of(&keypair),
            &negative,
            false,
        ));
    }
    let keypair = ecdsa();
    let other = other_signature(&keypair.sign(&message).unwrap());
    let about = "n - s in the place of s: anyone can make it, and it is good.";
    cases.push(update.case("ecdsa-mirrored", about, &key_of(&keypair), &other, true));
    let keypair = secp256k1();
    let other = mirrored(&keypair.sign(&message).unwrap());
    let about = "n - s in the place of s: high, so it is not good.";
    cases.push(update.case("secp256k1-high-s", about, &key_of(&keypair), &other, false));
    cases
}

/// Signatures with chosen numbers, and the public keys by which they are good, were it not for the
/// rule of low numbers. Nobody knows the secret keys: each was computed from the signature.
fn chosen_numbers() -> [Value; 4] {
    const HALF: &str = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0";
    let update = Signed::update();
    let small = |n: u8| {
        let mut number = [0; 32];
        number[31] = n;
        number
    };
    let half: [u8; 32] = unhex(HALF).try_into().unwrap();
    let mut more_than_half = half;
    more_than_half[31] += 1;
    let k256 = |name: &str, about: &str, point: &str, numbers: [[u8; 32]; 2], good| {
        let key = PublicKey { r#type: 2, data: unhex(point) }.encode_to_vec();
        update.case(&format!("secp256k1-{name}"), about, &key, &to_der(&numbers), good)
    };
    let p256 = {
        let point = "dcb4d2422f4a32348e278709316c40cd2188d26ea1a187e77bfcc43304fb064c\
                     dadbbf7ce162e7bb79c88a182b3b4d1f81df24ada9deb70c7b08f9ac9e2667c0";
        let spki = PublicKey::decode(&key_of(&ecdsa())[..]).unwrap().data;
        let data = [&spki[..27], &unhex(point)].concat();
        PublicKey { r#type: 3, data }.encode_to_vec()
    };
    let beyond = "The x of the point R is more than the order, so r is x less the order.";
    [
        k256(
            "s-half",
            "s is half of the order, rounded down: the greatest that is low.",
            "03b0e11315c5a4cd23c534bf105f559c2376ad58a6a718a80eb68504f73e81d3eb",
            [small(6), half],
            true,
        ),
        k256(
            "s-more-than-half",
            "s is one more: the least that is high.",
            "03bf605eb6b67717b4d135e19e6b1ec636aab8abffc90d4f94dbac3b78d5fa6698",
            [small(6), more_than_half],
            false,
        ),
        k256(
            "x-beyond-order",
            beyond,
            "03bdc9ba38ab45b55c07dea506e2d932fbbd7dbf5625c5d1faeff24ab179b410b1",
            [small(2), small(3)],
            true,
        ),
        update.case("ecdsa-x-beyond-order", beyond, &p256, &to_der(&[small(3), small(3)]), true),
    ]
}

/// The two numbers of a DER signature, big-endian.
pub fn from_der(signature: &[u8]) -> [[u8; 32]; 2] {
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
    let numbers = numbers.map(|number| {
        let first = number.iter().position(|byte| *byte != 0).unwrap_or(31);
        let sign = if number[first] & 0x80 == 0 { &[][..] } else { &[0] };
        let number = [sign, &number[first..]].concat();
        [&[0x02, number.len() as u8], &number[..]].concat()
    });
    let body = numbers.concat();
    [&[0x30, body.len() as u8], &body[..]].concat()
}

/// The DER of a number without the zero of its sign.
fn unsigned(number: &[u8]) -> Vec<u8> {
    rsa::der(0x02, number)
}

/// `(r, n - s)` of a signature of secp256k1.
fn mirrored(signature: &[u8]) -> Vec<u8> {
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36,
        0x41, 0x41,
    ];
    let [r, s] = from_der(signature);
    let mut borrow = 0;
    let mut difference = [0; 32];
    for digit in (0..32).rev() {
        let value = i16::from(N[digit]) - i16::from(s[digit]) - borrow;
        borrow = i16::from(value < 0);
        difference[digit] = value as u8;
    }
    to_der(&[r, difference])
}
