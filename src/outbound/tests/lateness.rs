//! Together with `Requests`, which times requests. The test controls the time.

use futures::AsyncWriteExt;
use smart_record_lookup::{HistoryConfig, LookupEvent, RequestsConfig};

use super::*;

/// The requesting swarm with its `Requests` and its time.
struct Asker {
    swarm: Swarm<Outbound>,
    requests: Requests,
    now: Duration,
}

impl Asker {
    async fn new() -> Self {
        let requests = Requests::new(RequestsConfig::default(), HistoryConfig::default());
        Self { swarm: client().await, requests, now: Duration::ZERO }
    }

    fn begin(&mut self, peer: &Peer) -> Option<RequestId> {
        let distance = Place::of_key(b"key").distance_of(&peer.id);
        let id = self.requests.begin(peer.id, distance, self.now)?;
        let addresses = vec![peer.address.clone()];
        self.swarm.behaviour_mut().send(id, peer.id, addresses, get("key"));
        Some(id)
    }

    /// Whether the next request that ends still counts.
    async fn counts(&mut self) -> bool {
        let ended = next(&mut self.swarm).await;
        match &ended.result {
            Ok(_) => self.requests.on_answer(ended.id, self.now).is_some(),
            Err(failure) => self.requests.on_failure(ended.id, failure.into(), self.now),
        }
    }

    /// Lets time pass until `Requests` reports an event.
    fn wait(&mut self) -> LookupEvent {
        loop {
            if let Some(finding) = self.requests.poll(self.now) {
                if let LookupEvent::Over(id, _) = finding {
                    self.swarm.behaviour_mut().cancel(id);
                }
                return finding;
            }
            self.now = self.requests.next_at().unwrap();
        }
    }
}

#[tokio::test]
async fn a_request_to_a_frozen_peer_is_late_then_over_and_frees_its_slot() {
    let (mut peers, mut asker) = (Peers::default(), Asker::new().await);
    let (frozen, mut streams) = peers.holding().await;
    let live = peers.server().await;
    let mut ids = Vec::new();
    while let Some(id) = asker.begin(&frozen) {
        ids.push(id);
    }
    assert_eq!(ids.len(), 8);
    let mut held = Vec::new();
    while held.len() < ids.len() {
        // Other peers are not delayed.
        asker.begin(&live).unwrap();
        assert!(asker.counts().await);
        held.extend(streams.try_recv());
    }
    for id in &ids {
        assert_eq!(asker.wait(), LookupEvent::Late(*id, frozen.id));
    }
    let late_at = asker.now;
    for id in &ids {
        assert_eq!(asker.wait(), LookupEvent::Over(*id, frozen.id));
    }
    assert_eq!(asker.now, late_at + Duration::from_secs(2));
    asker.begin(&live).unwrap();
    assert!(asker.counts().await);
    // The peer is asked again on the same connection.
    asker.begin(&frozen).unwrap();
    while held.len() == ids.len() {
        asker.begin(&live).unwrap();
        assert!(asker.counts().await);
        held.extend(streams.try_recv());
    }
}

#[tokio::test]
async fn a_late_answer_counts_until_its_request_is_over() {
    let (mut peers, mut asker) = (Peers::default(), Asker::new().await);
    let (slow, mut streams) = peers.holding().await;
    let live = peers.server().await;
    for is_over in [false, true] {
        let id = asker.begin(&slow).unwrap();
        let mut stream = loop {
            asker.begin(&live).unwrap();
            assert!(asker.counts().await);
            if let Ok(stream) = streams.try_recv() {
                break stream;
            }
        };
        assert_eq!(asker.wait(), LookupEvent::Late(id, slow.id));
        if is_over {
            // The answer is on its way when the request is over.
            asker.now = asker.requests.next_at().unwrap();
            assert_eq!(asker.requests.poll(asker.now), Some(LookupEvent::Over(id, slow.id)));
        }
        stream.write_all(&packet(&found("key"))).await.unwrap();
        stream.close().await.unwrap();
        assert_eq!(asker.counts().await, !is_over);
    }
}
