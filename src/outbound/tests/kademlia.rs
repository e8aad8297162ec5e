//! Beside a `kad::Behaviour`, and against Kademlia servers.

use std::collections::BTreeSet;

use libp2p::kad::store::RecordStore as _;
use smart_record_core::{Clock as _, Dict, Limits, RecordKey, SmartRecord, SpaceSigner};

use super::*;
use crate::{SystemClock, store::SmartRecordStore};

/// Kademlia and `Outbound` in one swarm, without identify.
#[derive(NetworkBehaviour)]
struct Both {
    kad: kad::Behaviour<MemoryStore>,
    outbound: Outbound,
}

/// The reply is longer than Kademlia itself would read.
#[tokio::test]
async fn case_1_a_record_beside_20_neighbours_of_16_addresses_is_found() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let keypair = Keypair::generate_ed25519();
    let mut stock = kad(&keypair, kad::Mode::Server);
    let (mut bytes, mut neighbours) = (0, BTreeSet::new());
    for neighbour in 0..20 {
        let id = PeerId::random();
        neighbours.insert(id);
        for port in 1..=16 {
            let address =
                format!("/dns4/node-{neighbour}.dht.example.org/udp/{port}/quic-v1/p2p/{id}");
            let address: Multiaddr = address.parse().unwrap();
            bytes += address.len();
            stock.add_address(&id, address);
        }
    }
    assert!(bytes > 16 * 1_024, "{bytes}");
    let key = kad::RecordKey::new(&"/sr/key");
    stock.store_mut().put(kad::Record::new(key, b"value".to_vec())).unwrap();
    let stock = peers.start(keypair, stock).await;

    let answer = ask(&mut client, &stock, get("/sr/key")).await.unwrap();
    assert_eq!(answer.record.unwrap().value, b"value"[..]);
    assert!(answer.closer.iter().all(|closer| closer.addresses.len() == 3));
    let closer: BTreeSet<_> = answer.closer.into_iter().map(|closer| closer.peer).collect();
    assert_eq!(closer, neighbours);
}

#[tokio::test]
async fn a_node_with_our_store_answers_with_records_and_peers() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let keypair = Keypair::generate_ed25519();
    let local = keypair.public().to_peer_id();
    let store = SmartRecordStore::new(local);
    let config = store.kad_config(PROTOCOL);
    let mut kad = kad::Behaviour::with_config(local, store, config);
    kad.set_mode(Some(kad::Mode::Server));
    let neighbour = PeerId::random();
    kad.add_address(&neighbour, "/ip4/127.0.0.1/tcp/9".parse().unwrap());
    let ours = peers.start(keypair, kad).await;

    const KEY: &str = "/sr/rooms/lobby";
    let now = SystemClock.now();
    let mut signer =
        SpaceSigner::new(RecordKey::new(KEY), Keypair::generate_ed25519(), Limits::default());
    let document: Dict = r#"{"name": "ada"}"#.parse().unwrap();
    signer.merge(document, now, Duration::from_secs(600)).unwrap();
    let record = signer.record(now);

    let nothing = ask(&mut client, &ours, get(KEY)).await.unwrap();
    assert_eq!(nothing.record, None);
    assert_eq!(nothing.closer[0].peer, neighbour);
    assert_eq!(nothing.closer[0].addresses[0].to_string(), "/ip4/127.0.0.1/tcp/9");
    assert_eq!(ask(&mut client, &ours, put(KEY, record.encode())).await, Ok(Response::default()));
    let found = ask(&mut client, &ours, get(KEY)).await.unwrap().record.unwrap();
    assert!(found.ttl.is_some_and(|ttl| ttl > Duration::from_secs(500)));
    let found: SmartRecord =
        crate::SpaceRules::default().read(&RecordKey::new(KEY), &found.value, now).unwrap();
    assert_eq!(found, record);
}

#[tokio::test]
async fn kademlia_learns_of_asked_peers_and_shares_their_connections() {
    let mut peers = Peers::default();
    let live = peers.server().await;
    let keypair = Keypair::generate_ed25519();
    let kad = kad(&keypair, kad::Mode::Client);
    let outbound = Outbound::new(keypair.public().to_peer_id(), PROTOCOL);
    let (mut client, _) = listening(keypair, Both { kad, outbound }).await;

    send(&mut client.behaviour_mut().outbound, &live, get("key"));
    let (mut connections, mut is_routed, mut is_answered, mut is_done) = (0, false, false, false);
    within(async {
        while !(is_routed && is_answered && is_done) {
            match client.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => connections += 1,
                SwarmEvent::Behaviour(BothEvent::Outbound(ended)) => {
                    assert_eq!(ended.result, Ok(Response::default()));
                    is_answered = true;
                    client.behaviour_mut().kad.get_closest_peers(live.id);
                }
                SwarmEvent::Behaviour(BothEvent::Kad(kad::Event::RoutingUpdated {
                    peer,
                    addresses,
                    ..
                })) => {
                    assert_eq!(peer, live.id);
                    let named = live.address.clone().with_p2p(peer).unwrap();
                    assert_eq!(*addresses.first(), named);
                    is_routed = true;
                }
                SwarmEvent::Behaviour(BothEvent::Kad(kad::Event::OutboundQueryProgressed {
                    result: kad::QueryResult::GetClosestPeers(result),
                    ..
                })) => {
                    assert_eq!(result.unwrap().peers.len(), 1);
                    is_done = true;
                }
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(connections, 1);
    assert!(client.behaviour_mut().kad.kbucket(live.id).is_some_and(|it| it.num_entries() == 1));
}
