//! Names with a public key that has no secret key.

use super::*;

use curve25519_dalek::constants::EIGHT_TORSION;
use prost::Message;

#[test]
fn a_name_of_a_point_of_small_order_is_nobody_s() {
    // Without strict verification anyone could sign for such a key.
    let point = EIGHT_TORSION[0].compress().to_bytes();
    let public_key = [&[8, 1, 18, 32], &point[..]].concat();
    let name = IpnsName::from(PeerId::from_bytes(&[&[0, 36], &public_key[..]].concat()).unwrap());
    let data = fields().encode();
    let signature = [point, [0; 32]].concat();
    let message = [b"ipns-signature:", &data[..]].concat();
    let parsed = ed25519_dalek::Signature::from_slice(&signature).unwrap();
    let key = ed25519_dalek::VerifyingKey::from_bytes(&point).unwrap();
    assert!(ed25519_dalek::Verifier::verify(&key, &message, &parsed).is_ok());
    let entry = Entry { signature_v2: Some(signature), data: Some(data), ..Entry::default() };
    let error = IpnsValidator.validate(&name.key(), &entry.encode_to_vec(), at(NOW)).unwrap_err();
    assert_eq!(error.fault(), Fault::Invalid);
}
