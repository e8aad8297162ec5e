//! The kind of a namespace follows from the registered type: no validator makes smart records into
//! values.
//!
//! The `compile_fail` examples of `SpaceRules` and `Registry` show that a validator which only
//! forwards to the rules of spaces, or to a registry, does not compile. Each is beside an example
//! that compiles and differs in the forwarding line. These examples and the tests of `Registry`
//! show that a validator which compiles never gets smart records.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p_identity::{Keypair, PeerId};
use libp2p_smart_record::{
    Admission, Clock, Limits, PolicyRefusal, RecordKey, Registry, SpaceRules, SpaceSigner,
    SystemClock, Writer,
    store::{SmartRecordStore, StoreConfig, StoreEvent},
};

/// Logs the writers, and refuses one of them.
#[derive(Clone, Debug)]
struct Logging {
    log: Arc<Mutex<Vec<PeerId>>>,
    banned: PeerId,
}

impl Admission for Logging {
    fn admit(&self, _: &RecordKey, writer: &Writer) -> Result<(), PolicyRefusal> {
        self.log.lock().unwrap().push(writer.peer_id());
        if writer.peer_id() == self.banned {
            return Err(PolicyRefusal::Other("banned".to_owned()));
        }
        Ok(())
    }

    fn min_work(&self, _: &RecordKey) -> u8 {
        0
    }

    fn check_key(&self, _: &RecordKey) -> Result<(), PolicyRefusal> {
        Ok(())
    }
}

#[test]
fn case_25_who_decides_is_admission_and_who_looks_on_subscribes_and_spaces_stay_spaces() {
    let key = RecordKey::new("/sr/lobby");
    let keypairs: Vec<_> = (0..3).map(|_| Keypair::generate_ed25519()).collect();
    let peers: Vec<_> = keypairs.iter().map(|keypair| keypair.public().to_peer_id()).collect();
    let logging = Logging { log: Arc::default(), banned: peers[2] };
    let rules = SpaceRules::new(Limits::default(), logging.clone());
    let registry = Registry::default().with("sr", rules).unwrap();
    let local = Keypair::generate_ed25519().public().to_peer_id();
    let mut store = SmartRecordStore::with_registry(local, registry, StoreConfig::default());
    let mut events = store.subscribe();
    for keypair in keypairs {
        let now = SystemClock.now();
        let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
        signer.merge([("n", 1)].into_iter().collect(), now, Duration::from_secs(60)).unwrap();
        let _ = store.write(&key, &signer.record(now).encode());
    }

    assert_eq!(*logging.log.lock().unwrap(), peers);
    let mut seen = Vec::new();
    while let Some(event) = events.try_next() {
        match event {
            StoreEvent::Stored { writers, .. } => seen.extend(writers.into_iter().map(Ok)),
            StoreEvent::Refused { writer, .. } => seen.extend(writer.map(Err)),
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(seen, [Ok(peers[0]), Ok(peers[1]), Err(peers[2])]);
    let view = store.view(&key).unwrap();
    let mut writers: Vec<_> = view.iter().map(|(writer, _)| writer.peer_id()).collect();
    let mut expected = peers[..2].to_vec();
    writers.sort_unstable();
    expected.sort_unstable();
    assert_eq!(writers, expected, "the second writer's put leaves the first one's space");
}
