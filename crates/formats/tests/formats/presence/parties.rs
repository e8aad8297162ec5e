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

#[test]
fn a_node_signs_only_for_itself_its_own_key_and_its_own_time() {
    let own = exchange_key(8);
    let sign = |node: &Keypair, handshake, now, limits: &PresenceLimits| {
        decode_half(half()).unwrap().countersign(node, handshake, now, limits)
    };
    let limits = PresenceLimits::default();
    let signed = sign(&node(1), own, now(), &limits).unwrap();
    assert_eq!(signed.encode(), Draft::at(1).signed().encode_to_vec());

    assert!(matches!(
        sign(&node(2), own, now(), &limits),
        Err(AnnounceError::Refused(PresenceError::OtherParty { .. }))
    ));
    let other = sign(&node(1), exchange_key(9), now(), &limits);
    assert_eq!(other, Err(AnnounceError::HandshakeKey));
    let refused = |result| {
        let Err(AnnounceError::Refused(error)) = result else { panic!("{result:?}") };
        ValidationError::from(error).fault()
    };
    assert_eq!(refused(sign(&node(1), own, at(NOW + TTL), &limits)), Fault::Expired);
    assert!(sign(&node(1), own, at(NOW + TTL - 1), &limits).is_ok());
    let early = at(NOW - SKEW - 1);
    assert_eq!(refused(sign(&node(1), own, early, &limits)), Fault::LimitExceeded);
    assert!(sign(&node(1), own, at(NOW - SKEW), &limits).is_ok());
    let strict = limits.with_max_ttl(millis(TTL - 1));
    assert_eq!(refused(sign(&node(1), own, now(), &strict)), Fault::LimitExceeded);
}
