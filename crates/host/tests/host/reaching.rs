//! Nodes that others cannot dial: AutoNAT, relays, hole punching.

use std::time::Duration;

use futures::StreamExt;
use libp2p::{Multiaddr, autonat, identity::Keypair, kad, multiaddr::Protocol, relay};
use smart_record_host::{Host, HostBuilder, Reachability};
use smart_record_testing_swarms::{PROTOCOL, listening, within};

use crate::{Reserved, builder, full_address, loopback, mode, reserved};

/// AutoNAT at short intervals, between addresses of this machine.
fn autonat() -> autonat::Config {
    autonat::Config {
        boot_delay: Duration::ZERO,
        retry_interval: Duration::from_millis(100),
        throttle_server_period: Duration::ZERO,
        confidence_max: 1,
        only_global_ips: false,
        ..autonat::Config::default()
    }
}

async fn checked(node: &Host) -> Reachability {
    loop {
        let status = node.status().await.unwrap();
        if status.reachability != Reachability::Unknown {
            return status.reachability;
        }
        tokio::task::yield_now().await;
    }
}

/// A node that dials from 127.0.0.1 and listens elsewhere: an address that the other side does not
/// see and that forwards nothing, like that of a machine behind a NAT.
fn behind_a_nat(server: Multiaddr) -> HostBuilder {
    let elsewhere = "/ip4/127.0.0.2/tcp/0".parse().unwrap();
    builder().listen_on(elsewhere).with_autonat(autonat()).bootstrap(server)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_node_that_nobody_reaches_becomes_a_client_unless_it_is_told_otherwise() {
    within(async {
        let server = builder().listen_on(loopback()).with_autonat(autonat()).start().await.unwrap();
        let address = full_address(&server).await;
        let node = behind_a_nat(address.clone()).start().await.unwrap();
        assert_eq!(mode(&node).await, kad::Mode::Server);
        assert_eq!(checked(&node).await, Reachability::Private);
        assert_eq!(mode(&node).await, kad::Mode::Client);
        let told = behind_a_nat(address).with_mode(kad::Mode::Server).start().await.unwrap();
        assert_eq!(checked(&told).await, Reachability::Private);
        assert_eq!(mode(&told).await, kad::Mode::Server);
    })
    .await;
}

#[tokio::test]
async fn a_node_that_others_reach_stays_a_server() {
    within(async {
        let server = builder().listen_on(loopback()).with_autonat(autonat()).start().await.unwrap();
        let address = full_address(&server).await;
        let node = builder().listen_on(loopback()).with_autonat(autonat()).bootstrap(address);
        let node = node.start().await.unwrap();
        let Reachability::Public(at) = checked(&node).await else { panic!("it is reachable") };
        assert_eq!(at, full_address(&node).await);
        assert_eq!(mode(&node).await, kad::Mode::Server);
    })
    .await;
}

#[tokio::test]
async fn a_node_is_reached_through_a_relay_and_then_directly() {
    within(async {
        let relay = builder().listen_on(loopback()).as_relay(relay::Config::default());
        let relay = relay.start().await.unwrap();
        let through = full_address(&relay).await;
        let hidden = builder().listen_on(loopback()).with_relay(through.clone());
        let hidden = hidden.with_mode(kad::Mode::Client).start().await.unwrap();
        let address = relayed_address(&hidden).await;
        assert!(address.to_string().starts_with(&through.to_string()), "{address}");
        let other = builder().listen_on(loopback()).bootstrap(address).start().await.unwrap();
        becomes_direct(&other, &hidden).await;
        relay.ended().await;
        while other.peers().await.unwrap() != [hidden.peer_id()]
            || are_relayed(&other, &hidden).await != [false]
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn hole_punching_begins_again_when_a_peer_learns_its_address_later() {
    within(async {
        // A relay that tells nobody at which address it sees them.
        let keypair = Keypair::generate_ed25519();
        let peer = keypair.public().to_peer_id();
        let relay = relay::Behaviour::new(peer, relay::Config::default());
        let (mut relay, at) = listening(keypair, relay).await;
        relay.add_external_address(at.clone());
        let relay = tokio::spawn(async move {
            loop {
                relay.select_next_some().await;
            }
        });
        let server = builder().listen_on(loopback()).start().await.unwrap();
        let hidden = builder().listen_on(loopback()).bootstrap(full_address(&server).await);
        let hidden = hidden.with_mode(kad::Mode::Client).with_relay(at.with(Protocol::P2p(peer)));
        let hidden = hidden.start().await.unwrap();
        let address = relayed_address(&hidden).await;
        let Reserved { keypair, listen, address: entry, listener } = reserved().await;
        let other = builder().listen_on(loopback()).bootstrap(address).bootstrap(entry);
        let other = other.start().await.unwrap();
        while are_relayed(&other, &hidden).await.is_empty() {
            tokio::task::yield_now().await;
        }
        // From a peer that starts now, the node learns its address.
        drop(listener);
        let later = HostBuilder::with_keypair(keypair).with_protocol(PROTOCOL);
        let _later = later.listen_on(listen).start().await.unwrap();
        becomes_direct(&other, &hidden).await;
        relay.abort();
    })
    .await;
}

/// Whether each connection of a node with another is relayed.
async fn are_relayed(node: &Host, with: &Host) -> Vec<bool> {
    let connections = node.connections(with.peer_id()).await.unwrap();
    connections.iter().map(|(_, endpoint)| endpoint.is_relayed()).collect()
}

async fn becomes_direct(node: &Host, with: &Host) {
    while !are_relayed(node, with).await.contains(&false) {
        tokio::task::yield_now().await;
    }
}

/// The address of a node through its relay.
async fn relayed_address(node: &Host) -> Multiaddr {
    loop {
        let addresses = node.addresses().await.unwrap();
        let is_relayed = |at: &Multiaddr| at.iter().any(|part| part == Protocol::P2pCircuit);
        if let Some(address) = addresses.into_iter().find(is_relayed) {
            return address.with_p2p(node.peer_id()).unwrap();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_relay_that_starts_later_is_used() {
    within(async {
        let Reserved { keypair, listen, address: through, listener } = reserved().await;
        let hidden = builder().with_relay(through).start().await.unwrap();
        for _ in 0..2 {
            listener.accept().await.unwrap();
        }
        drop(listener);
        let relay = HostBuilder::with_keypair(keypair).listen_on(listen);
        let _relay = relay.as_relay(relay::Config::default()).start().await.unwrap();
        while hidden.addresses().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
