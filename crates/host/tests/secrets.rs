//! No secret appears in logs at any level, nor in `Debug` output.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

use std::{
    collections::BTreeSet,
    fmt::Debug,
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use aho_corasick::AhoCorasick;
use futures::StreamExt;
use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol, pnet::PreSharedKey};
use libp2p_identity::{ecdsa, secp256k1};
use libp2p_smart_record::{
    Dict, Limits, Namespaces, RecordKey, Registry, SpaceSigner,
    behaviour::{Behaviour, BehaviourConfig, Validation},
    client::Client,
    manager::{RecordManager, StoreBackend},
    presence::{Announcer, ExchangeKey, PresenceKey, PresenceLimits},
    presence_publisher::{LocalNode, PresencePublisher, PublisherConfig, PublisherState, find},
    signed::SignedRecordValidator,
    store::{SmartRecordStore, StoreConfig},
};
use multibase::Base;
use sha2::{Digest, Sha512};
use smart_record_host::{Host, HostBuilder};
use smart_record_testing_swarms::{PROTOCOL, within};
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};
use x25519_dalek::{PublicKey, StaticSecret};

const MINUTE: Duration = Duration::from_secs(60);
const BOARD: &str = "/sr/secrets/board";

fn says(text: &str) -> Dict {
    [("text", text)].into_iter().collect()
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Records all events and spans of all crates.
    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(self.clone())
            .finish()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Names and forms of the secrets: in full, or eight bytes in a row.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn add(&mut self, name: &'static str, secret: &[u8]) {
        let mut forms = BTreeSet::new();
        for part in secret.chunks_exact(8) {
            let hex = Base::Base16Lower.encode(part);
            let decimals: Vec<_> = part.iter().map(u8::to_string).collect();
            let hexes: Vec<_> = part.iter().map(|byte| format!("{byte:02x}")).collect();
            forms.extend([hex.to_uppercase(), hex]);
            forms.extend([", ", ",", " "].map(|between| decimals.join(between)));
            forms.extend([":", " ", ", ", ", 0x"].map(|between| hexes.join(between)));
            forms.insert(part.escape_ascii().to_string());
        }
        // A secret may stand within something longer, so it begins at any byte of a group of three.
        for within in (0..3).filter_map(|skipped| secret.get(skipped..)) {
            for part in within.chunks_exact(9) {
                forms.extend([Base::Base64, Base::Base64Url].map(|base| base.encode(part)));
            }
        }
        for base in [Base::Base58Btc, Base::Base32Lower, Base::Base32Upper, Base::Base36Lower] {
            forms.insert(base.encode(secret));
        }
        self.0.extend(forms.into_iter().map(|form| (name, form)));
    }

    fn add_keypair(&mut self, name: &'static str, keypair: &Keypair) {
        let keypair = keypair.clone().try_into_ed25519().unwrap();
        let seed = keypair.secret();
        self.add(name, seed.as_ref());
        // The expanded key, which makes the signatures.
        self.add(name, &Sha512::digest(seed.as_ref()));
    }

    fn found_in(&self, text: &str) -> Vec<(&'static str, String)> {
        let finder = AhoCorasick::new(self.0.iter().map(|(_, form)| form)).unwrap();
        finder.find_overlapping_iter(text).map(|at| self.0[at.pattern()].clone()).collect()
    }
}

fn exchange_key(secret: &StaticSecret) -> ExchangeKey {
    PublicKey::from(secret).to_bytes().try_into().unwrap()
}

#[test]
fn a_secret_is_found_in_any_form() {
    let secret = StaticSecret::random().to_bytes();
    let mut secrets = Secrets::default();
    secrets.add("it", &secret);
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let longer = [&b"before"[..], &secret, b"after"].concat();
    let log = Log::default();
    for form in [
        hex.clone(),
        hex.to_uppercase(),
        format!("{secret:?}"),
        format!("{secret:02x?}"),
        format!("{:?}", &secret[4..30]),
        Base::Base64.encode(secret),
        Base::Base64Pad.encode(&longer),
        Base::Base64Url.encode(&longer[1..]),
        Base::Base58Btc.encode(secret),
        format!("\"{}\"", longer.escape_ascii()),
    ] {
        log.0.lock().unwrap().clear();
        tracing::subscriber::with_default(log.subscriber(), || tracing::trace!("it is {form}"));
        assert!(!secrets.found_in(&log.text()).is_empty(), "{}", log.text());
    }
    log.0.lock().unwrap().clear();
    let public = exchange_key(&StaticSecret::from(secret));
    tracing::subscriber::with_default(log.subscriber(), || tracing::trace!(?public));
    assert_eq!(secrets.found_in(&log.text()), []);
}

/// A node that knows another one.
async fn start(
    keypair: &Keypair,
    network: PreSharedKey,
    validation: Validation,
    other: Option<Multiaddr>,
) -> Host {
    let (local, registry) = (keypair.public().to_peer_id(), libp2p_smart_record::built_in());
    let store = SmartRecordStore::with_registry(local, registry, StoreConfig::default());
    let mut builder = HostBuilder::with_keypair(keypair.clone())
        .with_store(store)
        .unwrap()
        .with_config(BehaviourConfig::default().with_validation(validation))
        .with_protocol(PROTOCOL)
        .with_private_network(network)
        .listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap());
    if let Some(other) = other {
        builder = builder.bootstrap(other);
    }
    builder.start().await.unwrap()
}

/// Writes, reads, watches, is refused, announces and withdraws: every action that involves a
/// secret.
async fn run(
    node: &Client,
    keypair: &Keypair,
    client: &Keypair,
    handshake: &StaticSecret,
    presence: &StaticSecret,
) {
    let key = RecordKey::new(BOARD);
    let mut watch = node.watch(key.clone()).await.unwrap();
    let kept = node.keep(key.clone(), says("kept"), 10 * MINUTE).await.unwrap();
    node.publish(key.clone(), says("published"), MINUTE).await.unwrap();
    watch.next().await.unwrap();
    tracing::trace!(?kept);
    node.confirm(kept.publication()).await.unwrap();
    kept.update(says("changed")).await.unwrap();
    kept.withdraw().await.unwrap();
    node.withdraw(key.clone()).await.unwrap();
    node.put(key, "junk").await.unwrap_err();
    node.publish("/unheard/of", says("x"), MINUTE).await.unwrap_err();

    let limits = PresenceLimits::default();
    let key = PresenceKey::of(client.public().to_peer_id());
    let announcer = Announcer::new(key.clone(), client.clone(), limits.clone()).unwrap();
    let signer = LocalNode::new(keypair.clone(), exchange_key(handshake), limits.clone());
    let (app, config) = (node.clone(), PublisherConfig::default());
    let (mut publisher, task) =
        PresencePublisher::new(app, announcer, signer, exchange_key(presence), config);
    let task = tokio::spawn(task);
    let state = publisher.next().await.unwrap();
    tracing::trace!(?state);
    assert!(matches!(state, PublisherState::Announced { .. }));
    assert_eq!(find(node, &key, &limits).await.unwrap().len(), 1);
    publisher.withdraw().await.unwrap();
    task.await.unwrap();
}

/// One test, because the log is that of the process.
#[tokio::test]
async fn no_secret_is_logged() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.subscriber()).unwrap();
    let keypairs = [(); 3].map(|()| Keypair::generate_ed25519());
    let [node, replica, client] = &keypairs;
    let (handshake, presence) = (StaticSecret::random(), StaticSecret::random());
    let mut secrets = Secrets::default();
    secrets.add_keypair("the node's key", node);
    secrets.add_keypair("the replica's key", replica);
    secrets.add_keypair("the client's key", client);
    secrets.add("the handshake key", handshake.as_bytes());
    secrets.add("the presence key", presence.as_bytes());
    let shared = handshake.diffie_hellman(&PublicKey::from(&presence));
    secrets.add("the shared secret", shared.as_bytes());
    let network = StaticSecret::random().to_bytes();
    secrets.add("the key of the network", &network);
    let network = PreSharedKey::new(network);
    within(async {
        let replica = start(replica, network, Validation::OffTask, None).await;
        let mut events = replica.run(|records| records.store_mut().subscribe()).await.unwrap();
        let address = replica.addresses().await.unwrap().remove(0);
        let address = address.with(Protocol::P2p(replica.peer_id()));
        let host = start(node, network, Validation::Inline, Some(address)).await;
        run(host.client(), node, client, &handshake, &presence).await;
        let stored = || replica.run(|records| records.store_mut().record(&BOARD.into()).unwrap());
        while stored().await.unwrap().is_none() {
            events.next().await.unwrap();
        }
    })
    .await;
    let text = log.text();
    println!("{} bytes of log", text.len());
    // The log covers the client, the behaviour, the publisher and libp2p.
    for said in [
        "write{key=/sr/secrets/board kind=\"keep\"}:put{key=/sr/secrets/board chunks=1}",
        "get{key=/sr/secrets/board}:read{key=/sr/secrets/board purpose=\"client\"}",
        "read{key=/sr/secrets/board purpose=\"resume\"}",
        "presence_publisher::task: announced key=",
        "presence_publisher::task: withdrawn key=",
        "libp2p_smart_record::store::event: this node's own write is refused",
        "libp2p_smart_record::behaviour::admitting: inbound record",
        "libp2p_kad",
        "libp2p_swarm",
    ] {
        assert!(text.contains(said), "{said}");
    }
    assert_eq!(secrets.found_in(&text), []);
}

fn shown(what: &dyn Debug) -> String {
    format!("{what:?} {what:#?} {what:02x?}")
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let keypair = Keypair::generate_ed25519();
    let (handshake, presence) = (StaticSecret::random(), StaticSecret::random());
    let mut secrets = Secrets::default();
    secrets.add_keypair("the keypair", &keypair);
    secrets.add("the handshake key", handshake.as_bytes());
    secrets.add("the presence key", presence.as_bytes());
    let network = StaticSecret::random().to_bytes();
    secrets.add("the key of the network", &network);

    let key = PresenceKey::of(keypair.public().to_peer_id());
    let limits = PresenceLimits::default();
    let announcer = Announcer::new(key, keypair.clone(), limits.clone()).unwrap();
    let local = LocalNode::new(keypair.clone(), exchange_key(&handshake), limits);
    let signer = SpaceSigner::new("/sr/a".into(), keypair.clone(), Limits::default());
    let builder = Behaviour::builder(keypair.clone());
    let mut all = vec![shown(&announcer), shown(&local), shown(&signer), shown(&builder)];
    let (behaviour, client) = builder.build();
    all.extend([shown(&behaviour), shown(&client)]);
    let (publisher, _task) = PresencePublisher::new(
        client,
        announcer,
        local,
        exchange_key(&presence),
        PublisherConfig::default(),
    );
    all.push(shown(&publisher));
    let rules = Namespaces::empty().with_fallback(SignedRecordValidator::default());
    let backend = StoreBackend::new(Registry::default());
    let manager = RecordManager::new(keypair.clone(), rules, backend);
    all.push(shown(&manager));
    {
        let builder = HostBuilder::with_keypair(keypair.clone())
            .with_private_network(PreSharedKey::new(network));
        all.push(shown(&builder));
        all.push(shown(&builder.start().await.unwrap()));
    }
    for shown in all {
        assert_eq!(secrets.found_in(&shown), [], "{shown}");
    }
}

#[test]
fn debug_shows_no_secret_of_other_key_types() {
    let mut secrets = Secrets::default();
    let secp256k1 = secp256k1::Keypair::generate();
    secrets.add("secp256k1", &secp256k1.secret().to_bytes());
    let ecdsa = ecdsa::Keypair::generate();
    secrets.add("ECDSA", &ecdsa.secret().to_bytes());
    for keypair in [Keypair::from(secp256k1), Keypair::from(ecdsa)] {
        let signer = SpaceSigner::new("/sr/a".into(), keypair, Limits::default());
        let shown = shown(&signer);
        assert_eq!(secrets.found_in(&shown), [], "{shown}");
    }
}
