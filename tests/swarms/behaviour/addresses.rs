//! Replies fit into Kademlia's packets, whatever addresses peers claim to have.

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use libp2p_smart_record::{Clock, Limits, SmartRecord, SpaceSigner, SystemClock};

use crate::nodes::within;
use crate::peer::{MINUTE, Peer, key, says};

/// Addresses of usual length, of a transport that the peers lack, so that they are not dialled.
fn claimed(count: u16) -> impl Iterator<Item = Multiaddr> {
    (1..=count).map(|port| format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap())
}

/// The addresses in the peer's routing table, by peer.
async fn known(peer: &Peer) -> Vec<usize> {
    peer.smart(|smart| {
        let buckets = smart.kad_mut().kbuckets();
        buckets.flat_map(|b| b.iter().map(|e| e.node.value.len()).collect::<Vec<_>>()).collect()
    })
    .await
}

#[tokio::test]
async fn a_slice_fits_into_a_reply_beside_peers_with_any_number_of_addresses() {
    let (reader, holder) = (Peer::start().await, Peer::start().await);
    within(async {
        // Enough to fill a reply, although many are in the same bucket.
        let peers: Vec<_> = (0..40).map(|_| PeerId::random()).collect();
        holder
            .smart(move |smart| {
                for peer in peers {
                    claimed(16).for_each(|address| {
                        smart.kad_mut().add_address(&peer, address);
                    });
                }
            })
            .await;
        holder.wake().await;
        let known = known(&holder).await;
        assert!(known.len() >= 20 && known.iter().all(|count| *count <= 3), "{known:?}");

        let now = SystemClock.now();
        let mut board = SmartRecord::new(key());
        for _ in 0..40 {
            let mut signer =
                SpaceSigner::new(key(), Keypair::generate_ed25519(), Limits::default());
            signer.merge(says(&"x".repeat(400)), now, 10 * MINUTE).unwrap();
            board.join(signer.record(now)).unwrap();
        }
        assert!(board.encode().len() > 2 * 8 * 1_024);
        holder.store(&board).await;
        reader.add(holder.id, holder.address.clone()).await;
        let reading = reader.client.get(key()).await.unwrap();
        assert_eq!(reading.snapshot.record(), Some(&board));
    })
    .await;
}

#[tokio::test]
async fn the_address_of_the_connection_stays() {
    let (a, b) = (Peer::start().await, Peer::start().await);
    within(async {
        a.add(b.id, b.address.clone()).await;
        a.client.get(key()).await.unwrap();
        let id = b.id;
        a.smart(move |smart| {
            claimed(16).for_each(|address| {
                smart.kad_mut().add_address(&id, address);
            });
        })
        .await;
        a.wake().await;
        let kept = a
            .smart(move |smart| {
                let bucket = smart.kad_mut().kbucket(id).unwrap();
                let entry = bucket.iter().find(|entry| *entry.node.key.preimage() == id).unwrap();
                entry.node.value.iter().cloned().collect::<Vec<_>>()
            })
            .await;
        assert_eq!(kept.len(), 3, "{kept:?}");
        assert!(kept.contains(&b.address.clone().with_p2p(id).unwrap()), "{kept:?}");
    })
    .await;
}
