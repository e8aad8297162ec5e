//! Announcements that a node must not sign.

use libp2p_identity::Keypair;
use libp2p_smart_record::{
    Fault, ValidationError,
    presence::{AnnounceError, ClientSignedAnnouncement, PresenceError, PresenceLimits},
};
use prost::Message;

use super::*;

fn half() -> Vec<u8> {
    Draft::at(1).signed_by(Some((client(), BY_CLIENT)), None).signed().encode_to_vec()
}

fn decode_half(bytes: Vec<u8>) -> Result<ClientSignedAnnouncement, PresenceError> {
    ClientSignedAnnouncement::decode(&key_of(&client()), bytes, validator().limits())
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
