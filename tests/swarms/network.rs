//! Attacks between two nodes over real TCP, one test each: the replica refuses, keeps its record,
//! reports the reason, and continues to serve the attacker's connection. Attacks without a network
//! are in `tests/namespaces/attacks.rs`.

use libp2p_smart_record::{
    Fault, KeyOwner, Limits, RecordKey, Registry, SpaceRules,
    store::{StoreConfig, StoreEvent},
};
use smart_record_testing::{
    ManualClock,
    forge::{self, KEY, NOW, SignedUpdate, Space, Update, alice, at, encode, key, mallory, node},
};

use crate::nodes::{Node, Stored, connect, records, start_at, within};

async fn node_at_now(registry: Registry) -> Node {
    let clock = ManualClock::at(at(NOW));
    start_at(clock, registry, StoreConfig::default(), |_| {}).await
}

/// The record of the replica before the attack: a space of Alice's that was replaced once.
fn honest() -> (Space, SignedUpdate) {
    let old = alice().sign(&Update::saying(1));
    let new = Update::saying(2).after(1).replacing();
    (alice().space([alice().sign(&new)]), old)
}

/// Sends `value` under the key `under` to a replica, which has to refuse it with this fault.
async fn bounces_under(registry: Registry, under: RecordKey, value: Vec<u8>, fault: Fault) {
    let replica = node_at_now(registry).await;
    let mut attacker = node_at_now(Registry::empty()).await;
    within(async {
        // The replica does not know the address of the attacker, so it dials nobody.
        attacker.add(replica.peer(), replica.address()).await.unwrap();
        let (space, _) = honest();
        attacker.put_to(replica.peer(), &key(), encode([space])).await.unwrap();
        let before = replica.stored(&key()).await.unwrap();
        let mut events = replica.store(|store| store.subscribe()).await.unwrap();

        // The attacker gets the same answer as for a valid write.
        attacker.put_to(replica.peer(), &under, value).await.unwrap();
        let refused: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
        assert!(
            matches!(&refused[..], [StoreEvent::Refused { reason, .. }] if reason.fault() == fault),
            "{refused:?}"
        );
        assert_eq!(replica.stored(&key()).await.unwrap(), before);

        // A PUT and a GET on the same connection.
        let good = mallory().sign_under("/sr/guestbook", &Update::saying(3));
        let good = encode([mallory().space([good])]);
        let guestbook = RecordKey::new("/sr/guestbook");
        attacker.put_to(replica.peer(), &guestbook, good.clone()).await.unwrap();
        let found = records(attacker.lookup(&guestbook).await.unwrap());
        assert_eq!(found, [(Some(replica.peer()), good)]);
        assert_eq!(attacker.connections_opened(), [replica.peer()]);
    })
    .await;
}

async fn bounces(value: Vec<u8>, fault: Fault) {
    bounces_under(Registry::default(), key(), value, fault).await;
}

macro_rules! attacks {
    ($($name:ident: $value:expr => $fault:ident;)*) => {
        $(#[tokio::test]
        async fn $name() {
            bounces($value, Fault::$fault).await;
        })*
    };
}

/// Alice's space with an update signed by Mallory.
fn forged(update: &Update) -> Vec<u8> {
    encode([alice().space([mallory().sign(update)])])
}

fn mallory_says(update: &Update) -> Vec<u8> {
    encode([mallory().says(update)])
}

const HOUR: u64 = 3_600_000;

attacks! {
    a_wrong_signer: forged(&Update::saying(3).after(2)) => Invalid;
    a_forged_withdrawal: forged(&Update::of(node::document(&[])).after(2).replacing()) => Invalid;
    an_update_of_another_key: {
        let elsewhere = alice().sign_under("/sr/elsewhere", &Update::saying(3).after(2));
        encode([alice().space([elsewhere])])
    } => Invalid;
    a_replay_after_a_replace: encode([alice().space([honest().1])]) => Stale;
    a_flipped_bit: {
        let mut update = alice().sign(&Update::saying(3).after(2));
        *update.signature.last_mut().unwrap() ^= 0x10;
        encode([alice().space([update])])
    } => Invalid;
    an_expired_update: mallory_says(&Update {
        seq: (NOW - HOUR) * 1_000,
        expires_at: NOW,
        ..Update::saying(3)
    }) => Expired;
    an_update_from_the_far_future: mallory_says(&Update {
        seq: (NOW + HOUR) * 1_000,
        expires_at: NOW + 2 * HOUR,
        ..Update::saying(3)
    }) => LimitExceeded;
    an_update_that_lives_too_long: mallory_says(&Update {
        expires_at: NOW + 49 * HOUR,
        ..Update::saying(3)
    }) => LimitExceeded;
    an_oversized_update: mallory_says(&Update::of_len(2_049)) => LimitExceeded;
    a_document_too_deep: mallory_says(&Update::of(node::just(
        (0..16).fold(node::int(1), |inner, _| node::list(&[inner])),
    ))) => LimitExceeded;
    not_a_number: mallory_says(&Update::of(node::just(node::float(f64::NAN)))) => Malformed;
    a_key_twice_in_a_document: mallory_says(&Update::of(node::document(&[
        (node::text("k"), node::int(1)),
        (node::text("k"), node::int(2)),
    ]))) => Malformed;
    an_unknown_kind_of_update: mallory_says(&Update {
        kind: 9,
        ..Update::saying(3)
    }) => Unsupported;
    an_empty_value: Vec::new() => Malformed;
    garbage: b"not a record at all".to_vec() => Malformed;
    a_public_key_of_another_type: {
        let mut space = mallory().says(&Update::saying(3));
        // It claims to be an RSA key and has 32 bytes.
        space.public_key[1] = 0;
        encode([space])
    } => Malformed;
}

#[tokio::test]
async fn a_key_that_is_too_long_is_refused() {
    let key = RecordKey::new(format!("/sr/{}", "k".repeat(253)));
    let value =
        encode([mallory().space([mallory().sign_under(key.as_bytes(), &Update::saying(3))])]);
    bounces_under(Registry::default(), key, value, Fault::LimitExceeded).await;
}

#[tokio::test]
async fn an_unknown_namespace_is_refused() {
    let key = RecordKey::new("/unheard/of");
    bounces_under(Registry::default(), key, b"x".to_vec(), Fault::Unsupported).await;
}

#[tokio::test]
async fn the_key_of_another_peer_is_refused() {
    let owned = SpaceRules::new(Limits::default(), KeyOwner);
    let registry = Registry::default().with("own", owned).unwrap();
    let key = RecordKey::new(format!("/own/{}/status", alice().peer_id()));
    let value =
        encode([mallory().space([mallory().sign_under(key.as_bytes(), &Update::saying(3))])]);
    bounces_under(registry, key, value, Fault::RefusedByPolicy).await;
}

#[tokio::test]
async fn thousands_of_writers_on_one_key_are_bounded() {
    let replica = node_at_now(Registry::default()).await;
    let attacker = node_at_now(Registry::empty()).await;
    connect(&attacker, &replica).await;
    within(async {
        let spaces: Vec<_> =
            (0..2_000).map(|seed| forge::Author::ed25519(seed).says(&Update::saying(1))).collect();
        for packet in spaces.chunks(80) {
            let value = encode(packet.to_vec());
            attacker.put_to(replica.peer(), &key(), value).await.unwrap();
        }
        let stored = replica.stored(&key()).await.unwrap().unwrap();
        let mut ranks: Vec<_> =
            (0..2_000).map(|seed| forge::Author::ed25519(seed).writer().rank(&key())).collect();
        ranks.sort_unstable();
        ranks.truncate(1_024);
        let mut kept: Vec<_> = stored.spaces().map(|(writer, _)| writer.rank(&key())).collect();
        kept.sort_unstable();
        assert_eq!(kept, ranks, "the lowest ranks, under {KEY}");
    })
    .await;
}
