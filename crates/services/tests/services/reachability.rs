//! Findings of `connectivity` and `dialable`.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use libp2p_smart_record::{Dict, Predicate, RecordKey};
use smart_record_services::{Resolve, Service, connectivity, dialable};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Notify,
};

use super::server::{MINUTE, Server, about, eager, open, reachability};
use smart_record_testing_swarms::within;

/// The finding for a request by another peer, as a third peer reads it.
async fn finds(request: Predicate, service: &mut Server) -> Predicate {
    let asker = Server::plain(&[service]).await;
    let reader = Server::plain(&[service, &asker]).await;
    asker.asks([request.clone()]).await;
    let finding = service.published().await;
    assert_eq!(finding.request, request);
    let read = reader.reads().await;
    assert_eq!(read, [(service.id, finding.clone())], "signed by the service, read by a third");
    finding.finding
}

fn loopback(port: u16, peer: PeerId) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}/p2p/{peer}").parse().unwrap()
}

/// A resolver that waits until it is released.
#[derive(Clone, Default)]
struct Gate(Arc<Notify>);

impl Resolve for Gate {
    fn resolve(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let gate = self.0.clone();
        async move {
            gate.notified().await;
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        }
        .boxed()
    }
}

/// A port on which nobody listens, and which nobody else gets as long as the socket lives.
fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[tokio::test]
async fn a_reachable_address_is_dialled_once() {
    within(async {
        let mut service = Server::start(reachability(), &[]).await;
        let mut target = Server::plain(&[]).await;
        let found = finds(dialable(&target.address), &mut service).await;
        assert_eq!(found, about("dialed", &target.address));
        assert_eq!(target.incoming(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_answers_is_connected() {
    within(async {
        let mut service = Server::start(reachability(), &[]).await;
        let target = Server::plain(&[]).await;
        let found = finds(connectivity(&target.address), &mut service).await;
        assert_eq!(found, about("connected", &target.address));
    })
    .await;
}

#[tokio::test]
async fn an_existing_connection_answers_connectivity_but_not_dialable() {
    within(async {
        let mut service = Server::start(reachability(), &[]).await;
        let mut target = Server::plain(&[]).await;
        service.connect(&target).await;
        assert_eq!(target.incoming(), 1);
        let found = finds(connectivity(&target.address), &mut service).await;
        assert_eq!(found, about("connected", &target.address));
        assert_eq!(target.incoming(), 0, "it was not dialled");
        let asker = Server::plain(&[&service]).await;
        asker.asks([dialable(&target.address)]).await;
        assert_eq!(service.published().await.finding, about("dialed", &target.address));
        assert_eq!(target.incoming(), 1, "it was dialled");
    })
    .await;
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_not_dialable_and_not_connected() {
    within(async {
        let (_socket, port) = closed_port();
        let address = loopback(port, PeerId::random());
        let mut service = Server::start(reachability(), &[]).await;
        let found = finds(dialable(&address), &mut service).await;
        assert_eq!(found, about("notDialable", &address));
        let mut service = Server::start(reachability(), &[]).await;
        let found = finds(connectivity(&address), &mut service).await;
        assert_eq!(found, about("notConnected", &address));
    })
    .await;
}

#[tokio::test]
async fn an_address_where_another_peer_answers_is_not_dialable() {
    within(async {
        let mut service = Server::start(reachability(), &[]).await;
        let target = Server::plain(&[]).await;
        let Some(Protocol::Tcp(port)) = target.address.iter().nth(1) else { panic!() };
        let address = loopback(port, PeerId::random());
        let found = finds(dialable(&address), &mut service).await;
        assert_eq!(found, about("notDialable", &address));
    })
    .await;
}

#[tokio::test]
async fn a_failed_dial_does_not_count_against_the_named_peer() {
    within(async {
        let mut service = Server::start(reachability(), &[]).await;
        let asker = Server::plain(&[&service]).await;
        let (_socket, port) = closed_port();
        let bystander = loopback(port, asker.id);
        asker.asks([dialable(&bystander)]).await;
        assert_eq!(service.published().await.finding, about("notDialable", &bystander));
        assert_eq!(service.failure().await, None, "the failure names no peer");
    })
    .await;
}

#[tokio::test]
async fn a_dial_of_a_peer_does_not_break_a_running_read_from_it() {
    within(async {
        let mut target = Server::plain(&[]).await;
        let key = RecordKey::new("/sr/services/read");
        let said: Dict = [("name", "the target")].into_iter().collect();
        target.says(key.clone(), said, MINUTE).await;
        let Some(Protocol::Tcp(port)) = target.address.iter().nth(1) else { panic!() };
        let address = format!("/dns4/target.test/tcp/{port}/p2p/{}", target.id).parse().unwrap();
        let asker = Server::plain(&[]).await;
        asker.asks([dialable(&address)]).await;
        let asked = asker.client.stored(super::server::key()).await.unwrap();
        // Kademlia knows an address of the target that does not answer.
        let tarpit = TcpListener::bind("127.0.0.1:0").await.unwrap();
        target.address = loopback(tarpit.local_addr().unwrap().port(), target.id);
        let (gate, config) = (Gate::default(), eager().with_check_timeout(MINUTE));
        let policy = open().with_timeout(Duration::from_secs(10));
        let service = Service::builder().with_reachability(policy).with_resolver(gate.clone());
        let mut service = Server::start_with(service.with_config(config), &[&target], asked).await;
        let client = service.client.clone();
        let reading = tokio::spawn(async move { client.view(key).await });
        let _hanging = tarpit.accept().await.unwrap();
        // The read waits for a connection, and the dialer makes the first one.
        gate.0.notify_one();
        let view = reading.await.unwrap().unwrap();
        assert_eq!(view.iter().count(), 1, "the target has answered");
        assert_eq!(service.published().await.finding, about("dialed", &address));
    })
    .await;
}

#[tokio::test]
async fn a_dial_of_a_silent_address_ends_with_the_timeout() {
    within(async {
        let tarpit = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = loopback(tarpit.local_addr().unwrap().port(), PeerId::random());
        let policy = open().with_timeout(Duration::from_millis(300));
        let service = Service::builder();
        let service = service.with_reachability(policy).with_config(eager());
        let mut service = Server::start(service, &[]).await;
        // The transport would go on for longer than the test has.
        let found = finds(dialable(&address), &mut service).await;
        assert_eq!(found, about("notDialable", &address));
    })
    .await;
}

#[tokio::test]
async fn requests_in_the_go_form_are_answered() {
    within(async {
        let mut service = Server::start(reachability(), &[]).await;
        let target = Server::plain(&[&service]).await;
        let multiaddr = Predicate::new("multiaddr").with(target.address.to_string());
        target.asks([Predicate::new("dialable").with_named("address", multiaddr)]).await;
        let found = service.published().await;
        assert_eq!(found.request, dialable(&target.address));
        assert_eq!(found.finding, about("dialed", &target.address));
    })
    .await;
}

#[tokio::test]
async fn a_finding_is_updated_when_reachability_changes_and_expires_without_a_request() {
    within(async {
        let config = eager().with_ttl(Duration::from_secs(4));
        let service = Service::builder();
        let service = service.with_reachability(open()).with_config(config);
        let mut service = Server::start(service, &[]).await;
        let target = Server::plain(&[]).await;
        let asker = Server::plain(&[&service]).await;
        let request = dialable(&target.address);
        asker.asks([request.clone()]).await;
        let first = service.published().await;
        assert_eq!(first.finding.tag, "dialed");
        let second = service.published().await;
        assert_eq!(second.finding.tag, "dialed");
        assert!(second.expires_at > first.expires_at);
        let address = target.address.clone();
        drop(target);
        let third = loop {
            let found = service.published().await;
            if found.finding.tag != "dialed" {
                break found;
            }
        };
        assert_eq!(third.finding, about("notDialable", &address));
        let reads = asker.reads().await;
        let [(by, found)] = &reads[..] else { panic!("{reads:?}") };
        assert_eq!(
            (by, &found.finding),
            (&service.id, &third.finding),
            "it has replaced the others"
        );
        asker.client.withdraw(super::server::key()).await.unwrap();
        // The request is gone, so the finding is not published again and expires.
        while !asker.reads().await.is_empty() {}
    })
    .await;
}
