//! A ready node over TCP and over QUIC.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod joining;
mod meeting;
#[cfg(feature = "metrics")]
mod metrics;
mod reaching;

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Duration,
};

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, kad, multiaddr::Protocol};
use libp2p_smart_record::{client::ClientError, store::SmartRecordStore};
use smart_record_host::{Host, HostBuilder, HostError};
use smart_record_testing_swarms::PROTOCOL;
use tokio::net::{TcpListener, TcpSocket};

const LIFETIME: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(300);

fn builder() -> HostBuilder {
    Host::builder().with_protocol(PROTOCOL)
}

fn loopback() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().unwrap()
}

/// Waits until a node is connected with another.
async fn meets(node: &Host, other: &Host) {
    while node.peers().await.unwrap() != [other.peer_id()] {
        tokio::task::yield_now().await;
    }
}

async fn full_address(node: &Host) -> Multiaddr {
    let address = node.addresses().await.unwrap().remove(0);
    address.with(Protocol::P2p(node.peer_id()))
}

/// A key, and an address at which a node with it can listen later.
struct Reserved {
    keypair: Keypair,
    listen: Multiaddr,
    /// With the peer.
    address: Multiaddr,
    /// Listens there until it is dropped. A node can listen there at the same time, so that the
    /// port is never free for others.
    listener: TcpListener,
}

async fn reserved() -> Reserved {
    let keypair = Keypair::generate_ed25519();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    // The transport of libp2p does so, too.
    #[cfg(unix)]
    socket.set_reuseport(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(64).unwrap();
    let port = listener.local_addr().unwrap().port();
    let listen: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let address = listen.clone().with(Protocol::P2p(keypair.public().to_peer_id()));
    Reserved { keypair, listen, address, listener }
}

/// Waits until so many documents are stored under `/sr/host`.
async fn until_stored(node: &Host, documents: usize) {
    let view = || node.run(|records| records.store_mut().view(&"/sr/host".into()).unwrap());
    while view().await.unwrap().len() != documents {
        tokio::task::yield_now().await;
    }
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
        // The first node is a server by default. It has answered before it validates.
        until_stored(&first, 1).await;
        assert_eq!(second.peers().await.unwrap(), [first.peer_id()]);
    })
    .await
    .unwrap();
}

#[test]
fn outside_of_a_runtime_a_node_does_not_start() {
    let refused = futures::executor::block_on(builder().start());
    assert!(matches!(refused, Err(HostError::NoRuntime)));
}

#[tokio::test]
async fn two_nodes_meet_over_tcp() {
    publishes_and_reads("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test]
async fn two_nodes_meet_over_quic() {
    publishes_and_reads("/ip4/127.0.0.1/udp/0/quic-v1").await;
}

async fn mode(node: &Host) -> kad::Mode {
    node.run(|records| records.kad().mode()).await.unwrap()
}

#[tokio::test]
async fn a_node_that_listens_is_a_server_by_default() {
    let listening = || builder().listen_on(loopback());
    assert_eq!(mode(&listening().start().await.unwrap()).await, kad::Mode::Server);
    assert_eq!(mode(&builder().start().await.unwrap()).await, kad::Mode::Client);
    let behind_a_nat = listening().with_mode(kad::Mode::Client).start().await.unwrap();
    assert_eq!(mode(&behind_a_nat).await, kad::Mode::Client);
}

#[tokio::test]
async fn a_node_that_listens_on_all_addresses_reports_them_at_once() {
    let everywhere = "/ip4/0.0.0.0/tcp/0".parse().unwrap();
    let node = builder().listen_on(everywhere).start().await.unwrap();
    let addresses = node.addresses().await.unwrap();
    let has = |ip: IpAddr| addresses.iter().any(|at| at.iter().next() == Some(ip.into()));
    assert!(has(Ipv4Addr::LOCALHOST.into()), "{addresses:?}");
    // The address by which this machine reaches others, if it has a network; nothing is sent.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect("203.0.113.1:9").is_ok() {
        let ip = socket.local_addr().unwrap().ip();
        assert!(has(ip), "{addresses:?} lack {ip}");
    } else {
        smart_record_testing::skipped("there is no network");
    }
}

#[tokio::test]
async fn few_of_many_claimed_addresses_of_a_peer_are_kept() {
    tokio::time::timeout(PATIENCE, async {
        let first = builder().listen_on(loopback()).start().await.unwrap();
        let mut boaster = builder().listen_on(loopback()).bootstrap(full_address(&first).await);
        for port in 1..=16 {
            boaster =
                boaster.with_external_address(format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap());
        }
        let boaster = boaster.start().await.unwrap();
        let works = full_address(&boaster).await;
        let id = boaster.peer_id();
        loop {
            boaster.client().get("/sr/host").await.unwrap();
            let of = first
                .run(move |records| {
                    let bucket = records.kad_mut().kbucket(id)?;
                    let mut entries = bucket.iter();
                    let entry = entries.find(|entry| *entry.node.key.preimage() == id)?;
                    Some(entry.node.value.iter().cloned().collect::<Vec<_>>())
                })
                .await;
            // Identify may not have finished.
            if let Some(addresses) = of.unwrap() {
                assert_eq!(addresses.len(), 3, "{addresses:?}");
                assert!(addresses.contains(&works), "{addresses:?}");
                return;
            }
        }
    })
    .await
    .unwrap();
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

#[tokio::test]
async fn what_goes_with_the_last_client_is_withdrawn_before_the_node_ends() {
    tokio::time::timeout(PATIENCE, async {
        let listen: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
        let first = builder().listen_on(listen).start().await.unwrap();
        let second = builder().bootstrap(full_address(&first).await).start().await.unwrap();
        let document = [("text", "hello")].into_iter().collect();
        // It does not expire during the test.
        let hour = Duration::from_secs(3_600);
        let handle = second.client().keep("/sr/host", document, hour).await.unwrap();
        // The first node answers before it validates.
        until_stored(&first, 1).await;
        let ended = second.ended();
        drop(handle);
        ended.await;
        until_stored(&first, 0).await;
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_node_keeps_its_records_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records");
    let keypair = Keypair::generate_ed25519();
    let start = async || {
        let store = SmartRecordStore::open(&file, keypair.public().to_peer_id()).unwrap();
        let builder = HostBuilder::with_keypair(keypair.clone()).with_store(store).unwrap();
        builder.with_protocol(PROTOCOL).start().await.unwrap()
    };
    tokio::time::timeout(PATIENCE, async {
        let node = start().await;
        let document = [("text", "hello")].into_iter().collect();
        // Nobody else is there; it is stored all the same.
        let published = node.client().publish("/sr/host", document, Duration::from_secs(60)).await;
        assert!(matches!(published, Err(ClientError::NotAcknowledged(_))), "{published:?}");
        node.ended().await;
        let again = start().await;
        assert_eq!(again.client().view("/sr/host").await.unwrap().len(), 1);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn bad_addresses_are_typed_errors() {
    let nameless: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let error = builder().bootstrap(nameless.clone()).start().await.unwrap_err();
    assert!(matches!(error, HostError::NoPeer(address) if address == nameless));
    let nowhere: Multiaddr = "/ip4/203.0.113.1/tcp/0".parse().unwrap();
    let error = builder().listen_on(nowhere).start().await.unwrap_err();
    assert!(matches!(error, HostError::Transport(_)), "{error:?}");
}

async fn offers_a_service(listen: &str) {
    use futures::StreamExt;
    use smart_record_services::{DialPolicy, Service, connectivity, dialable, findings};

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
async fn a_node_with_a_service_answers_over_tcp_and_ends() {
    offers_a_service("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test]
async fn a_node_with_a_service_answers_over_quic() {
    offers_a_service("/ip4/127.0.0.1/udp/0/quic-v1").await;
}

/// Case 16.
#[test]
fn case_16_a_node_does_not_take_the_store_of_another_peer() {
    let peer = Keypair::generate_ed25519().public().to_peer_id();
    let error = builder().with_store(SmartRecordStore::new(peer)).unwrap_err();
    assert_eq!(*error.owner, peer);
}
