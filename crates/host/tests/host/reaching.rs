//! Nodes that others cannot dial: AutoNAT, relays, hole punching.

use std::time::Duration;

use libp2p::{Multiaddr, autonat, kad, multiaddr::Protocol, relay};
use smart_record_host::{ConnectionLimits, Host, HostBuilder, Reachability};
use smart_record_testing_swarms::within;

use crate::{
    builder, full_address, loopback,
    meeting::{is_answered, with_tls_alone},
    mode, pass_on,
};

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
        let address = loop {
            let addresses = hidden.addresses().await.unwrap();
            let is_relayed = |at: &Multiaddr| at.iter().any(|part| part == Protocol::P2pCircuit);
            if let Some(address) = addresses.into_iter().find(is_relayed) {
                break address;
            }
            tokio::task::yield_now().await;
        };
        assert!(address.to_string().starts_with(&through.to_string()), "{address}");
        let address = address.with_p2p(hidden.peer_id()).unwrap();
        let other = builder().listen_on(loopback()).bootstrap(address).start().await.unwrap();
        // One connection through the relay, and one that hole punching makes.
        let connections = async || other.connections(hidden.peer_id()).await.unwrap().len();
        while connections().await < 2 {
            tokio::task::yield_now().await;
        }
        relay.ended().await;
        while other.peers().await.unwrap() != [hidden.peer_id()] || connections().await > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn strangers_do_not_crowd_out_whom_a_relay_serves() {
    within(async {
        let limits = ConnectionLimits::default().with_inbound(4);
        let relay = builder().listen_on(loopback()).as_relay(relay::Config::default());
        let relay = relay.with_limits(limits).start().await.unwrap();
        let through = full_address(&relay).await;
        let hidden = builder().with_relay(through.clone()).with_mode(kad::Mode::Client);
        let hidden = hidden.start().await.unwrap();
        while hidden.addresses().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let served = relay.connections(hidden.peer_id()).await.unwrap();
        assert_eq!(served.len(), 1);
        let mut strangers = Vec::new();
        for _ in 0..12 {
            let mut stranger = with_tls_alone();
            stranger.dial(through.clone()).unwrap();
            is_answered(&mut stranger, &relay).await;
            strangers.push(stranger);
        }
        assert_eq!(relay.connections(hidden.peer_id()).await.unwrap(), served);
        assert!(!hidden.addresses().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_starts_later_is_used() {
    within(async {
        let keypair = libp2p::identity::Keypair::generate_ed25519();
        let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = other.local_addr().unwrap().port();
        let through: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        let through = through.with(Protocol::P2p(keypair.public().to_peer_id()));
        let hidden = builder().with_relay(through).start().await.unwrap();
        for _ in 0..2 {
            other.accept().await.unwrap();
        }
        let relay = HostBuilder::with_keypair(keypair).listen_on(loopback());
        let relay = relay.as_relay(relay::Config::default()).start().await.unwrap();
        pass_on(other, &full_address(&relay).await);
        while hidden.addresses().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
