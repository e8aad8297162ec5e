//! Presence: the store and attacks, one test each: replays, the wrong time, the wrong signer, the
//! wrong form or size. Each is tried on the validator, the reader, the join, the selection and a
//! replica: see `refused`.

mod contents;
mod forms;
mod replays;
mod signers;
mod sizes;
mod store;
mod times;
mod withdrawals;

use libp2p_identity::{Keypair, PeerId};
use libp2p_kad::{Record as KadRecord, store::RecordStore};
use libp2p_smart_record::{
    Fault, RecordKey, Registry, ValidationError, Validator,
    presence::{PresenceKey, PresenceRecord, PresenceValidator},
    store::{SmartRecordStore, StoreEvent},
};
use smart_record_testing::{ManualClock, envelope::bound, presence::*};

use crate::replica::{Replica, stored};

fn key_of(client: &Keypair) -> PresenceKey {
    PresenceKey::of(id(client))
}

fn validator() -> PresenceValidator {
    PresenceValidator::default()
}

/// Presence beside smart records.
fn registry() -> Registry {
    Registry::default().with(PresenceKey::NAMESPACE, validator()).unwrap()
}

/// A replica whose clock is at [`NOW`].
fn replica() -> (SmartRecordStore, ManualClock) {
    let Replica { store, clock, .. } = Replica::with(registry());
    (store, clock)
}

/// Checks that every entry point refuses `value` under `key`: the validator for this kind of
/// reason, which is returned, the reader, the join, and a replica that already knows the client at
/// another node.
fn refused_under(key: &RecordKey, value: &[u8], fault: Fault) -> ValidationError {
    let error = validator().validate(key, value, now()).unwrap_err();
    assert_eq!(error.fault(), fault, "{error}");

    let (mut replica, _) = replica();
    let neighbour = Draft::at(99).encode();
    replica
        .put(KadRecord::new(libp2p_kad::RecordKey::new(&self::key()), neighbour.clone()))
        .unwrap();
    let mut events = replica.subscribe();
    replica.put(KadRecord::new(libp2p_kad::RecordKey::new(key), value.to_vec())).unwrap();
    let told: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    assert!(
        matches!(&told[..], [StoreEvent::Refused { reason, .. }] if *reason == error),
        "{told:?}"
    );
    assert_eq!(stored(&replica, &self::key()), Some(neighbour));
    if *key != self::key() {
        assert_eq!(stored(&replica, key), None);
    }
    error
}

/// As [`refused_under`], under the client's key. Also checks that joins and readers leave all of it
/// out.
fn refused(value: &[u8], fault: Fault) -> ValidationError {
    let neighbour = Draft::at(99).encode();
    for values in [[&neighbour[..], value], [value, &neighbour[..]]] {
        assert_eq!(validator().consolidate(&key(), &values).unwrap(), neighbour);
        let best = validator().select(&key(), &values).unwrap();
        assert_eq!(values[best], neighbour);
    }
    assert!(validator().consolidate(&key(), &[value]).is_err());
    assert!(validator().select(&key(), &[value]).is_err());
    assert_eq!(validator().read(&key(), value, now()).unwrap_err().fault(), fault);
    refused_under(&key(), value, fault)
}

/// Checks that the validator and a replica accept it.
fn accepted(value: &[u8]) {
    validator().validate(&key(), value, now()).unwrap();
    assert_eq!(validator().consolidate(&key(), &[value]).unwrap(), value);
    assert_eq!(validator().select(&key(), &[value]), Ok(0));
    let (mut replica, _) = replica();
    replica.write(&key(), value).unwrap();
    assert_eq!(stored(&replica, &key()).as_deref(), Some(value));
}

/// The peer ids of the nodes where a reader sees the client, at `NOW` plus an offset.
fn seen(value: &[u8], offset: i64) -> Vec<PeerId> {
    let record =
        PresenceRecord::decode(&key_of(&client()), value.to_vec(), validator().limits()).unwrap();
    record.view(at(NOW + offset)).map(|announcement| announcement.node()).collect()
}
