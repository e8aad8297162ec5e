//! Signatures that are dear to verify, and the same ones again and again.

use libp2p_identity::Keypair;
use libp2p_smart_record::{Registry, store::Counters};
use smart_record_testing::forge::{Author, Update, encode, key};

use super::{print, put, replica};

/// How many P-256 signatures take 4 ms: each 330 µs, and hashing.
const ALLOWED: u64 = 13;

/// Updates of different writers, each signed with P-256.
fn ecdsa(writers: u32) -> Vec<(Author, Update)> {
    let author = |_| Author(Keypair::generate_ecdsa());
    (0..writers).map(|n| (author(n), Update::saying(n.into()))).collect()
}

fn good(updates: &[(Author, Update)]) -> Vec<u8> {
    encode(updates.iter().map(|(author, update)| author.says(update)))
}

fn known(counters: &Counters) -> u64 {
    counters.admitted
}

#[test]
fn bad_p256_signatures_in_one_packet_take_no_more_than_four_milliseconds() {
    let mut store = replica(Registry::default());
    let forged = ecdsa(16).into_iter().map(|(author, update)| {
        let mut space = author.says(&update);
        *space.updates[0].signature.last_mut().unwrap() ^= 1;
        space
    });
    let value = encode(forged);
    let cost = put(&mut store, &key(), &value);
    let counters = store.counters();
    print("bad P-256 signatures", value.len(), cost, &counters);
    assert!(cost.0 <= ALLOWED, "{cost:?}");
    assert!(counters.signatures_unread > 0 && counters.admitted == 0);
    assert_eq!(counters.refused_total(), 16);
}

#[test]
fn a_packet_of_good_p256_updates_is_taken_piece_by_piece_when_it_is_sent_again() {
    let mut store = replica(Registry::default());
    let updates = ecdsa(40);
    let value = good(&updates);
    let mut admitted = Vec::new();
    while admitted.last() != Some(&40) && admitted.len() < 10 {
        let cost = put(&mut store, &key(), &value);
        print("good P-256 updates", value.len(), cost, &store.counters());
        assert!(cost.0 <= ALLOWED, "{cost:?}");
        admitted.push(known(&store.counters()));
    }
    assert_eq!(admitted.len(), 4, "{admitted:?}");
    // A local write is not cut short.
    let mut store = replica(Registry::default());
    store.write(&key(), &value).unwrap();
    assert_eq!(known(&store.counters()), 40);
}

#[cfg(feature = "ipns")]
#[test]
fn a_stale_ipns_record_is_verified_once_and_its_replay_not_at_all() {
    use libp2p_smart_record::ipns::{IpnsBuilder, IpnsName, IpnsValidator};
    use smart_record_testing::{NOW, at};

    let keypair = Keypair::generate_ecdsa();
    let name = IpnsName::from(keypair.public().to_peer_id());
    let eol = at(NOW + 86_400_000);
    let record = |sequence| {
        let builder = IpnsBuilder::new("/ipfs/bafkqaaa", sequence, eol);
        builder.with_public_key().sign(&keypair, at(NOW)).unwrap()
    };
    let mut store = replica(Registry::default().with("ipns", IpnsValidator).unwrap());
    let key = name.key();
    let (stale, best) = (record(1), record(2));
    assert_eq!(put(&mut store, &key, best.as_bytes()).0, 1);
    let cost = put(&mut store, &key, stale.as_bytes());
    print("a stale IPNS record", stale.as_bytes().len(), cost, &store.counters());
    assert_eq!(cost.0, 1, "the stored record is not verified again");
    let cost = put(&mut store, &key, stale.as_bytes());
    print("its replay", stale.as_bytes().len(), cost, &store.counters());
    assert_eq!(cost.0, 0);
    assert_eq!(store.counters().refused_total(), 2);
}
