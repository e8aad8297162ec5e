//! Test support with swarms, for several packages. It uses none of this project's behaviours and
//! stores.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod node;
mod scripted;

use std::{net::Ipv4Addr, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, StreamProtocol, Swarm, SwarmBuilder,
    identity::Keypair,
    multiaddr::Protocol,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};

pub use node::{Behaviour, Node, NodeError, connect};
pub use scripted::Scripted;

/// Protocol of the test nodes, which keeps them apart from other DHTs.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/smart-record-test/kad/1.0.0");

/// Longest wait, far above what any test needs, so that a test that hangs fails.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Fails the test if `work` hangs.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("the test hangs")
}

/// A swarm over TCP with Noise and Yamux that listens on a free port of the loopback interface, and
/// its address.
pub async fn listening<B: NetworkBehaviour>(
    keypair: Keypair,
    behaviour: B,
) -> (Swarm<B>, Multiaddr) {
    // The default of libp2p.
    listening_with(keypair, behaviour, Duration::from_secs(10)).await
}

/// As [`listening`], with a connection timeout.
pub async fn listening_with<B: NetworkBehaviour>(
    keypair: Keypair,
    behaviour: B,
    connection_timeout: Duration,
) -> (Swarm<B>, Multiaddr) {
    listening_at(Ipv4Addr::LOCALHOST, keypair, behaviour, connection_timeout).await
}

/// As [`listening_with`], at an address of this machine.
pub async fn listening_at<B: NetworkBehaviour>(
    ip: Ipv4Addr,
    keypair: Keypair,
    behaviour: B,
    connection_timeout: Duration,
) -> (Swarm<B>, Multiaddr) {
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(2 * PATIENCE))
        .with_connection_timeout(connection_timeout)
        .build();
    swarm.listen_on(Multiaddr::from(ip).with(Protocol::Tcp(0))).unwrap();
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => return (swarm, address),
            SwarmEvent::ListenerError { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
}
