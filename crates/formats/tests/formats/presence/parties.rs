//! Announcements that a node must not sign.

use super::*;

use prost::Message;

fn half() -> Vec<u8> {
    Draft::at(1).signed_by(Some((client(), BY_CLIENT)), None).signed().encode_to_vec()
}

fn decode_half(bytes: Vec<u8>) -> Result<ClientSignedAnnouncement, PresenceError> {
    ClientSignedAnnouncement::decode(&key_of(&client()), bytes, validator().limits())
}

#[test]
fn a_node_signs_only_what_the_client_has_signed() {
    assert!(decode_half(half()).is_ok());
    let forged = Draft::at(1).signed_by(Some((mallory(), BY_CLIENT)), None);
    assert!(matches!(
        decode_half(forged.signed().encode_to_vec()),
        Err(PresenceError::Signature { .. })
    ));
    let unsigned = Draft::at(1).signed_by(None, None);
    assert!(matches!(
        decode_half(unsigned.signed().encode_to_vec()),
        Err(PresenceError::MissingSignature { .. })
    ));
    // Neither a finished announcement nor a withdrawal is half signed, nor the other way round.
    assert!(matches!(
        decode_half(Draft::at(1).signed().encode_to_vec()),
        Err(PresenceError::SurplusSignature { .. })
    ));
    assert_eq!(decode_half(Draft::withdrawn(1).signed().encode_to_vec()), Err(PresenceError::Kind));
    let decode =
        |bytes: Vec<u8>| Announcement::decode(&key_of(&client()), bytes, validator().limits());
    assert!(matches!(decode(half()), Err(PresenceError::MissingSignature { .. })));
    assert_eq!(decode(Draft::withdrawn(1).signed().encode_to_vec()), Err(PresenceError::Kind));
    assert!(decode(Draft::at(1).signed().encode_to_vec()).is_ok());
}
