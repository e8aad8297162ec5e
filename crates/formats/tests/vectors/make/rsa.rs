//! RSA signatures whose encoded message is chosen, good or not.

use prost::Message;
use sha2::{Digest, Sha256};
use smart_record_testing::forge::PublicKey;

/// The `DigestInfo` of SHA-256 up to the digest, with the `NULL` of its algorithm and without it.
pub const WITH_NULL: &[u8] =
    b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
pub const WITHOUT_NULL: &[u8] =
    b"\x30\x2f\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x04\x20";

/// An encoded message of `len` bytes: `00 01`, bytes `ff`, `00`, and this.
pub fn padded(len: usize, rest: &[&[u8]]) -> Vec<u8> {
    let rest = rest.concat();
    [&[0, 1][..], &vec![0xff; len - 3 - rest.len()], &[0], &rest].concat()
}

/// A public key of this small exponent, and the signature by it that encodes to this message.
///
/// The signature is a power of two, `s = 2^a`, and the modulus is `n = s^e - message`, so
/// `s^e mod n = message`. The modulus is odd if the message is. Nobody knows the factors of `n`,
/// and verifying needs none.
pub fn raised(exponent: u8, message: &[u8]) -> (Number, Vec<u8>) {
    let len = message.len();
    let power = |exponent: usize| {
        let mut number = vec![0; len];
        number[len - 1 - exponent / 8] = 1 << (exponent % 8);
        number
    };
    let e = usize::from(exponent);
    let a = (8 * len - 4) / e;
    let mut modulus = power(e * a);
    let mut borrow = 0;
    for (digit, subtracted) in modulus.iter_mut().zip(message).rev() {
        let difference = i16::from(*digit) - i16::from(*subtracted) - borrow;
        borrow = i16::from(difference < 0);
        *digit = difference as u8;
    }
    (modulus, power(a))
}

/// A number, big-endian.
pub type Number = Vec<u8>;

/// The sum of two numbers of the same length.
pub fn sum(a: &[u8], b: &[u8]) -> Number {
    let mut carry = 0;
    let mut sum = a.to_vec();
    for (digit, added) in sum.iter_mut().zip(b).rev() {
        let value = u16::from(*digit) + u16::from(*added) + carry;
        (*digit, carry) = (value as u8, value >> 8);
    }
    assert_eq!(carry, 0);
    sum
}

/// The modulus of the RSA key of the tests: it stands before its exponent, 65,537.
pub fn modulus(public_key: &[u8]) -> &[u8] {
    let end = public_key.len() - 5;
    &public_key[end - 256..end]
}

/// A public key of the exponent 1, of which each message is its own signature.
pub fn of_exponent_1(len: usize) -> Vec<u8> {
    public_key(&vec![0xff; len], 1)
}

pub fn public_key(modulus: &[u8], exponent: u64) -> Vec<u8> {
    with_bits(&key_of(&number(modulus), &number(&exponent.to_be_bytes())))
}

/// The DER of a public key whose modulus begins with a zero too many.
pub fn padded_key(modulus: &[u8], exponent: u64) -> Vec<u8> {
    let padded = der(0x02, &[&[0, 0], modulus].concat());
    with_bits(&key_of(&padded, &number(&exponent.to_be_bytes())))
}

/// A public key with a byte after its DER, inside the bit string.
pub fn trailing_key(modulus: &[u8], exponent: u64) -> Vec<u8> {
    with_bits(&[&key_of(&number(modulus), &number(&exponent.to_be_bytes()))[..], &[0]].concat())
}

fn key_of(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    der(0x30, &[modulus, exponent].concat())
}

/// The DER of a number that is not negative.
pub fn number(number: &[u8]) -> Vec<u8> {
    let first = number.iter().position(|byte| *byte != 0).unwrap();
    let sign = if number[first] & 0x80 == 0 { &[][..] } else { &[0] };
    der(0x02, &[sign, &number[first..]].concat())
}

/// A public key whose bit string holds these bytes.
pub fn with_bits(bits: &[u8]) -> Vec<u8> {
    const ALGORITHM: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    let bits = der(0x03, &[&[0], bits].concat());
    let data = der(0x30, &[ALGORITHM, &bits].concat());
    PublicKey { r#type: 0, data }.encode_to_vec()
}

/// A public key of this many bytes, which is no key that could sign.
pub fn of_len(len: usize) -> Vec<u8> {
    let key = |bits: usize| with_bits(&vec![1; bits]);
    (0..=len).rev().map(key).find(|key| key.len() == len).expect("a public key of this length")
}

pub fn der(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u16).to_be_bytes();
    let head = match body.len() {
        0..128 => vec![tag, len[1]],
        128..256 => vec![tag, 0x81, len[1]],
        _ => vec![tag, 0x82, len[0], len[1]],
    };
    [&head, body].concat()
}

pub fn digest(message: &[u8]) -> [u8; 32] {
    Sha256::digest(message).into()
}

/// Signatures of the update of `sr/signatures` with the modulus of the RSA key of the tests and
/// exponents of more than 32 bits. They were computed from the factors of the modulus.
pub const OF_LARGE_EXPONENTS: [(u64, &str); 2] = [
    (
        (1 << 33) - 1,
        "\
         a4a893ed8696fd74100893523e6a8bf4f441e8f1283ba019ce60c0e8d664d75fd7b5c1b1a31405bb10c94018\
         09e195f1304f82762818e66ab8c8fa0a21c052d7f7e1baad0fcb5b539dc5f4c4d1c0a44ac55a996d973e9146\
         4679683c3dac592e5abf713a1e218be4bb6773fba164ca179262048e78638e8d91d3df36ddec69bec036fa29\
         bb02a672c4bd30b412cfa746df4e7ab60418010d125ae22eade193c76fd6f46d96500b67878a7ae151ca65ef\
         0304af75d1ebc8580d4c89650449ba08669901509df6ad620adf1f2a54365d3e93012e9cbbb6b9afb17abbcd\
         74d52dcf987c70e938ad057bf842441fe56a973f76df409553099d2a0c9e45fdf4be0d7b",
    ),
    (
        (1 << 33) + 5,
        "\
         2469a56303c126313b81064051c2b71011584f41223d9582d3185a6ab566e183070ace26a6b11504edfa05a2\
         ee13acaa29d2e74daab4493e91fe471be20c74acf982e434d16348a950301295d167c0e59043ff1453a35c8f\
         ea0002bb04511fc4dcccbf5c5e151edc29753313110936497dc3637602762282c6af9399b87f22e8f77834b5\
         e4798b8cfc1170f7877ad82780f6f5eff8a19b2ec5ee2932243a05fc56446903fe22a587fc3f1a15bea02729\
         d9708abee1fcd9a4c615dbefb3bf551c1dffc9dc9566b3efc04836e80aee5f28b35b04058defd071c87993e7\
         7f45d70099c90c7783d598074e14c01acbaa3f23f515381d8e7019a0310bb3350e0c76f1",
    ),
];
