//! Requests between real swarms over TCP.

mod answers;
mod dials;
mod kademlia;
mod lateness;

use std::{cell::RefCell, time::Duration};

use bytes::Bytes;
use futures::{AsyncReadExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream, Swarm,
    identity::Keypair,
    kad::{self, store::MemoryStore},
    swarm::{NetworkBehaviour, SwarmEvent},
};
use prost::Message as _;
use smart_record_lookup::{self as lookup, Place, RequestId, Requests};
use smart_record_testing_swarms::{PROTOCOL, Scripted, listening, within};
use tokio::{sync::mpsc, task::JoinSet};

use super::{Ended, Failure, Outbound, Record, Request, Response};
use crate::proto::kademlia as proto;

/// A peer that can be asked.
#[derive(Clone, Debug)]
struct Peer {
    id: PeerId,
    address: Multiaddr,
}

/// The peers of a test. They stop with it.
#[derive(Default)]
struct Peers(JoinSet<()>);

impl Peers {
    /// Runs a swarm of its own for a behaviour.
    async fn start<B>(&mut self, keypair: Keypair, behaviour: B) -> Peer
    where
        B: NetworkBehaviour<ToSwarm: Send> + Send,
    {
        let id = keypair.public().to_peer_id();
        let (mut swarm, address) = listening(keypair, behaviour).await;
        self.0.spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Peer { id, address }
    }

    /// A peer that does what a script says with each stream.
    async fn scripted<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        script: impl Fn(Stream) -> F + Send + Sync + 'static,
    ) -> Peer {
        self.start(Keypair::generate_ed25519(), Scripted::new(PROTOCOL, script)).await
    }

    /// A peer that hands each stream to the test when it has read the request.
    async fn holding(&mut self) -> (Peer, mpsc::UnboundedReceiver<Stream>) {
        let (asked, streams) = mpsc::unbounded_channel();
        let peer = self.scripted(move |mut stream| {
            let asked = asked.clone();
            async move {
                read_request(&mut stream).await;
                // A test that is over asks nobody.
                let _ = asked.send(stream);
            }
        });
        (peer.await, streams)
    }

    /// A server of Kademlia that knows nobody and has nothing.
    async fn server(&mut self) -> Peer {
        let keypair = Keypair::generate_ed25519();
        let kad = kad(&keypair, kad::Mode::Server);
        self.start(keypair, kad).await
    }
}

/// Kademlia as rust-libp2p has it.
fn kad(keypair: &Keypair, mode: kad::Mode) -> kad::Behaviour<MemoryStore> {
    let local = keypair.public().to_peer_id();
    let config = kad::Config::new(PROTOCOL);
    let mut kad = kad::Behaviour::with_config(local, MemoryStore::new(local), config);
    kad.set_mode(Some(mode));
    kad
}

/// Who asks: a swarm without Kademlia.
async fn client() -> Swarm<Outbound> {
    let keypair = Keypair::generate_ed25519();
    let outbound = Outbound::new(keypair.public().to_peer_id(), PROTOCOL);
    listening(keypair, outbound).await.0
}

fn get(key: &'static str) -> Request {
    Request::GetValue { key: Bytes::from_static(key.as_bytes()) }
}

fn find(key: &'static str) -> Request {
    Request::FindNode { key: Bytes::from_static(key.as_bytes()) }
}

fn put(key: &'static str, value: impl Into<Bytes>) -> Request {
    let record = Record { value: value.into(), publisher: None, ttl: None };
    Request::PutValue { key: Bytes::from_static(key.as_bytes()), record }
}

/// Asks a peer.
fn send(outbound: &mut Outbound, peer: &Peer, request: Request) -> RequestId {
    send_to(outbound, peer.id, vec![peer.address.clone()], request)
}

fn send_to(
    outbound: &mut Outbound,
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    request: Request,
) -> RequestId {
    let id = next_id();
    outbound.send(id, peer, addresses, request);
    id
}

/// A name for a request of which nobody minds the time.
pub(super) fn next_id() -> RequestId {
    thread_local! {
        static REQUESTS: RefCell<Requests> = RefCell::default();
    }
    REQUESTS.with_borrow_mut(|requests| {
        let peer = PeerId::random();
        let distance = Place::of_key(b"key").distance_of(&peer);
        let id = requests.begin(peer, distance, Duration::ZERO).unwrap();
        requests.cancel(id);
        id
    })
}

/// How the next request has ended.
async fn next(swarm: &mut Swarm<Outbound>) -> Ended {
    within(async {
        loop {
            if let SwarmEvent::Behaviour(ended) = swarm.select_next_some().await {
                return ended;
            }
        }
    })
    .await
}

/// Asks one peer one thing.
async fn ask(
    swarm: &mut Swarm<Outbound>,
    peer: &Peer,
    request: Request,
) -> Result<Response, Failure> {
    let id = send(swarm.behaviour_mut(), peer, request);
    let ended = next(swarm).await;
    assert_eq!((ended.id, ended.peer), (id, peer.id));
    ended.result
}

/// Reads the request, which is shorter than 128 bytes.
async fn read_request(stream: &mut Stream) -> Vec<u8> {
    let mut len = [0];
    stream.read_exact(&mut len).await.unwrap();
    let mut message = vec![0; len[0].into()];
    stream.read_exact(&mut message).await.unwrap();
    message
}

fn packet(message: &proto::Message) -> Vec<u8> {
    message.encode_length_delimited_to_vec()
}

fn found(key: &'static str) -> proto::Message {
    let record = proto::Record {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(b"value"),
        ..proto::Record::default()
    };
    proto::Message {
        r#type: proto::Type::GetValue.into(),
        record: Some(record),
        ..proto::Message::default()
    }
}
