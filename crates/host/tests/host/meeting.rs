//! How nodes find and reach each other: names, encryption, private networks.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, multiaddr::Protocol, ping, pnet::PreSharedKey,
    swarm::SwarmEvent, tcp, tls, yamux,
};
use smart_record_host::{ConnectionLimits, Host, HostError};
use smart_record_testing_swarms::within;
use tokio::{
    net::{TcpStream, UdpSocket},
    sync::mpsc,
};

use crate::{builder, full_address, loopback, meets};

/// An address with a name in the place of its first part.
fn named(name: Protocol<'_>, address: &Multiaddr) -> Multiaddr {
    address.replace(0, |_| Some(name.acquire())).unwrap()
}

#[tokio::test]
async fn case_3_a_node_is_joined_through_a_name() {
    within(async {
        let quic = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
        let node = builder().listen_on(loopback()).listen_on(quic).start().await.unwrap();
        for address in node.addresses().await.unwrap() {
            let address = address.with(Protocol::P2p(node.peer_id()));
            for name in [Protocol::Dns4("localhost".into()), Protocol::Dns("localhost".into())] {
                let address = named(name, &address);
                meets(&builder().bootstrap(address).start().await.unwrap(), &node).await;
            }
        }
        // A machine may have no IPv6.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            let listen = "/ip6/::1/tcp/0".parse().unwrap();
            let node = builder().listen_on(listen).start().await.unwrap();
            let address = named(Protocol::Dns6("localhost".into()), &full_address(&node).await);
            meets(&builder().bootstrap(address).start().await.unwrap(), &node).await;
        } else {
            smart_record_testing::skipped("there is no IPv6");
        }
    })
    .await;
}

/// A server of names that knows `node.test`, and under `nodes.test` the address of a node.
async fn name_server(node: &Multiaddr) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = socket.local_addr().unwrap();
    let text = format!("dnsaddr={node}");
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (_, from) = socket.recv_from(&mut buffer).await.unwrap();
            // Header of 12 bytes, labels with their lengths up to an empty one, type and class.
            let mut end = 12;
            let mut name = String::new();
            while buffer[end] != 0 {
                let label = &buffer[end + 1..=end + usize::from(buffer[end])];
                name += &format!("{}.", str::from_utf8(label).unwrap());
                end += label.len() + 1;
            }
            let kind = u16::from_be_bytes([buffer[end + 1], buffer[end + 2]]);
            let data = match (&*name, kind) {
                ("_dnsaddr.nodes.test.", 16) => {
                    Some([&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat())
                }
                ("node.test.", 1) => Some(vec![127, 0, 0, 1]),
                _ => None,
            };
            let mut reply = buffer[..2].to_vec();
            let (flags, answers) =
                if data.is_some() { ([0x81, 0x80], 1) } else { ([0x81, 0x83], 0) };
            reply.extend(flags);
            reply.extend([0, 1, 0, answers, 0, 0, 0, 0]);
            reply.extend(&buffer[12..end + 5]);
            if let Some(data) = data {
                // The name of the question, a lifetime of a minute.
                reply.extend([0xc0, 12]);
                reply.extend(kind.to_be_bytes());
                reply.extend([0, 1, 0, 0, 0, 60]);
                reply.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
                reply.extend(data);
            }
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    at
}

#[tokio::test]
async fn case_3_a_name_is_looked_up_where_the_node_is_told_to() {
    within(async {
        let node = builder().listen_on(loopback()).start().await.unwrap();
        let address = full_address(&node).await;
        let servers = [name_server(&address).await];
        let nodes = Protocol::Dnsaddr("nodes.test".into());
        for address in [
            Multiaddr::from(nodes).with(Protocol::P2p(node.peer_id())),
            named(Protocol::Dns4("node.test".into()), &address),
            named(Protocol::Dns("node.test".into()), &address),
        ] {
            let joins = builder().with_name_servers(servers).bootstrap(address);
            meets(&joins.start().await.unwrap(), &node).await;
        }
    })
    .await;
}

/// A node without Noise, without identify and without Kademlia, that pings whom it meets.
pub fn with_tls_alone() -> Swarm<ping::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), tls::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| ping::Behaviour::default())
        .unwrap()
        .build()
}

pub async fn is_answered(swarm: &mut Swarm<ping::Behaviour>, node: &Host) {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(ping::Event { peer, result, .. }) => {
                assert_eq!(peer, node.peer_id());
                result.unwrap();
                return;
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_peer_that_speaks_tls_alone_is_met_both_ways_and_its_pings_are_answered() {
    within(async {
        let node = builder().listen_on(loopback()).start().await.unwrap();
        let mut peer = with_tls_alone();
        peer.dial(full_address(&node).await).unwrap();
        is_answered(&mut peer, &node).await;

        let mut peer = with_tls_alone();
        peer.listen_on(loopback()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = peer.select_next_some().await {
                break address.with(Protocol::P2p(*peer.local_peer_id()));
            }
        };
        let node = builder().bootstrap(address).start().await.unwrap();
        is_answered(&mut peer, &node).await;
    })
    .await;
}

/// Case 20, before the handshake.
#[tokio::test]
async fn case_20_strangers_that_connect_and_say_nothing_keep_nobody_out() {
    within(async {
        let limits = ConnectionLimits::default().with_pending_inbound(8);
        let node = builder().listen_on(loopback()).with_limits(limits).start().await.unwrap();
        let address = full_address(&node).await;
        let Some(Protocol::Tcp(port)) = address.iter().nth(1) else { panic!("{address}") };
        let mut silent = Vec::new();
        for _ in 0..32 {
            silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
        let mut peer = with_tls_alone();
        peer.dial(address).unwrap();
        is_answered(&mut peer, &node).await;
        assert!(node.counters().handshakes_displaced > 0);
    })
    .await;
}

#[tokio::test]
async fn servers_that_keep_their_connections_do_not_hold_all_places() {
    within(async {
        let limits = ConnectionLimits::default().with_outbound(4);
        let node = builder().with_limits(limits).start().await.unwrap();
        let mut servers = Vec::new();
        let mut keys = (0..).map(|n| format!("/sr/host/{n}"));
        for _ in 0..10 {
            let server = builder().listen_on(loopback()).start().await.unwrap();
            let (id, address) = (server.peer_id(), full_address(&server).await);
            node.run(move |records| records.kad_mut().add_address(&id, address)).await.unwrap();
            // What is asked of the others may take a place for a moment.
            while !node.peers().await.unwrap().contains(&id) {
                let _ = node.client().get(keys.next().unwrap()).await;
            }
            servers.push(server);
        }
        assert!(node.counters().connections_displaced > 0);
    })
    .await;
}

#[tokio::test]
async fn a_dial_takes_three_files_at_most_however_many_addresses_a_peer_has() {
    within(async {
        let peer = libp2p::PeerId::random();
        let (accepted, mut all) = mpsc::channel(12);
        let mut dialer = builder();
        for _ in 0..12 {
            let silent = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let port = silent.local_addr().unwrap().port();
            let address = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{peer}");
            dialer = dialer.bootstrap(address.parse().unwrap());
            let accepted = accepted.clone();
            tokio::spawn(async move { accepted.send(silent.accept().await.unwrap().0).await });
        }
        let dialer = dialer.start().await.unwrap();
        for _ in 0..4 {
            let mut at_once = Vec::new();
            while at_once.len() < 3 {
                at_once.push(all.recv().await.unwrap());
            }
            // The node and the listeners have had their turns.
            dialer.status().await.unwrap();
            assert!(all.try_recv().is_err(), "more than three at once");
        }
    })
    .await;
}

#[tokio::test]
async fn only_nodes_with_the_key_of_a_private_network_meet() {
    within(async {
        let key = |byte| PreSharedKey::new([byte; 32]);
        let private = |byte| builder().with_private_network(key(byte));
        let node = private(1).listen_on(loopback()).start().await.unwrap();
        let address = full_address(&node).await;
        meets(&private(1).bootstrap(address.clone()).start().await.unwrap(), &node).await;
        for other in [private(2), builder()] {
            let other = other.bootstrap(address.clone()).start().await.unwrap();
            let document = [("text", "hello")].into_iter().collect();
            let published = other.client().publish("/sr/host", document, crate::LIFETIME).await;
            assert!(published.is_err(), "{published:?}");
            assert_eq!(other.peers().await.unwrap(), []);
        }
        let quic = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
        let error = private(1).listen_on(quic).start().await.unwrap_err();
        assert!(matches!(error, HostError::Transport(_)), "{error:?}");
    })
    .await;
}
