//! Changing the file of a store while it is closed: the attacker puts words into the mouth of
//! another writer, and has the row taken for one that was checked.

use std::{path::Path, time::Duration, time::Instant};

use libp2p_identity::{Keypair, PeerId};
use libp2p_kad::{Record, RecordKey as KadKey, store::RecordStore};
use libp2p_smart_record::{
    Clock, Dict, Limits, RecordKey, SmartRecord, SpaceSigner, SystemClock, store::SmartRecordStore,
};
use redb::{Database, ReadableTable, TableDefinition};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Flag of a row: it has a session of 12 bytes.
const SESSION: u8 = 16;

/// What the attacker claims about the session in which a row was written.
#[derive(Clone, Copy, Debug)]
enum Claim {
    /// As it is.
    Unchanged,
    /// The number after that of the file, in a row of format 2.
    NextNumber,
    /// The session in the file, or the next number.
    OfTheFile(u8),
    /// None.
    Zero,
}

/// Changes `hello` to `fraud` in each row, with a good checksum.
fn forge(file: &Path, claim: Claim) {
    let database = Database::open(file).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let meta = transaction.open_table(META).unwrap();
        let mut session = meta.get("session").unwrap().unwrap().value().to_vec();
        let mut rows = transaction.open_table(ROWS).unwrap();
        let all = rows.iter().unwrap().map(Result::unwrap);
        let all: Vec<_> =
            all.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).collect();
        for (key, mut value) in all {
            let Some(at) = value.windows(5).position(|text| text == b"hello") else { continue };
            value[at..at + 5].copy_from_slice(b"fraud");
            match claim {
                Claim::Unchanged => {}
                Claim::NextNumber => {
                    let number = u32::from_le_bytes(session[..4].try_into().unwrap());
                    value[4..8].copy_from_slice(&number.wrapping_add(1).to_le_bytes());
                    value[8] &= !SESSION;
                    value.drain(9..17);
                }
                Claim::OfTheFile(more) => {
                    session[0] = session[0].wrapping_add(more);
                    value[4..8].copy_from_slice(&session[..4]);
                    value[9..17].copy_from_slice(&session[4..]);
                }
                Claim::Zero => {
                    value[4..8].fill(0);
                    value[9..17].fill(0);
                }
            }
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&key);
            hasher.update(&value[4..]);
            value[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
            rows.insert(&key[..], &value[..]).unwrap();
        }
    }
    transaction.commit().unwrap();
}

#[test]
fn no_row_that_was_changed_at_rest_is_shown_under_another_s_name() {
    let folder = tempfile::tempdir().unwrap();
    let (key, writer, local) =
        (RecordKey::new("/sr/board"), Keypair::generate_ed25519(), PeerId::random());
    let mut signer = SpaceSigner::new(key.clone(), writer, Limits::default());
    let document: Dict = [("text", "hello")].into_iter().collect();
    signer.merge(document, SystemClock.now(), Duration::from_secs(3_600)).unwrap();
    let bytes = signer.record(SystemClock.now()).encode();
    let claims = [
        Claim::Unchanged,
        Claim::NextNumber,
        Claim::OfTheFile(0),
        Claim::OfTheFile(1),
        Claim::Zero,
    ];
    for (n, claim) in claims.into_iter().enumerate() {
        let file = folder.path().join(n.to_string());
        let mut store = SmartRecordStore::open(&file, local).unwrap();
        store.write(&key, &bytes).unwrap();
        drop(store);
        let begun = Instant::now();
        forge(&file, claim);
        let cost = begun.elapsed();
        let mut store = SmartRecordStore::open(&file, local).unwrap();
        assert_eq!(store.view(&key).unwrap().len(), 0, "{claim:?}");
        assert!(store.get(&KadKey::new(&key)).is_none(), "{claim:?}");
        assert_eq!(store.records().count(), 0, "{claim:?}");
        store.collect().unwrap();
        assert_eq!(store.counters().rows_discarded, 1, "{claim:?}");
        println!("{claim:?}: forged in {cost:?}, not shown");
    }
}

/// What was stored before a restart is verified when it is first read. That is no work of the value
/// that is being written: where the work for that is used up, nothing stored is given up.
#[test]
fn a_write_of_much_work_after_a_restart_discards_nothing_that_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (file, local) = (folder.path().join("store"), PeerId::random());
    let (key, ttl) = (RecordKey::new("/sr/board"), Duration::from_secs(3_600));
    let mut signers: Vec<_> = (0..30)
        .map(|_| SpaceSigner::new(key.clone(), Keypair::generate_ecdsa(), Limits::default()))
        .collect();
    let mut say = |text: &str| {
        let mut all = SmartRecord::new(key.clone());
        for signer in &mut signers {
            let document: Dict = [(text, "hello")].into_iter().collect();
            signer.merge(document, SystemClock.now(), ttl).unwrap();
            all.join(signer.record(SystemClock.now())).unwrap();
        }
        all.encode()
    };
    let (before, after) = (say("before"), say("after"));
    let mut store = SmartRecordStore::open(&file, local).unwrap();
    store.write(&key, &before).unwrap();
    drop(store);

    let mut store = SmartRecordStore::open(&file, local).unwrap();
    let packet = Record::new(KadKey::new(&key), after);
    store.put(packet.clone()).unwrap();
    store.collect().unwrap();
    let counters = store.counters();
    println!("{} verified, {} unread", counters.signatures_verified, counters.signatures_unread);
    assert!(counters.signatures_unread > 0, "the value was of too much work");
    assert_eq!(counters.rows_discarded, 0);
    assert_eq!(store.view(&key).unwrap().len(), 30);
}
