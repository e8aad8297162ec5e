//! A record manager over a client.

use libp2p::identity::Keypair;
use libp2p_smart_record::{
    AcceptAny, Namespaces, RecordKey, Registry,
    behaviour::Event,
    client::Client,
    manager::{Holder, ManagerError, RecordManager},
    signed::{SignedRecord, SignedRecordLimits, SignedRecordValidator, UnsignedRecord},
};

use crate::nodes::within;
use crate::peer::{Peer, Setup, mesh};

const KEY: &str = "/notes/a";

fn registry() -> Registry {
    Registry::default().with("notes", SignedRecordValidator::default()).unwrap()
}

async fn start_by(registry: Registry) -> Peer {
    Setup { registry, ..Setup::default() }.start().await
}

async fn start() -> (Peer, RecordManager<Client>) {
    let peer = start_by(registry()).await;
    let rules = Namespaces::empty().with("notes", SignedRecordValidator::default()).unwrap();
    let manager = RecordManager::new(peer.keypair.clone(), rules, peer.client.clone());
    (peer, manager)
}

fn record(text: &'static str, sequence: u64) -> SignedRecord {
    let author = Keypair::ed25519_from_bytes([5; 32]).unwrap();
    UnsignedRecord::new(KEY, text, sequence).sign(&author, &SignedRecordLimits::default()).unwrap()
}

/// Stores a value at the peer directly.
async fn give(peer: &Peer, value: Vec<u8>) {
    let key = RecordKey::new(KEY);
    peer.smart(move |smart| smart.store_mut().write(&key, &value).unwrap()).await;
}

async fn forget(peer: &Peer) {
    peer.smart(|smart| smart.store_mut().forget(&RecordKey::new(KEY)).unwrap()).await;
}

#[tokio::test]
async fn a_published_record_is_read_by_another_manager() {
    let ((a, alice), (b, bob)) = (start().await, start().await);
    mesh(&[&a, &b]).await;
    within(async {
        assert_eq!(bob.get(KEY).await.unwrap(), None);
        let published = alice.publish(KEY, "hello").await.unwrap();
        assert_eq!(published.peers, 1);
        assert_eq!(bob.get_record(KEY).await.unwrap(), Some(published.record));
        bob.publish(KEY, "hello yourself").await.unwrap();
        assert_eq!(alice.get(KEY).await.unwrap(), Some(b"hello yourself".to_vec()));
    })
    .await;
}

#[tokio::test]
async fn the_highest_sequence_wins_and_stale_and_dishonest_holders_are_reported() {
    let (mut reader, manager) = start().await;
    let (newest, stale) = (start_by(registry()).await, start_by(registry()).await);
    let empty = start_by(registry()).await;
    let liar = start_by(Registry::empty().with_fallback(AcceptAny::default())).await;
    for peer in [&newest, &stale, &empty, &liar] {
        reader.add(peer.id, peer.address.clone()).await;
    }
    within(async {
        give(&newest, record("new", 2).encode().to_vec()).await;
        give(&stale, record("old", 1).encode().to_vec()).await;
        give(&liar, b"anything".to_vec()).await;
        let lookup = manager.lookup(KEY).await.unwrap();
        assert_eq!(lookup.best, Some(record("new", 2)));
        let mut behind = lookup.behind;
        behind.sort_unstable();
        let mut expected = [Holder::Peer(stale.id), Holder::Peer(empty.id)];
        expected.sort_unstable();
        assert_eq!(behind, expected);
        let refused: Vec<_> = lookup.refused.iter().map(|(holder, _)| *holder).collect();
        assert_eq!(refused, [Holder::Peer(liar.id)]);

        let mut repaired = Vec::new();
        while !(repaired.contains(&stale.id) && repaired.contains(&empty.id)) {
            repaired.extend(
                reader
                    .until(|event| match event {
                        Event::Repaired { peers, .. } => Some(peers.clone()),
                        _ => None,
                    })
                    .await,
            );
        }
        for peer in [&stale, &empty, &reader] {
            let key = RecordKey::new(KEY);
            let stored = peer.smart(move |smart| smart.store_mut().value(&key).unwrap()).await;
            assert_eq!(stored.unwrap().value, record("new", 2).encode());
        }
    })
    .await;
}

#[tokio::test]
async fn an_old_record_does_not_come_back() {
    let ((reader, manager), holder) = (start().await, start_by(registry()).await);
    mesh(&[&reader, &holder]).await;
    within(async {
        give(&holder, record("new", 2).encode().to_vec()).await;
        assert_eq!(manager.get(KEY).await.unwrap(), Some(b"new".to_vec()));
        forget(&holder).await;
        forget(&reader).await;
        give(&holder, record("old", 1).encode().to_vec()).await;
        let error = manager.get(KEY).await.unwrap_err();
        assert!(matches!(error, ManagerError::RolledBack { known: 2, found: 1, .. }), "{error}");
    })
    .await;
}
