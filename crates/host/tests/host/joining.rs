//! Joining a network whose nodes start later, and what the log says.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::{Multiaddr, identity::Keypair, kad, multiaddr::Protocol};
use libp2p_smart_record::Dict;
use smart_record_host::HostBuilder;
use smart_record_testing_swarms::{PROTOCOL, within};

use crate::{Reserved, builder, full_address, loopback, reserved};

#[tokio::test]
async fn case_14_a_peer_that_listens_later_is_connected_soon_after() {
    within(async {
        // Something that hangs up listens first, to see the attempts.
        let Reserved { keypair, listen, address, listener } = reserved().await;
        let later = keypair.public().to_peer_id();
        let node = builder().bootstrap(address).start().await.unwrap();
        for _ in 0..3 {
            listener.accept().await.unwrap();
        }
        let builder = HostBuilder::with_keypair(keypair).with_protocol(PROTOCOL);
        let _later = builder.listen_on(listen).start().await.unwrap();
        drop(listener);
        // Without an attempt of ours, Kademlia would make one after five minutes.
        tokio::time::timeout(std::time::Duration::from_secs(100), async {
            while node.peers().await.unwrap() != [later] {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    })
    .await;
}

/// Lines of the log of the current thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.0.lock().unwrap()).contains(text)
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log of what runs on this thread, at `warn`.
fn log() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

async fn until_logged(log: &Log, text: &str) {
    while !log.has(text) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_node_that_reaches_nobody_warns() {
    let (log, _guard) = log();
    within(async {
        let nobody = Keypair::generate_ed25519().public().to_peer_id();
        let address = "/ip4/127.0.0.1/tcp/1".parse::<Multiaddr>().unwrap();
        let address = address.with(Protocol::P2p(nobody));
        let _node = builder().bootstrap(address).start().await.unwrap();
        until_logged(&log, "no peer can be reached").await;
        assert!(log.has(&nobody.to_string()));
    })
    .await;
}

#[tokio::test]
async fn clients_among_themselves_warn() {
    let (log, _guard) = log();
    within(async {
        let client = builder().listen_on(loopback()).with_mode(kad::Mode::Client);
        let client = client.start().await.unwrap();
        let _other = builder().bootstrap(full_address(&client).await).start().await.unwrap();
        until_logged(&log, "nobody stores records").await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_loses_its_last_server_warns_although_other_clients_stay() {
    let (log, _guard) = log();
    within(async {
        let server = builder().listen_on(loopback()).start().await.unwrap();
        let at_server = full_address(&server).await;
        let client = || builder().bootstrap(at_server.clone()).with_mode(kad::Mode::Client);
        let one = client().listen_on(loopback()).start().await.unwrap();
        let other = client().bootstrap(full_address(&one).await).start().await.unwrap();
        while one.peers().await.unwrap().len() < 2 || other.peers().await.unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        // Each has been told by now what the others are.
        for node in [&one, &other, &one, &other] {
            node.client()
                .publish("/sr/host", Dict::from([("a", 1)]), Duration::from_secs(60))
                .await
                .unwrap();
        }
        log.0.lock().unwrap().clear();
        drop(server);
        while other.peers().await.unwrap().len() > 1 {
            tokio::task::yield_now().await;
        }
        while !log.has("nobody stores records") {
            // A read finds out that the server is gone.
            let _ = other.client().get("/sr/host").await;
        }
        assert_eq!(other.peers().await.unwrap(), [one.peer_id()]);
    })
    .await;
}

#[tokio::test]
async fn nodes_of_another_network_are_warned_about() {
    let (log, _guard) = log();
    within(async {
        let elsewhere = libp2p::StreamProtocol::new("/elsewhere/kad/1.0.0");
        let server = builder().with_protocol(elsewhere).listen_on(loopback());
        let server = server.start().await.unwrap();
        let _node = builder().bootstrap(full_address(&server).await).start().await.unwrap();
        until_logged(&log, "nobody stores records").await;
    })
    .await;
}
