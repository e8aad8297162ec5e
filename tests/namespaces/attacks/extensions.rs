//! Unknown fields: kept if they are signed, dropped if they are not.

use libp2p_smart_record::{
    Fault, Limit, LimitExceeded, Limits, Malformed, SmartRecord, UpdateError, ValidationError,
    store::Asker,
};
use prost::Message;

use super::{
    node::{int, just},
    *,
};

/// A space of Alice with an update to which these bytes were added before signing.
fn extended(update: &Update, rest: &[u8]) -> Space {
    let bytes = [&update.encode_to_vec()[..], rest].concat();
    alice().space([alice().sign_bytes(&key(), bytes)])
}

#[test]
fn extension_fields_are_signed_kept_and_sent_as_they_came() {
    for rest in [
        field(16, b"stamp"),
        field(31, b""),
        [field(16, b"a"), field(17, b""), field(30, &[0xff; 200])].concat(),
        field(16, &[7; 508]),
    ] {
        let space = extended(&Update::saying(1), &rest);
        accepted(space.clone());
        // The view is the same as without them.
        let mut replica = Replica::new();
        replica.hears([space.clone()]);
        let with = replica.view();
        let mut replica = Replica::new();
        replica.hears([alice().says(&Update::saying(1))]);
        assert_eq!(with, replica.view());
        // They are signed.
        let mut without = space;
        without.updates[0].update.truncate(Update::saying(1).encoded_len());
        refused(without, Fault::Invalid);
    }
}

#[test]
fn all_other_unknown_fields_of_an_update_are_refused() {
    for rest in [
        field(6, b"x"),
        field(15, b"x"),
        field(32, b"x"),
        varint(16, 1),
        [field(17, b"b"), field(16, b"a")].concat(),
        [field(16, b"a"), field(16, b"a")].concat(),
        [field(16, b"a"), field(5, &just(int(1)))].concat(),
    ] {
        let reason = refused(extended(&Update::saying(1), &rest), Fault::Malformed);
        let ValidationError::Malformed(Malformed::Update { error, .. }) = reason else {
            panic!("{reason}");
        };
        assert_eq!(error, UpdateError::NotCanonical, "{rest:x?}");
    }
    let update = Update::saying(1).encode_to_vec();
    let before = [field(16, b"a"), update].concat();
    let space = alice().space([alice().sign_bytes(&key(), before)]);
    refused(space, Fault::Malformed);
}

#[test]
fn extension_fields_take_512_bytes_at_most_and_count_as_bytes_of_the_update() {
    let reason = refused(extended(&Update::saying(1), &field(16, &[7; 509])), Fault::LimitExceeded);
    assert_eq!(reason, LimitExceeded::new(Limit::EXTENSION_BYTES, 513, 512).into());
    let rest = field(16, &[7; 508]);
    accepted(extended(&Update::of_len(2_048 - 512), &rest));
    let reason = refused(extended(&Update::of_len(2_049 - 512), &rest), Fault::LimitExceeded);
    assert_eq!(reason, LimitExceeded::new(Limit::UPDATE_BYTES, 2_049, 2_048).into());
}

/// Fields that no version knows, one of each wire type.
fn unknown_fields() -> Vec<u8> {
    [
        field(9, b"later"),
        varint(10, 1 << 40),
        vec![0x5d, 1, 2, 3, 4],
        vec![0x61, 1, 2, 3, 4, 5, 6, 7, 8],
    ]
    .concat()
}

/// A good value of two spaces, and the same with unknown fields in every container, before and
/// after the known fields.
fn cluttered() -> (Vec<u8>, Vec<u8>) {
    let (_, bob) = neighbour();
    let alice = alice().space([
        alice().sign(&Update::saying(1)),
        alice().sign_bytes(
            &key(),
            [Update::saying(2).after(1).encode_to_vec(), field(16, b"x")].concat(),
        ),
    ]);
    let around = |bytes: Vec<u8>| [unknown_fields(), bytes, unknown_fields()].concat();
    let mut spaces = [alice, bob];
    spaces.sort_by(|a, b| a.public_key.cmp(&b.public_key));
    let encoded = spaces.iter().map(|space| {
        let updates = space.updates.iter().map(|update| field(2, &around(update.encode_to_vec())));
        let updates: Vec<u8> = updates.flatten().collect();
        field(1, &around([field(1, &space.public_key), updates].concat()))
    });
    (encode(spaces.clone()), around(encoded.flatten().collect()))
}

#[test]
fn unknown_fields_of_the_containers_are_ignored_and_not_sent_on() {
    let (good, cluttered) = cluttered();
    // When decoding, joining and reading.
    let record = SmartRecord::decode(&key(), cluttered.clone(), &Limits::default()).unwrap();
    assert_eq!(record.encode(), good);
    let rules = SpaceRules::default();
    assert_eq!(rules.validate(&key(), &cluttered, at(NOW)).as_ref(), Ok(&record));
    assert_eq!(rules.consolidate(&key(), &[&cluttered]).unwrap(), good);
    let read = rules.read_knowing(&record, cluttered.clone().into(), at(NOW));
    assert_eq!(read.map(|(read, _)| read), Ok(record.clone()));
    // In chunks.
    for chunk in record.chunks(1) {
        let part = SmartRecord::decode(&key(), chunk.clone(), &Limits::default()).unwrap();
        assert_eq!(part.encode(), chunk);
    }
    // In a store: in stored records, answers to a GET, and replicated records. A second PUT is
    // known.
    let mut replica = Replica::new();
    for _ in 0..2 {
        replica.put(&key(), &cluttered);
        assert_eq!(replica.refusals(), []);
        assert_eq!(replica.stored().unwrap(), good);
        assert_eq!(replica.get(&key()).unwrap(), good);
    }
    replica.put(&key(), &good);
    assert_eq!(replica.refusals(), []);
    assert_eq!(replica.store.counters().admitted, 3);
    let replicated: Vec<_> = libp2p_kad::store::RecordStore::records(&replica.store).collect();
    assert_eq!(replicated.len(), 1);
    assert_eq!(replicated[0].value, good);
}

#[test]
fn unknown_fields_of_the_containers_are_not_in_slices() {
    let mut replica = Replica::new();
    let mut expected = SmartRecord::new(key());
    for seed in 0..60 {
        let author = Author::ed25519(seed);
        let space = author.says(&Update::of_len(300));
        let good = encode([space.clone()]);
        expected.join(read(&good)).unwrap();
        let bytes = [unknown_fields(), space.encode_to_vec()].concat();
        replica.put(&key(), [field(1, &bytes), unknown_fields()].concat());
    }
    assert_eq!(replica.refusals(), []);
    let mut joined = SmartRecord::new(key());
    let reader = Author::ed25519(61).0.public().to_peer_id();
    replica.store.asked_by(Some(Asker::new(reader, None)));
    for _ in 0..10 {
        let slice = replica.get(&key()).unwrap();
        let part = read(&slice);
        let updates = part.spaces().map(|(_, space)| space.updates().len()).sum::<usize>();
        assert!(updates > 0 && slice.len() <= 8 * 1_024);
        // Encoded again, in the order of ranks.
        let spaces: usize = part.spaces().map(|(w, s)| field(1, &s.encode(w)).len()).sum();
        assert_eq!(slice.len(), spaces, "nothing else is in it");
        joined.join(part).unwrap();
    }
    assert_eq!(joined, expected);
}
