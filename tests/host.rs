//! A ready node: over TCP and over QUIC.

#![cfg(feature = "node")]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

#[cfg(feature = "redb")]
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, StreamProtocol, kad, multiaddr::Protocol};
#[cfg(feature = "redb")]
use libp2p_smart_record::SmartRecordStore;
use libp2p_smart_record::host::{HostError, Node, NodeBuilder};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/host-test/kad/1.0.0");
const PATIENCE: Duration = Duration::from_secs(60);

fn builder() -> NodeBuilder {
    Node::builder().with_protocol(PROTOCOL).with_mode(kad::Mode::Server)
}

async fn full_address(node: &Node) -> Multiaddr {
    let address = node.addresses().await.unwrap().remove(0);
    address.with(Protocol::P2p(node.peer_id()))
}

async fn publishes_and_reads(listen: &str) {
    tokio::time::timeout(PATIENCE, async {
        let listen: Multiaddr = listen.parse().unwrap();
        let first = builder().listen_on(listen.clone()).start().await.unwrap();
        let address = full_address(&first).await;
        let second = builder().listen_on(listen).bootstrap(address).start().await.unwrap();
        let document = [("text", "hello")].into_iter().collect();
        let publication =
            second.client().publish("/sr/host", document, Duration::from_secs(60)).await.unwrap();
        assert_eq!(publication.peers, [first.peer_id()]);
        assert_eq!(first.client().view("/sr/host").await.unwrap().len(), 1);
        assert_eq!(second.peers().await.unwrap(), [first.peer_id()]);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn two_nodes_meet_over_tcp() {
    publishes_and_reads("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test]
async fn two_nodes_meet_over_quic() {
    publishes_and_reads("/ip4/127.0.0.1/udp/0/quic-v1").await;
}

#[tokio::test]
async fn the_task_ends_with_the_last_client() {
    let node = builder().start().await.unwrap();
    let client = node.client().clone();
    let mut ended = std::pin::pin!(node.ended());
    let reading = tokio::select! {
        () = &mut ended => panic!("a client is left"),
        reading = client.get("/sr/host") => reading,
    };
    assert!(reading.unwrap().is_empty());
    drop(client);
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn a_node_keeps_its_records_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records");
    let keypair = Keypair::generate_ed25519();
    let start = async || {
        let store = SmartRecordStore::open(&file, keypair.public().to_peer_id()).unwrap();
        let builder = NodeBuilder::with_keypair(keypair.clone()).with_store(store);
        builder.with_protocol(PROTOCOL).start().await.unwrap()
    };
    tokio::time::timeout(PATIENCE, async {
        let node = start().await;
        let document = [("text", "hello")].into_iter().collect();
        node.client().publish("/sr/host", document, Duration::from_secs(60)).await.unwrap();
        node.ended().await;
        let again = start().await;
        assert_eq!(again.client().view("/sr/host").await.unwrap().len(), 1);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn bad_addresses_are_told() {
    let nameless: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let error = builder().bootstrap(nameless.clone()).start().await.unwrap_err();
    assert!(matches!(error, HostError::NoPeer(address) if address == nameless));
    let nowhere: Multiaddr = "/ip4/203.0.113.1/tcp/0".parse().unwrap();
    let error = builder().listen_on(nowhere).start().await.unwrap_err();
    assert!(matches!(error, HostError::Transport(_)), "{error:?}");
}

async fn offers_a_service(listen: &str) {
    use futures::StreamExt;
    use libp2p_smart_record::services::{DialPolicy, Service, connectivity, dialable, findings};

    tokio::time::timeout(PATIENCE, async {
        let listen: Multiaddr = listen.parse().unwrap();
        let policy = DialPolicy::default().with_private_addresses(true);
        let service = Service::builder().with_reachability(policy);
        let first =
            builder().listen_on(listen.clone()).with_service(service).start().await.unwrap();
        let address = full_address(&first).await;
        let second = builder().listen_on(listen).bootstrap(address).start().await.unwrap();
        let own = full_address(&second).await;
        let document = [("a", dialable(&own)), ("b", connectivity(&own))].into_iter().collect();
        second.client().publish("/sr/host", document, Duration::from_secs(60)).await.unwrap();
        let mut watch = second.client().watch("/sr/host").await.unwrap();
        loop {
            let view = watch.next().await.unwrap().view();
            let mut found: Vec<_> =
                findings(&view).map(|(by, found)| (by.peer_id(), found.finding.tag)).collect();
            found.sort();
            if found.len() == 2 {
                let by = first.peer_id();
                assert_eq!(found, [(by, "connected".to_owned()), (by, "dialed".to_owned())]);
                break;
            }
        }
        let client = first.client().clone();
        let mut ended = std::pin::pin!(first.ended());
        drop(client);
        (&mut ended).await;
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_node_offers_a_service_over_tcp_and_ends_nevertheless() {
    offers_a_service("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test]
async fn a_node_offers_a_service_over_quic() {
    offers_a_service("/ip4/127.0.0.1/udp/0/quic-v1").await;
}
