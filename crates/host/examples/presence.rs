//! A client is announced at its node, found by another peer, and withdrawn at Enter, Ctrl-D or
//! Ctrl-C.
//!
//! `cargo run --example presence`

use std::{error::Error, pin::pin};

use futures::StreamExt;
use libp2p::{Multiaddr, StreamProtocol, identity::Keypair, multiaddr::Protocol};
use libp2p_smart_record::{
    client::Client,
    presence::{Announcer, ExchangeKey, PresenceKey, PresenceLimits},
    presence_publisher::{LocalNode, PresencePublisher, PublisherConfig, PublisherState, find},
    store::{SmartRecordStore, StoreConfig},
};
use smart_record_host::{Host, HostBuilder};
use tokio::{signal::ctrl_c, sync::oneshot};
use x25519_dalek::{PublicKey, StaticSecret};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/presence-example/kad/1.0.0");

/// Starts a node that accepts presence records and knows the one at `other`.
async fn start(keypair: Keypair, other: Option<Multiaddr>) -> Result<Host, Box<dyn Error>> {
    let peer = keypair.public().to_peer_id();
    let store = SmartRecordStore::with_registry(
        peer,
        libp2p_smart_record::built_in(),
        StoreConfig::default(),
    );
    let mut builder = HostBuilder::with_keypair(keypair)
        .with_store(store)?
        .with_protocol(PROTOCOL)
        .listen_on("/ip4/127.0.0.1/tcp/0".parse()?);
    if let Some(other) = other {
        builder = builder.bootstrap(other);
    }
    Ok(builder.start().await?)
}

/// Prints where the client is present.
async fn look(reader: &Client, client: &PresenceKey) -> Result<(), Box<dyn Error>> {
    let found = find(reader, client, &PresenceLimits::default()).await?;
    for at in &found {
        println!("{} is at {} until {}", at.client(), at.node(), at.expires_at());
    }
    if found.is_empty() {
        println!("{} is nowhere", client.client());
    }
    Ok(())
}

/// Resolves when the user presses Enter or Ctrl-D. Runs on its own thread, so that waiting does not
/// delay the end.
fn enter() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        sender.send(())
    });
    receiver
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run().await
}

/// Announces the client, and withdraws it at the end.
pub async fn run() -> Result<(), Box<dyn Error>> {
    // Created once, so that Ctrl-C is handled at any time.
    let mut stop = pin!(ctrl_c());
    let bob = start(Keypair::generate_ed25519(), None).await?;
    let address = bob.addresses().await?.into_iter().next().ok_or("bob listens nowhere")?;
    let address = address.with(Protocol::P2p(bob.peer_id()));

    // Alice's node is in this process; for a node in another process, implement `NodeSigner`.
    let node_keypair = Keypair::generate_ed25519();
    let node = start(node_keypair.clone(), Some(address)).await?;
    let (node_secret, alice_secret) = (StaticSecret::random(), StaticSecret::random());
    let handshake_key = ExchangeKey::try_from(PublicKey::from(&node_secret))?;
    let presence_key = ExchangeKey::try_from(PublicKey::from(&alice_secret))?;
    let signer = LocalNode::new(node_keypair, handshake_key, PresenceLimits::default());

    let alice = Keypair::generate_ed25519();
    let key = PresenceKey::of(alice.public().to_peer_id());
    let announcer = Announcer::new(key.clone(), alice, PresenceLimits::default())?;
    let (client, config) = (node.client().clone(), PublisherConfig::default());
    let (mut publisher, task) =
        PresencePublisher::new(client, announcer, signer, presence_key, config);
    tokio::spawn(task);

    let work = async {
        match publisher.next().await {
            Some(PublisherState::Announced { peers, .. }) => {
                println!("taken by {} of the other peers", peers.len());
            }
            other => return Err(format!("not announced: {other:?}").into()),
        }
        look(bob.client(), &key).await?;
        println!("it is kept alive until you press Enter");
        // Either result ends it.
        let _ = enter().await;
        Ok::<_, Box<dyn Error>>(())
    };
    let ended = tokio::select! {
        ended = work => ended,
        _ = &mut stop => Ok(()),
    };
    publisher.withdraw().await?;
    look(bob.client(), &key).await?;
    ended
}
