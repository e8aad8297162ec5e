//! The presence publisher in real swarms over TCP, one test for each documented property.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, pending, ready},
};
use libp2p::{
    PeerId,
    identity::{Keypair, PublicKey},
};
use libp2p_smart_record::{
    Clock, SystemClock, Timestamp, ZeroLifetime,
    client::ClientError,
    presence::{
        AnnounceError, Announcement, Announcer, ClientSignedAnnouncement, ExchangeKey, PresenceKey,
        PresenceLimits, PresenceRecord,
    },
    presence_publisher::{
        LocalNode, NodeSigner, NodeSignerError, PresencePublisher, PublisherConfig, PublisherError,
        PublisherState, find,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use smart_record_testing::ManualClock;

use crate::{
    nodes::within,
    peer::{MINUTE, Peer, Setup, Silent, mesh},
};

fn setup() -> Setup {
    Setup { registry: libp2p_smart_record::built_in(), ..Setup::default() }
}

async fn start() -> Peer {
    setup().start().await
}

async fn two() -> (Peer, Peer) {
    let (a, b) = (start().await, start().await);
    mesh(&[&a, &b]).await;
    (a, b)
}

/// Two peers with a manual clock.
async fn two_at(clock: &Watched) -> (Peer, Peer) {
    let start = async || {
        let registry = libp2p_smart_record::built_in();
        Setup { registry, ..Setup::default() }.at(&clock.time).start().await
    };
    let (a, b) = (start().await, start().await);
    mesh(&[&a, &b]).await;
    (a, b)
}

/// A manual clock that reports when it is read.
#[derive(Clone, Debug)]
struct Watched {
    time: ManualClock,
    looks: Arc<watch::Sender<u64>>,
}

impl Watched {
    fn now() -> Self {
        let time = ManualClock::at(SystemClock.now());
        Self { time, looks: Arc::new(watch::Sender::new(0)) }
    }

    /// Waits for two more reads: the second is made after the current time could be seen.
    async fn is_seen(&self) {
        let seen = *self.looks.borrow() + 2;
        self.looks.subscribe().wait_for(|looks| *looks >= seen).await.unwrap();
    }
}

impl Clock for Watched {
    fn now(&self) -> Timestamp {
        self.looks.send_modify(|looks| *looks += 1);
        self.time.now()
    }
}

fn exchange_key(n: u8) -> ExchangeKey {
    x25519_dalek::x25519([n; 32], x25519_dalek::X25519_BASEPOINT_BYTES).try_into().unwrap()
}

fn local_node(peer: &Peer) -> LocalNode {
    LocalNode::new(peer.keypair.clone(), exchange_key(1), PresenceLimits::default())
}

fn key_of(client: &Keypair) -> PresenceKey {
    PresenceKey::of(client.public().to_peer_id())
}

/// Publishes the presence of `client` through the peer's client.
fn publish(
    peer: &Peer,
    client: &Keypair,
    signer: impl NodeSigner,
    config: PublisherConfig,
) -> PresencePublisher {
    let announcer =
        Announcer::new(key_of(client), client.clone(), PresenceLimits::default()).unwrap();
    let (publisher, task) =
        PresencePublisher::new(peer.client.clone(), announcer, signer, exchange_key(2), config);
    tokio::spawn(task);
    publisher
}

async fn found(peer: &Peer, client: &Keypair) -> Vec<Announcement> {
    find(&peer.client, &key_of(client), &PresenceLimits::default()).await.unwrap()
}

async fn announced(publisher: &mut PresencePublisher) -> Announcement {
    match publisher.next().await {
        Some(PublisherState::Announced { announcement, .. }) => announcement,
        other => panic!("not announced: {other:?}"),
    }
}

async fn failed(publisher: &mut PresencePublisher) -> PublisherError {
    match publisher.next().await {
        Some(PublisherState::Failed { error, .. }) => error,
        other => panic!("did not fail: {other:?}"),
    }
}

fn quick() -> PublisherConfig {
    PublisherConfig::default().with_retry_delay(Duration::from_millis(50))
}

/// A signer that is a function.
struct FnSigner<F>(LocalNode, F);

type Signing = BoxFuture<'static, Result<Announcement, NodeSignerError>>;

impl<F> NodeSigner for FnSigner<F>
where
    F: Fn(&LocalNode, ClientSignedAnnouncement) -> Signing + Send + Sync + 'static,
{
    fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    fn handshake_key(&self) -> ExchangeKey {
        self.0.handshake_key()
    }

    fn countersign(
        &self,
        half: ClientSignedAnnouncement,
    ) -> BoxFuture<'_, Result<Announcement, NodeSignerError>> {
        (self.1)(&self.0, half)
    }
}

#[tokio::test]
async fn an_announced_client_is_found_until_it_withdraws() {
    let (a, b) = two().await;
    within(async {
        let client = Keypair::generate_ed25519();
        assert_eq!(found(&b, &client).await, []);
        let mut publisher = publish(&a, &client, local_node(&a), quick());
        let Some(PublisherState::Announced { announcement, peers }) = publisher.next().await else {
            panic!("not announced");
        };
        assert_eq!(peers, [b.id]);
        assert_eq!(found(&b, &client).await, std::slice::from_ref(&announcement));
        assert_eq!((announcement.node(), announcement.client()), (a.id, key_of(&client).client()));
        assert_eq!(announcement.presence_key(), exchange_key(2));

        let withdrawal = publisher.withdraw().await.unwrap();
        assert_eq!(withdrawal.peers, [b.id]);
        assert_eq!(found(&b, &client).await, []);
        assert_eq!(found(&a, &client).await, []);
    })
    .await;
}

#[tokio::test]
async fn case_28_a_withdrawal_by_a_publisher_is_kept_as_long_as_what_it_hides() {
    let (a, b) = two().await;
    within(async {
        let client = Keypair::generate_ed25519();
        let mut publisher = publish(&a, &client, local_node(&a), quick());
        let hidden = announced(&mut publisher).await.expires_at();
        publisher.withdraw().await.unwrap();
        let key = key_of(&client);
        let of = key.as_record_key().clone();
        let stored = b.smart(move |smart| smart.store_mut().value(&of).unwrap().unwrap()).await;
        let record = PresenceRecord::decode(&key, stored.value, &PresenceLimits::default());
        let retained = record.unwrap().retain_until().unwrap();
        assert!((hidden..=hidden.saturating_add(Duration::from_secs(1))).contains(&retained));
    })
    .await;
}

#[tokio::test]
async fn an_announcement_is_renewed_before_it_expires() {
    let clock = Watched::now();
    let (a, b) = two_at(&clock).await;
    within(async {
        let client = Keypair::generate_ed25519();
        let ttl = Duration::from_secs(4);
        let config = quick().with_ttl(ttl).with_clock(clock.clone());
        let mut publisher = publish(&a, &client, local_node(&a), config);
        let first = announced(&mut publisher).await;
        // At half of its lifetime, or up to a quarter of that earlier.
        clock.time.advance(ttl * 3 / 8 - Duration::from_millis(1));
        clock.is_seen().await;
        assert!(publisher.next().now_or_never().is_none(), "too early");
        clock.time.set(first.created_at().saturating_add(ttl / 2));
        let second = announced(&mut publisher).await;
        assert_eq!(second.created_at(), first.created_at().saturating_add(ttl / 2));
        assert!(second.expires_at() > first.expires_at());
        assert_eq!(found(&b, &client).await, [second]);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_publisher_withdraws() {
    let (a, mut b) = two().await;
    within(async {
        let client = Keypair::generate_ed25519();
        let mut publisher = publish(&a, &client, local_node(&a), quick());
        announced(&mut publisher).await;
        assert_eq!(found(&b, &client).await.len(), 1);
        drop(publisher);
        while !found(&b, &client).await.is_empty() {
            b.until(|_| Some(())).await;
        }
    })
    .await;
}

/// A node in another process: only encoded announcements pass between the two.
struct RemoteNode {
    public_key: PublicKey,
    key: PresenceKey,
    address: std::net::SocketAddr,
}

impl NodeSigner for RemoteNode {
    fn public_key(&self) -> PublicKey {
        self.public_key.clone()
    }

    fn handshake_key(&self) -> ExchangeKey {
        exchange_key(1)
    }

    fn countersign(
        &self,
        half: ClientSignedAnnouncement,
    ) -> BoxFuture<'_, Result<Announcement, NodeSignerError>> {
        async move {
            let mut answer = Vec::new();
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(&half.encode()).await.unwrap();
            stream.shutdown().await.unwrap();
            stream.read_to_end(&mut answer).await.unwrap();
            Announcement::decode(&self.key, answer, &PresenceLimits::default())
                .map_err(|error| NodeSignerError::Unreachable { reason: error.to_string() })
        }
        .boxed()
    }
}

#[tokio::test]
async fn node_and_client_can_be_two_processes() {
    let (a, b) = two().await;
    within(async {
        let client = Keypair::generate_ed25519();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (node, key) = (Keypair::generate_ed25519(), key_of(&client));
        let public_key = node.public();
        let hosted = key.clone();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            let limits = PresenceLimits::default();
            let half = ClientSignedAnnouncement::decode(&hosted, bytes, &limits).unwrap();
            let now = SystemClock.now();
            let signed = half.countersign(&node, exchange_key(1), now, &limits).unwrap();
            stream.write_all(&signed.encode()).await.unwrap();
        });
        let node_id = public_key.to_peer_id();
        let mut publisher = publish(&a, &client, RemoteNode { public_key, key, address }, quick());
        let announcement = announced(&mut publisher).await;
        assert_eq!(announcement.node(), node_id);
        assert_eq!(found(&b, &client).await, [announcement]);
    })
    .await;
}

#[tokio::test]
async fn a_refused_countersignature_is_requested_again() {
    let (a, b) = two().await;
    within(async {
        let client = Keypair::generate_ed25519();
        let refusals = Mutex::new(3);
        // A receiver sees only the latest state, so the node answers once the last one was seen.
        let seen = Arc::new(Semaphore::new(1));
        let may_answer = seen.clone();
        let signer = FnSigner(local_node(&a), move |node: &LocalNode, half| {
            let mut refusals = refusals.lock().unwrap();
            let answer = if *refusals > 0 {
                *refusals -= 1;
                Err(NodeSignerError::Refused { reason: "not yet".to_owned() })
            } else {
                node.countersign(half).now_or_never().unwrap()
            };
            let may_answer = may_answer.clone();
            async move {
                may_answer.acquire().await.unwrap().forget();
                answer
            }
            .boxed()
        });
        let mut publisher = publish(&a, &client, signer, quick());
        let mut delays = Vec::new();
        let announcement = loop {
            match publisher.next().await.unwrap() {
                PublisherState::Failed { error, retry_in } => {
                    assert!(
                        matches!(error, PublisherError::Node(NodeSignerError::Refused { .. })),
                        "{error:?}"
                    );
                    delays.push(retry_in.as_millis());
                    seen.add_permits(1);
                }
                PublisherState::Announced { announcement, .. } => break announcement,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(delays, [50, 100, 200]);
        assert_eq!(found(&b, &client).await, [announcement]);
    })
    .await;
}

#[tokio::test]
async fn a_node_that_does_not_answer_delays_nothing_else() {
    let (a, b) = two().await;
    within(async {
        let client = Keypair::generate_ed25519();
        let waited = Duration::from_millis(50);
        let signer = FnSigner(local_node(&a), |_: &LocalNode, _| pending().boxed());
        let mut publisher = publish(&a, &client, signer, quick().with_sign_timeout(waited));
        assert_eq!(failed(&mut publisher).await, PublisherError::NodeTimedOut { waited });

        let mut publisher = {
            let signer = FnSigner(local_node(&a), |_: &LocalNode, _| pending().boxed());
            publish(&a, &client, signer, quick().with_sign_timeout(60 * MINUTE))
        };
        assert!(publisher.next().now_or_never().is_none(), "it still waits for the node");
        let withdrawal = publisher.withdraw().await.unwrap();
        assert_eq!(withdrawal.peers, [b.id], "what the node may have signed is withdrawn");
    })
    .await;
}

#[tokio::test]
async fn an_announcement_other_than_the_one_just_signed_is_not_put() {
    let clock = Watched::now();
    let (a, b) = two_at(&clock).await;
    within(async {
        let client = Keypair::generate_ed25519();
        let earlier: Mutex<Option<Announcement>> = Mutex::default();
        let signer = FnSigner(local_node(&a), move |node: &LocalNode, half| {
            let signed = node.countersign(half).now_or_never().unwrap().unwrap();
            // A valid one, but always the same.
            ready(Ok(earlier.lock().unwrap().get_or_insert(signed).clone())).boxed()
        });
        let ttl = Duration::from_secs(2);
        let config = quick().with_ttl(ttl).with_clock(clock.clone());
        let mut publisher = publish(&a, &client, signer, config);
        let first = announced(&mut publisher).await;
        clock.time.advance(ttl / 2);
        assert_eq!(failed(&mut publisher).await, PublisherError::OtherAnnouncement);
        assert_eq!(found(&b, &client).await, [first]);
    })
    .await;
}

#[tokio::test]
async fn announcements_after_a_restart_replace_the_earlier_ones() {
    let (a, b) = two().await;
    within(async {
        let client = Keypair::generate_ed25519();
        let mut publisher = publish(&a, &client, local_node(&a), quick());
        let first = announced(&mut publisher).await;
        // It ends without a withdrawal, and the clock of the new process is behind.
        std::mem::forget(publisher);
        let now = first.created_at().saturating_sub(MINUTE);
        let late = quick().with_clock(ManualClock::at(now));
        let mut publisher = publish(&b, &client, local_node(&a), late);
        let second = announced(&mut publisher).await;
        assert!(second.created_at() > first.created_at());
        assert_eq!(found(&a, &client).await, [second]);
    })
    .await;
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// An announcement of `client` at `node`, with a presence key other than its publisher's.
fn announcement(client: &Keypair, node: &Keypair, ttl: Duration) -> Announcement {
    let limits = PresenceLimits::default();
    let mut announcer = Announcer::new(key_of(client), client.clone(), limits.clone()).unwrap();
    announcer.resume(&PresenceRecord::new(key_of(client))).unwrap();
    let (handshake, presence) = (exchange_key(1), exchange_key(3));
    let half = announcer.announce(&node.public(), handshake, presence, NOW, ttl).unwrap();
    half.countersign(node, handshake, NOW, &limits).unwrap()
}

/// Stores an announcement at the peer directly.
async fn give(peer: &Peer, announcement: Announcement) {
    let key = announcement.key().clone();
    let mut record = PresenceRecord::new(key.clone());
    record.insert(announcement).unwrap();
    let value = record.encode();
    peer.smart(move |smart| smart.store_mut().write(key.as_record_key(), &value).unwrap()).await;
}

#[tokio::test]
async fn case_24_after_a_partial_reading_an_announcement_outlives_unseen_ones() {
    let clock = ManualClock::at(NOW);
    let a = setup().at(&clock).start().await;
    let (b, c) = (setup().at(&clock).start().await, setup().at(&clock).start().await);
    within(async {
        let (client, host) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        // Announcements from before the restart: one that no peer shows, and one of another node.
        give(&c, announcement(&client, &host, 30 * 60 * MINUTE)).await;
        give(&b, announcement(&client, &Keypair::generate_ed25519(), MINUTE)).await;
        mesh(&[&a, &b]).await;
        let silent = Silent::start();
        a.add(PeerId::random(), silent.address()).await;
        let reading = a.client.get(key_of(&client).as_record_key().clone()).await.unwrap();
        assert!(!reading.is_empty() && !reading.is_complete());

        let signer = LocalNode::new(host, exchange_key(1), PresenceLimits::default());
        let signer = signer.with_clock(clock.clone());
        let config = quick().with_ttl(MINUTE).with_clock(clock.clone());
        let mut publisher = publish(&a, &client, signer, config);
        let announced = announced(&mut publisher).await;
        assert!(announced.retain_until() >= NOW.saturating_add(48 * 60 * MINUTE));
        // It crashes. Once its announcement has expired and the network is whole again, the older
        // one stays hidden.
        std::mem::forget(publisher);
        clock.advance(2 * MINUTE);
        mesh(&[&b, &c]).await;
        assert_eq!(found(&b, &client).await, []);
        assert_eq!(found(&c, &client).await, []);
    })
    .await;
}

#[tokio::test]
async fn after_a_complete_reading_an_announcement_is_retained_only_as_long_as_needed() {
    let (a, b) = two().await;
    within(async {
        let client = Keypair::generate_ed25519();
        let mut publisher = publish(&a, &client, local_node(&a), quick());
        let first = announced(&mut publisher).await;
        assert_eq!(first.retain_until(), first.expires_at());
        std::mem::forget(publisher);
        let mut publisher = publish(&b, &client, local_node(&a), quick().with_ttl(MINUTE));
        let second = announced(&mut publisher).await;
        assert_eq!(second.retain_until(), first.retain_until());
    })
    .await;
}

#[tokio::test]
async fn case_24_the_client_is_announced_again_after_a_fast_clock_is_corrected() {
    let clock = ManualClock::at(NOW.saturating_add(60 * MINUTE));
    let a = setup().at(&clock).start().await;
    let b = setup().at(&ManualClock::at(NOW)).start().await;
    mesh(&[&a, &b]).await;
    within(async {
        let client = Keypair::generate_ed25519();
        let config = quick().with_ttl(Duration::from_secs(2)).with_clock(clock.clone());
        let signer = local_node(&a).with_clock(clock.clone());
        let mut publisher = publish(&a, &client, signer, config);
        announced(&mut publisher).await;
        let future = find(&b.client, &key_of(&client), &PresenceLimits::default()).await;
        assert!(
            matches!(&future, Err(ClientError::AnswersRefused(it)) if it.is_ahead_of_clock()),
            "it is from the future: {future:?}"
        );

        clock.set(NOW);
        let again = announced(&mut publisher).await;
        assert_eq!(again.created_at(), NOW);
        assert_eq!(found(&b, &client).await, std::slice::from_ref(&again));
        assert_eq!(found(&a, &client).await, [again], "the local store has only the new one");
        assert_eq!(publisher.withdraw().await.unwrap().peers, [b.id]);
        assert_eq!(found(&b, &client).await, []);
    })
    .await;
}

#[tokio::test]
async fn an_announcement_without_acknowledgement_is_retried_soon() {
    let (a, b) = (start().await, start().await);
    within(async {
        let client = Keypair::generate_ed25519();
        let mut publisher = publish(&a, &client, local_node(&a), quick());
        let Some(PublisherState::Announced { peers, .. }) = publisher.next().await else {
            panic!("not announced");
        };
        assert_eq!(peers, []);
        mesh(&[&a, &b]).await;
        loop {
            match publisher.next().await {
                Some(PublisherState::Announced { peers, .. }) if peers == [b.id] => break,
                Some(PublisherState::Announced { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(found(&b, &client).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_publisher_ends_with_the_behaviour() {
    let a = start().await;
    within(async {
        let client = Keypair::generate_ed25519();
        let mut publisher = publish(&a, &client, local_node(&a), quick());
        announced(&mut publisher).await;
        let _client = a.stop();
        while publisher.next().await.is_some() {}
        assert_eq!(publisher.withdraw().await, Err(PublisherError::Stopped));
    })
    .await;
}

#[tokio::test]
async fn an_announcement_that_replicas_would_refuse_ends_the_publisher() {
    let a = start().await;
    within(async {
        // A client cannot announce itself at its own peer id.
        let at_itself = publish(&a, &a.keypair, local_node(&a), quick());
        // Lifetimes of zero, and too long ones.
        let client = Keypair::generate_ed25519();
        let ttls = [72 * 60 * MINUTE, Duration::ZERO];
        let for_ttls = ttls.map(|ttl| publish(&a, &client, local_node(&a), quick().with_ttl(ttl)));
        for (n, mut publisher) in [at_itself].into_iter().chain(for_ttls).enumerate() {
            match (n, publisher.next().await) {
                (
                    0 | 1,
                    Some(PublisherState::GaveUp {
                        error: PublisherError::Announce(AnnounceError::Refused(_)),
                    }),
                ) => {}
                (2, Some(PublisherState::GaveUp { error })) => {
                    assert_eq!(error.to_string(), ZeroLifetime.to_string());
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(publisher.next().await, None, "no retry");
        }
    })
    .await;
}

#[tokio::test]
async fn a_retry_never_follows_at_once_whatever_the_settings() {
    let a = start().await;
    within(async {
        let client = Keypair::generate_ed25519();
        let signer = FnSigner(local_node(&a), |_: &LocalNode, _| {
            let reason = "never".to_owned();
            ready(Err(NodeSignerError::Refused { reason })).boxed()
        });
        let config = PublisherConfig::default().with_retry_delay(Duration::ZERO);
        let mut publisher = publish(&a, &client, signer, config);
        for _ in 0..3 {
            match publisher.next().await {
                Some(PublisherState::Failed { retry_in, .. }) => assert!(!retry_in.is_zero()),
                other => panic!("{other:?}"),
            }
        }
        publisher.withdraw().await.unwrap();
        // A lifetime below two seconds is renewed after one second at the earliest.
        let clock = Watched::now();
        let brief = PublisherConfig::default().with_ttl(Duration::from_millis(900));
        let brief = brief.with_clock(clock.clone());
        let mut publisher = publish(&a, &client, local_node(&a), brief);
        announced(&mut publisher).await;
        clock.time.advance(Duration::from_millis(999));
        clock.is_seen().await;
        assert!(publisher.next().now_or_never().is_none(), "too early");
        clock.time.advance(Duration::from_millis(1));
        announced(&mut publisher).await;
    })
    .await;
}

#[tokio::test]
async fn finding_a_client_without_any_peer_is_an_error() {
    let a = start().await;
    within(async {
        let key = key_of(&Keypair::generate_ed25519());
        let found = find(&a.client, &key, &PresenceLimits::default()).await;
        assert_eq!(found, Err(ClientError::Unreachable));
    })
    .await;
}
