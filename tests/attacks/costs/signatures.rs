//! Signatures that are dear to verify, and the same ones again and again.

use std::time::Duration;

use libp2p_identity::Keypair;
use libp2p_smart_record::{
    Fault, Limits, MinWork, Open, Registry, SpaceRules, Writer,
    store::{Counters, Quota, StoreConfig},
};
use smart_record_testing::forge::{Author, NOW, Space, Update, encode, key};

use super::{print, put, replica, replica_of};

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

/// Updates of many writers, each of its own.
fn crowd(count: u64) -> Vec<Space> {
    (0..count).map(|n| Author::ed25519(n).says(&Update::saying(1))).collect()
}

#[test]
fn two_hundred_signatures_of_a_wrong_form_cost_one_more_than_sixteen_cost() {
    // y = 2 is no point, and the number after it is not below the order.
    let (mut no_point, no_scalar) = ([0; 64], [0xff; 64]);
    no_point[0] = 2;
    for signature in [no_point, no_scalar] {
        let mut store = replica(Registry::default());
        let mut spaces = crowd(200);
        spaces.iter_mut().for_each(|space| space.updates[0].signature = signature.to_vec());
        let value = encode(spaces);
        let cost = put(&mut store, &key(), &value);
        print("signatures of a wrong form", value.len(), cost, &store.counters());
        // The first one is looked at together with others, and again alone.
        assert_eq!(cost.0, 1 + 16);
        let counters = store.counters();
        assert_eq!(counters.refused.get(&Fault::Invalid), Some(&16));
        assert_eq!(counters.refused.get(&Fault::LimitExceeded), Some(&184));
    }
}

#[test]
fn two_hundred_forgeries_cost_one_batch_more_than_sixteen_cost() {
    let mut store = replica(Registry::default());
    let forge = |space: Space| {
        let signature = Author::ed25519(7_777).sign_bytes(&key(), space.updates[0].update.clone());
        Space { updates: vec![signature], ..space }
    };
    let value = encode(crowd(200).into_iter().map(forge));
    let cost = put(&mut store, &key(), &value);
    print("forgeries", value.len(), cost, &store.counters());
    assert_eq!(cost.0, 48 + 16);
    assert_eq!(store.counters().refused.get(&Fault::Invalid), Some(&16));
    // One forgery among many: all others are kept.
    let mut store = replica(Registry::default());
    let mut spaces = crowd(40);
    spaces[20] = forge(spaces[20].clone());
    let value = encode(spaces);
    let cost = put(&mut store, &key(), &value);
    print("one forgery among 40", value.len(), cost, &store.counters());
    assert_eq!((cost.0, store.counters().admitted), (80, 39));
}

#[test]
fn what_is_verified_together_takes_no_more_than_the_allowed_work() {
    // The first takes 50 µs, each other 25, and hashing two or three. One more is begun alone.
    let config = StoreConfig::default().with_value_work(Duration::from_micros(500));
    let mut store = replica_of(Registry::default(), config);
    let value = encode(crowd(40));
    let cost = put(&mut store, &key(), &value);
    let counters = store.counters();
    print("good updates for 500 µs", value.len(), cost, &counters);
    assert!((15..20).contains(&cost.0), "{cost:?}");
    assert_eq!((counters.admitted, counters.signatures_unread), (cost.0, 40 - cost.0));
}

/// Spaces in the order in which they are written.
fn ranked(mut spaces: Vec<Space>) -> Vec<Space> {
    spaces.sort_by_key(|space| Writer::rank_of(&space.public_key, &key()));
    spaces
}

/// `count` spaces of P-256, and `others` of Ed25519 that rank after them.
fn dear_first(count: usize, others: usize) -> (Vec<Space>, Vec<Space>) {
    let dear = (0..).map(|n| Author(Keypair::generate_ecdsa()).says(&Update::saying(n)));
    let is_first = |space: &Space| Writer::rank_of(&space.public_key, &key())[0] < 128;
    let dear = dear.filter(is_first).take(count).collect();
    let rest = crowd(300).into_iter().filter(|space| !is_first(space)).take(others).collect();
    (dear, rest)
}

#[test]
fn what_was_verified_together_is_admitted_when_the_work_is_done() {
    let mut store = replica(Registry::default());
    let (dear, rest) = dear_first(12, 60);
    assert_eq!(rest.len(), 60);
    let value = encode(ranked([dear, rest].concat()));
    let cost = put(&mut store, &key(), &value);
    let counters = store.counters();
    print("12 of P-256 before 60 of Ed25519", value.len(), cost, &counters);
    assert!((61..72).contains(&cost.0), "{cost:?}");
    assert_eq!((counters.admitted, counters.signatures_unread), (cost.0, 72 - cost.0));
}

#[test]
fn what_was_verified_together_is_admitted_after_sixteen_forgeries() {
    let mut store = replica(Registry::default());
    let (mut dear, rest) = dear_first(17, 20);
    for space in &mut dear {
        *space.updates[0].signature.last_mut().unwrap() ^= 1;
    }
    store.write(&key(), &encode([dear, rest].concat())).unwrap();
    let counters = store.counters();
    assert_eq!(counters.admitted, 20);
    assert_eq!(counters.refused.get(&Fault::Invalid), Some(&16));
    assert_eq!(counters.refused.get(&Fault::LimitExceeded), Some(&1));
}

#[test]
fn what_stored_spaces_grow_by_is_not_room_for_new_ones() {
    let config = StoreConfig::default().with_max_record_bytes(10_000);
    let mut store = replica_of(Registry::default(), config);
    let mut authors: Vec<_> = (0..60).map(Author::ed25519).collect();
    authors.sort_by_key(|author| author.writer().rank(&key()));
    let says = |author: &Author, n| author.says(&Update::saying(1).after(n));
    let (known, new) = authors.split_at(8);
    put(&mut store, &key(), &encode(known.iter().map(|author| says(author, 0))));
    assert_eq!(store.counters().admitted, 8);
    let grown = (1..3).flat_map(|n| known.iter().map(move |author| says(author, n)));
    let value = encode(grown.chain(new.iter().map(|author| says(author, 0))));
    let cost = put(&mut store, &key(), &value);
    let admitted = store.counters().admitted - 8;
    print("growth before new spaces", value.len(), cost, &store.counters());
    assert!((17..60).contains(&admitted), "{admitted}");
    assert!(cost.0 <= admitted + 1, "{cost:?}, {admitted}");
}

#[test]
fn what_is_refused_for_free_is_not_verified_together_either() {
    const SOME: u64 = u64::MAX;
    let limits = Limits::default;
    let with = |limits| SpaceRules::new(limits, Open);
    let config = StoreConfig::default;
    let quota = |count, bytes| config().with_writer_quota(Quota { count, bytes });
    let all = |change: &dyn Fn(&mut Update)| {
        let update = || {
            let mut update = Update::saying(1);
            change(&mut update);
            update
        };
        (0..40).map(|n| Author::ed25519(n).says(&update())).collect::<Vec<_>>()
    };
    let of_one = |updates: &mut dyn Iterator<Item = Update>| {
        let author = Author::ed25519(1);
        vec![author.space_of(updates.map(|update| author.sign(&update)).collect())]
    };
    let merges = of_one(&mut (0..40).map(|n| Update::saying(1).after(n)));
    let hidden = of_one(&mut (0..40).map(|n| Update::saying(1).after(n).replacing()));
    for (name, rules, config, spaces, admitted) in [
        ("expired", with(limits()), config(), all(&|it| it.expires_at = NOW), 0),
        ("ahead", with(limits()), config(), all(&|it| it.seq += 301_000_000), 0),
        ("long-lived", with(limits()), config(), all(&|it| it.expires_at += 172_800_000), 0),
        ("too large", with(limits().with_update_bytes(8)), config(), crowd(40), 0),
        ("no work", SpaceRules::new(limits(), MinWork::new(1, Open)), config(), crowd(40), 0),
        ("updates", with(limits().with_updates_per_space(2)), config(), merges, 2),
        ("hidden", with(limits()), config(), hidden, 1),
        ("spaces", with(limits().with_spaces_per_record(3)), config(), crowd(40), 3),
        ("no spaces of a writer", with(limits()), quota(0, 1_000_000), crowd(40), 0),
        ("no bytes of a writer", with(limits()), quota(10, 100), crowd(40), 0),
        ("a small record", with(limits()), config().with_max_record_bytes(2_000), crowd(40), SOME),
        ("a small store", with(limits()), config().with_max_bytes(4_000), crowd(40), SOME),
    ] {
        let registry = Registry::empty().with(Registry::SMART_RECORDS, rules).unwrap();
        let mut store = replica_of(registry, config);
        let value = encode(spaces);
        let cost = put(&mut store, &key(), &value);
        print(name, value.len(), cost, &store.counters());
        let counters = store.counters();
        if admitted == SOME {
            // That the last one has no room shows when it is written.
            assert!((3..20).contains(&counters.admitted), "{name}");
            assert!(cost.0 <= counters.admitted + 1, "{name}");
        } else {
            assert_eq!((cost.0, counters.admitted), (admitted, admitted), "{name}");
        }
    }
}
