//! Addresses that are not dialled.

use std::{io, net::IpAddr};

use futures::{FutureExt, future::BoxFuture};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use smart_record_services::{
    AddressRefusal, DialPolicy, RequestRefusal, Resolve, Service, ServiceEvent, connectivity,
    dialable,
};
use tokio::net::TcpListener;

use super::server::{Server, about, connections, eager, open};
use smart_record_testing_swarms::within;

struct Names;

impl Resolve for Names {
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        assert_eq!(name, "here.test");
        async { Ok(vec!["127.0.0.1".parse().unwrap()]) }.boxed()
    }
}

#[tokio::test]
async fn a_private_address_is_not_dialled_with_the_default_policy() {
    within(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = Service::builder()
            .with_reachability(DialPolicy::default())
            .with_config(eager())
            .with_resolver(Names);
        let mut service = Server::start(service, &[]).await;
        let asker = Server::plain(&[&service]).await;
        let peer = PeerId::random();
        let at =
            |host: &str| -> Multiaddr { format!("{host}/tcp/{port}/p2p/{peer}").parse().unwrap() };
        let (plain, mapped) = (at("/ip4/127.0.0.1"), at("/ip6/::ffff:127.0.0.1"));
        asker.asks([dialable(&plain), connectivity(&plain), dialable(&mapped)]).await;
        for _ in 0..3 {
            let event = service.event().await;
            let ServiceEvent::Refused { writer, reason, .. } = event else { panic!("{event:?}") };
            assert_eq!(writer, asker.id);
            assert_eq!(reason, RequestRefusal::Address(AddressRefusal::NotGlobal));
        }
        // The address of a name is checked after the name is resolved.
        let name = at("/dns4/here.test");
        asker
            .client
            .replace(
                super::server::key(),
                super::server::asking([dialable(&name)]),
                super::server::MINUTE,
            )
            .await
            .unwrap();
        loop {
            if let ServiceEvent::Unknown { request } = service.event().await {
                assert_eq!(request, dialable(&name));
                break;
            }
        }
        assert_eq!(connections(&listener).await, 0, "somebody has connected");
        assert_eq!(asker.reads().await, []);
    })
    .await;
}

#[tokio::test]
async fn a_name_is_dialled_at_its_resolved_address_if_the_policy_allows_it() {
    within(async {
        let service =
            Service::builder().with_reachability(open()).with_config(eager()).with_resolver(Names);
        let mut service = Server::start(service, &[]).await;
        let target = Server::plain(&[&service]).await;
        let Some(Protocol::Tcp(port)) = target.address.iter().nth(1) else { panic!() };
        let name: Multiaddr =
            format!("/dns4/here.test/tcp/{port}/p2p/{}", target.id).parse().unwrap();
        target.asks([dialable(&name)]).await;
        assert_eq!(service.published().await.finding, about("dialed", &name));
    })
    .await;
}

#[tokio::test]
async fn an_address_of_a_transport_that_the_swarm_lacks_gets_no_finding() {
    within(async {
        let service = Service::builder().with_reachability(open()).with_config(eager());
        let mut service = Server::start(service, &[]).await;
        let asker = Server::plain(&[&service]).await;
        let quic = format!("/ip4/127.0.0.1/udp/4001/quic-v1/p2p/{}", PeerId::random());
        let request = dialable(&quic.parse().unwrap());
        asker.asks([request.clone()]).await;
        assert_eq!(service.event().await, ServiceEvent::Unknown { request });
        assert_eq!(asker.reads().await, []);
    })
    .await;
}
