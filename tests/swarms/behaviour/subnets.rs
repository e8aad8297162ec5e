//! A subnet has a share of the peers that a write goes to, and of the routing table.

use std::net::Ipv4Addr;

use libp2p::{identity::Keypair, multiaddr::Protocol};
use libp2p_smart_record::{RecordKey, client::ClientError, query::ReadPolicy};

use crate::nodes::within;
use crate::peer::{MINUTE, Peer, Setup, quiet, says};

/// More than a bucket holds.
const SYBILS: usize = 22;
const HONEST: u8 = 20;

/// Starts a peer at this address of the host. It answers, and knows nobody: it asks nothing itself.
async fn start(keypair: Keypair, ip: Ipv4Addr) -> Peer {
    let config = quiet().with_inserts_manually(true);
    Setup { keypair, ip, learns: false, ..Setup::with_config(config) }.start().await
}

/// Tells the writer of a peer, and connects it.
async fn meets(writer: &Peer, peer: &Peer) {
    let (id, address) = (peer.id, peer.address.clone());
    writer
        .with(move |swarm| {
            swarm.behaviour_mut().smart.add_address(&id, address.clone());
            // It may be connected.
            let _ = swarm.dial(address.with(Protocol::P2p(id)));
        })
        .await;
}

#[tokio::test]
async fn sybils_of_one_subnet_take_two_of_twenty_places_and_two_of_a_bucket() {
    within(async {
        let key = RecordKey::new("/sr/subnets");
        // Those closest to the key, as ids are free.
        let mut ids: Vec<_> = (0..400).map(|_| Keypair::generate_ed25519()).collect();
        ids.sort_by_cached_key(|id| {
            let place = smart_record_lookup::Place::of_key(key.as_bytes());
            place.distance_of(&id.public().to_peer_id())
        });
        // All of the others that are in the half of the key are in one of its buckets.
        let keypair = ids.pop().unwrap();
        let config = quiet().with_exempts_private_subnets(false);
        let mut writer = Setup { keypair, ..Setup::with_config(config) }.start().await;
        let mut sybils = Vec::new();
        for (n, keypair) in ids.into_iter().take(SYBILS).enumerate() {
            let sybil = start(keypair, Ipv4Addr::new(127, 0, 1, 1 + n as u8)).await;
            writer.add(sybil.id, sybil.address.clone()).await;
            sybils.push(sybil);
        }
        // They are known and connected before anybody else is.
        while writer.client.get(key.clone()).await.is_err() {}
        let mut honest = Vec::new();
        for n in 0..HONEST {
            let ip = Ipv4Addr::new(127, 0, 2 + n, 1);
            let peer = start(Keypair::generate_ed25519(), ip).await;
            meets(&writer, &peer).await;
            let id = peer.id;
            writer.until_connected(|connected| connected.contains(&id)).await;
            honest.push(peer);
        }
        loop {
            // Who did not answer in time may have been taken for silent, and be forgotten.
            for peer in &honest {
                meets(&writer, peer).await;
            }
            // It finds the closest anew. On a slow machine, peers may answer too late.
            let _ = writer.client.get_with(key.clone(), ReadPolicy::All).await;
            let publication = writer.client.publish(key.clone(), says("hello"), MINUTE).await;
            let publication = publication.or_else(ClientError::into_publication);
            let Ok(publication) = publication else { continue };
            let replicas = publication.finished().await.replicas;
            let is_replica = |peer: &&Peer| replicas.contains_key(&peer.id);
            let ids: Vec<_> = honest.iter().map(|peer| peer.id).collect();
            let are_known = writer.smart(move |smart| {
                ids.into_iter().all(|id| {
                    let bucket = smart.kad_mut().kbucket(id).unwrap();
                    bucket.iter().any(|entry| *entry.node.key.preimage() == id)
                })
            });
            // On a slow machine, some do not answer in time, and sybils fill their places. If a
            // subnet had no share, sybils would have all places, and this would never end.
            if honest.iter().filter(is_replica).count() >= 18 && are_known.await {
                break;
            }
        }
        let displaced = writer.smart(|smart| smart.counters().displaced).await;
        println!(
            "{SYBILS} ids of one subnet, the closest of 400: at most 2 of 20 replicas, {displaced} \
             displaced in the table"
        );
        assert!(displaced > 0);
    })
    .await;
}
