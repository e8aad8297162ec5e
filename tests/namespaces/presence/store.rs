//! Presence records in a store with a clock that the test sets.

use libp2p_kad::{Record as KadRecord, store::RecordStore};
use libp2p_smart_record::{
    RecordKey, Timestamp, ValidationError,
    store::{Origin, StoreEvent},
};

use super::{Draft, HOUR, NOW, SKEW, TTL, id, key, millis, node, records, replica, seen, stored};

/// The nodes, in the order of a view.
fn nodes(numbers: &[u8]) -> Vec<libp2p_identity::PeerId> {
    let mut nodes: Vec<_> = numbers.iter().map(|n| id(&node(*n))).collect();
    nodes.sort_unstable();
    nodes
}

#[test]
fn a_client_comes_goes_and_is_forgotten() {
    let (mut replica, clock) = replica();
    let (one, two) = (Draft::at(1).living(TTL), Draft::at(2).living(HOUR));
    let mut events = replica.subscribe();

    // Two nodes announce the same client; the replica has both.
    let report = replica.write(&key(), &one.encode()).unwrap();
    assert_eq!((report.stored, report.known), (1, 0));
    let report = replica.write(&key(), &two.encode()).unwrap();
    assert_eq!((report.stored, report.known), (1, 0));
    let both = records(&[one.clone(), two.clone()]);
    assert_eq!(stored(&replica, &key()).as_ref(), Some(&both));
    assert_eq!(seen(&both, 0), nodes(&[1, 2]));
    let told: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    let news = StoreEvent::Stored { key: key(), writers: Vec::new(), origin: Origin::Local };
    assert_eq!(told, [news.clone(), news]);

    // The record lives as long as its last entry. Entries that have expired before are hidden.
    clock.advance(millis(TTL));
    let value = stored(&replica, &key()).unwrap();
    assert_eq!(seen(&value, TTL), nodes(&[2]));
    assert_eq!(seen(&value, TTL - 1), nodes(&[1, 2]));

    // A renewal is stored, a withdrawal hides.
    let renewed = one.made(TTL);
    replica.write(&key(), &renewed.encode()).unwrap();
    let gone = Draft::withdrawn(2).made(TTL).living(HOUR);
    replica.write(&key(), &gone.encode()).unwrap();
    let value = stored(&replica, &key()).unwrap();
    assert_eq!(value, records(&[renewed, gone]));
    assert_eq!(seen(&value, TTL), nodes(&[1]));
    assert_eq!(replica.write(&key(), &two.encode()), Err(ValidationError::Stale.into()));

    // Until no entry is retained any more.
    clock.advance(millis(HOUR - 1));
    assert!(stored(&replica, &key()).is_some());
    clock.advance(millis(1));
    assert_eq!(stored(&replica, &key()), None);
    assert_eq!(replica.collect(), Ok(1));
    assert_eq!(replica.usage().records, 0);
}

#[test]
fn a_part_of_what_is_stored_is_known_and_not_stale() {
    let (mut replica, _) = replica();
    let (one, two, three) = (Draft::at(1), Draft::at(2), Draft::at(3));
    let all = records(&[one.clone(), two.clone(), three.clone()]);
    replica.write(&key(), &all).unwrap();
    let mut events = replica.subscribe();
    for part in [one.encode(), records(&[two, three.clone()]), all.clone()] {
        let report = replica.write(&key(), &part).unwrap();
        assert_eq!((report.stored, report.known), (0, 1));
        assert_eq!(stored(&replica, &key()).as_ref(), Some(&all));
    }
    assert_eq!(replica.counters().known, 3);
    assert_eq!(events.try_next(), None);

    // A record without any news is stale.
    let behind = records(&[one, three.made(-1)]);
    assert_eq!(replica.write(&key(), &behind), Err(ValidationError::Stale.into()));
    // A record with any news is accepted, even if most of it is known.
    let more = records(&[Draft::at(1), Draft::at(4)]);
    assert_eq!(replica.write(&key(), &more).unwrap().stored, 1);
}

#[test]
fn what_has_expired_goes_entry_by_entry_and_is_no_news_again() {
    let (mut replica, clock) = replica();
    let (brief, long) = (Draft::at(1).living(TTL), Draft::at(2).living(HOUR));
    let both = records(&[brief.clone(), long.clone()]);
    replica.write(&key(), &both).unwrap();
    clock.advance(millis(TTL));
    let mut events = replica.subscribe();
    // Peers that still have the expired one may send it repeatedly, alone or beside a live one.
    for _ in 0..2 {
        let report = replica.write(&key(), &both).unwrap();
        assert_eq!((report.stored, report.known), (0, 1));
        assert_eq!(stored(&replica, &key()), Some(long.encode()));
        assert!(replica.write(&key(), &brief.encode()).is_err());
        let refused = events.try_next().unwrap();
        assert!(matches!(refused, StoreEvent::Refused { .. }), "{refused:?}");
    }
    assert_eq!(events.try_next(), None);
    // A record with news is stored without the expired one.
    let more = Draft::at(3).living(HOUR);
    assert_eq!(replica.write(&key(), &records(&[brief, more.clone()])).unwrap().stored, 1);
    assert_eq!(stored(&replica, &key()), Some(records(&[long, more])));
}

#[test]
fn what_is_retained_by_its_rules_is_kept_until_then() {
    // From a client whose clock is ahead: longer than the store keeps records without an expiry.
    let (mut replica, clock) = replica();
    let ahead = Draft::withdrawn(1).made(SKEW).living(48 * HOUR);
    let mut record = KadRecord::new(libp2p_kad::RecordKey::new(&key()), ahead.encode());
    record.expires = Some(std::time::Instant::now() + millis(2_000));
    replica.put(record).unwrap();
    clock.advance(millis(SKEW + 48 * HOUR - 1));
    assert_eq!(stored(&replica, &key()), Some(ahead.encode()));
    clock.advance(millis(1));
    assert_eq!(stored(&replica, &key()), None);
}

#[test]
fn a_clock_that_is_set_back_a_little_loses_nothing() {
    let (mut replica, clock) = replica();
    let both = records(&[Draft::at(1).made(SKEW), Draft::at(2)]);
    replica.write(&key(), &both).unwrap();
    // The stored entries remain, older ones are refused, and those of other nodes are joined.
    let set = |millis: i64| clock.set(Timestamp::from_millis(u64::try_from(millis).unwrap()));
    set(NOW - 1_000);
    assert!(replica.write(&key(), &Draft::at(1).made(-2_000).encode()).is_err());
    assert_eq!(stored(&replica, &key()), Some(both));
    let other = Draft::at(3).made(-2_000);
    assert_eq!(replica.write(&key(), &other.encode()).unwrap().stored, 1);
    let all = records(&[Draft::at(1).made(SKEW), Draft::at(2), other]);
    assert_eq!(stored(&replica, &key()), Some(all));
    // After the clock is set back by more than the skew, a valid record replaces the stored one.
    set(NOW - SKEW - 1);
    let right = Draft::at(3).made(-SKEW - 1);
    assert_eq!(replica.write(&key(), &right.encode()).unwrap().stored, 1);
    assert_eq!(stored(&replica, &key()), Some(right.encode()));
}

#[test]
fn replication_carries_the_time_that_is_left() {
    let (mut replica, clock) = replica();
    let value = records(&[Draft::at(1).living(TTL), Draft::at(2).living(2 * TTL)]);
    let mut record = KadRecord::new(libp2p_kad::RecordKey::new(&key()), value.clone());
    // The metadata from the DHT has no effect: the signed fields decide.
    record.publisher = Some(id(&node(7)));
    record.expires = Some(std::time::Instant::now() + millis(1_000));
    replica.put(record).unwrap();
    clock.advance(millis(TTL));
    let begun = std::time::Instant::now();
    let sent: Vec<_> = replica.records().map(|record| record.into_owned()).collect();
    assert_eq!(sent.len(), 1);
    assert_eq!((RecordKey::new(sent[0].key.to_vec()), &sent[0].value), (key(), &value));
    assert_eq!(sent[0].publisher, None);
    let left = sent[0].expires.unwrap() - std::time::Instant::now();
    assert!(left <= millis(TTL) && left + begun.elapsed() + millis(2) >= millis(TTL), "{left:?}");
    assert_eq!(seen(&value, TTL), nodes(&[2]), "of {NOW}");
}
