//! Connections: existing, dialled, denied, and failed ones.

use libp2p::{connection_limits as limits, ping};

use super::*;

/// `Outbound` with connection limits that are checked after it.
#[derive(NetworkBehaviour)]
struct Limited {
    outbound: Outbound,
    limits: limits::Behaviour,
}

/// `Outbound` with connection limits that are checked before it.
#[derive(NetworkBehaviour)]
struct LimitedFirst {
    limits: limits::Behaviour,
    outbound: Outbound,
}

async fn limited<B: NetworkBehaviour>(
    limits: limits::ConnectionLimits,
    behaviour: impl FnOnce(Outbound, limits::Behaviour) -> B,
) -> Swarm<B> {
    let keypair = Keypair::generate_ed25519();
    let outbound = Outbound::new(keypair.public().to_peer_id(), PROTOCOL);
    listening(keypair, behaviour(outbound, limits::Behaviour::new(limits))).await.0
}

/// A loopback address without a listener.
async fn nowhere() -> Multiaddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port()).parse().unwrap()
}

#[tokio::test]
async fn a_failed_dial_says_whether_the_peer_is_at_fault() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let live = peers.server().await;
    let own = client.listeners().next().unwrap().clone();
    let stranger = PeerId::random();
    let quic = "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap();
    for (addresses, expected) in [
        (vec![], Failure::NoAddress),
        // An answer that names our own addresses for another peer would make us dial ourselves.
        (vec![own.clone(), own.with_p2p(stranger).unwrap()], Failure::NoAddress),
        (vec![quic], Failure::NoAddress),
        (vec![nowhere().await], Failure::Unreachable),
        // Another peer listens there.
        (vec![live.address.clone()], Failure::Unreachable),
    ] {
        let shown = format!("{addresses:?}");
        send_to(client.behaviour_mut(), stranger, addresses, get("key"));
        let failure = next(&mut client).await.result.unwrap_err();
        assert_eq!(failure, expected, "{shown}");
        let of_the_peer = lookup::Failure::from(&failure) == lookup::Failure::Unreachable;
        assert_eq!(of_the_peer, expected == Failure::Unreachable);
    }
}

#[tokio::test]
async fn a_peer_without_the_protocol_is_unsupported_and_not_silent() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let keypair = Keypair::generate_ed25519();
    let kad_client = kad(&keypair, kad::Mode::Client);
    let others = [
        peers.start(keypair, kad_client).await,
        peers.start(Keypair::generate_ed25519(), ping::Behaviour::default()).await,
        peers.start(Keypair::generate_ed25519(), Outbound::new(PeerId::random(), PROTOCOL)).await,
    ];
    for peer in others {
        assert_eq!(ask(&mut client, &peer, get("key")).await, Err(Failure::Unsupported));
    }
}

#[tokio::test]
async fn a_request_to_a_killed_peer_fails_without_a_timeout() {
    let mut client = client().await;
    let mut peers = Peers::default();
    let peer = peers.server().await;
    assert_eq!(ask(&mut client, &peer, get("key")).await, Ok(Response::default()));
    peers.0.shutdown().await;
    let failure = ask(&mut client, &peer, get("key")).await.unwrap_err();
    // The stream may end before the connection does.
    assert!(matches!(failure, Failure::Unreachable | Failure::Closed), "{failure:?}");
    assert_eq!(ask(&mut client, &peer, get("key")).await, Err(Failure::Unreachable));
}

#[tokio::test]
async fn a_denied_connection_fails_its_requests_at_once() {
    let mut peers = Peers::default();
    let live = peers.server().await;
    let none = limits::ConnectionLimits::default;
    for limits in
        [none().with_max_pending_outgoing(Some(0)), none().with_max_established_outgoing(Some(0))]
    {
        let make = |outbound, limits| Limited { outbound, limits };
        let mut client = limited(limits.clone(), make).await;
        for _ in 0..2 {
            send(&mut client.behaviour_mut().outbound, &live, get("key"));
            assert_eq!(next_of_limited(&mut client).await, Err(Failure::Denied));
        }
        // Nothing was sent on the denied connection: once allowed, a new connection is made and
        // used.
        *client.behaviour_mut().limits.limits_mut() = none();
        send(&mut client.behaviour_mut().outbound, &live, get("key"));
        assert_eq!(next_of_limited(&mut client).await, Ok(Response::default()));

        let make = |outbound, limits| LimitedFirst { limits, outbound };
        let mut client = limited(limits, make).await;
        send(&mut client.behaviour_mut().outbound, &live, get("key"));
        let ended = within(async {
            loop {
                let event = client.select_next_some().await;
                if let SwarmEvent::Behaviour(LimitedFirstEvent::Outbound(ended)) = event {
                    return ended.result;
                }
            }
        });
        assert_eq!(ended.await, Err(Failure::Denied));
    }
}

async fn next_of_limited(client: &mut Swarm<Limited>) -> Result<Response, Failure> {
    within(async {
        loop {
            let event = client.select_next_some().await;
            if let SwarmEvent::Behaviour(LimitedEvent::Outbound(ended)) = event {
                return ended.result;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_failed_dial_with_other_addresses_does_not_fail_a_request() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let live = peers.server().await;
    let opts = libp2p::swarm::dial_opts::DialOpts::peer_id(live.id);
    client.dial(opts.addresses(vec![nowhere().await]).build()).unwrap();
    assert_eq!(ask(&mut client, &live, get("key")).await, Ok(Response::default()));
}

#[tokio::test]
async fn one_connection_carries_all_requests_to_a_peer() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let live = peers.server().await;
    let (mut connections, mut answers) = (0, 0);
    for _ in 0..4 {
        send(client.behaviour_mut(), &live, get("key"));
    }
    within(async {
        while answers < 8 {
            match client.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => connections += 1,
                SwarmEvent::Behaviour(ended) => {
                    assert_eq!(ended.result, Ok(Response::default()));
                    answers += 1;
                    if answers <= 4 {
                        send(client.behaviour_mut(), &live, get("key"));
                    }
                }
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(connections, 1);
}
