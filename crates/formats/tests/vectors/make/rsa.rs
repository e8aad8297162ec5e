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

/// A public key and the signature by it that encodes to this odd message.
///
/// The signature is a power of two, `s = 2^a`, and the modulus is `n = s^3 - message`, so
/// `s^3 mod n = message`. Nobody knows the factors of `n`, and verifying needs none.
pub fn cubed(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let len = message.len();
    let power = |exponent: usize| {
        let mut number = vec![0; len];
        number[len - 1 - exponent / 8] = 1 << (exponent % 8);
        number
    };
    let a = (8 * len - 5) / 3;
    let mut modulus = power(3 * a);
    let mut borrow = 0;
    for (digit, subtracted) in modulus.iter_mut().zip(message).rev() {
        let difference = i16::from(*digit) - i16::from(*subtracted) - borrow;
        borrow = i16::from(difference < 0);
        *digit = difference as u8;
    }
    (public_key(&modulus, 3), power(a))
}

/// A public key of the exponent 1, of which each message is its own signature.
pub fn of_exponent_1(len: usize) -> Vec<u8> {
    public_key(&vec![0xff; len], 1)
}

fn public_key(modulus: &[u8], exponent: u8) -> Vec<u8> {
    let number = |number: &[u8]| {
        let first = number.iter().position(|byte| *byte != 0).unwrap();
        let sign = if number[first] & 0x80 == 0 { &[][..] } else { &[0] };
        der(0x02, &[sign, &number[first..]].concat())
    };
    let key = der(0x30, &[number(modulus), number(&[exponent])].concat());
    with_bits(&key)
}

/// A public key whose bit string holds these bytes.
pub fn with_bits(bits: &[u8]) -> Vec<u8> {
    const ALGORITHM: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    let bits = der(0x03, &[&[0], bits].concat());
    let data = der(0x30, &[ALGORITHM, &bits].concat());
    PublicKey { r#type: 0, data }.encode_to_vec()
}

fn der(tag: u8, body: &[u8]) -> Vec<u8> {
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
