//! A store belongs to one peer and cannot be used by a behaviour of another.

use libp2p::identity::Keypair;
use libp2p_smart_record::{behaviour::Behaviour, store::SmartRecordStore};

#[test]
fn case_16_a_behaviour_is_not_built_over_the_store_of_another_peer() {
    let (ours, theirs) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (our_peer, their_peer) = (ours.public().to_peer_id(), theirs.public().to_peer_id());
    let builder = || Behaviour::builder(ours.clone());
    let error = builder().with_store(SmartRecordStore::new(their_peer)).unwrap_err();
    assert_eq!((*error.owner, *error.expected), (their_peer, our_peer));
    let text = error.to_string();
    assert!([their_peer, our_peer].iter().all(|peer| text.contains(&peer.to_string())), "{text}");

    let builder = builder().with_store(SmartRecordStore::new(our_peer)).unwrap();
    let (mut behaviour, client) = builder.build();
    assert_eq!(behaviour.store_mut().local_peer(), our_peer);
    assert_eq!((client.peer_id(), behaviour.writer().peer_id()), (our_peer, our_peer));
    assert_eq!(behaviour.client().upgrade().unwrap().peer_id(), our_peer);
}
