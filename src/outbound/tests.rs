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

/// A peer of a test.
#[derive(Clone, Debug)]
struct Peer {
    id: PeerId,
    address: Multiaddr,
}

/// All peers of a test, which stop with it.
#[derive(Default)]
struct Peers(JoinSet<()>);

impl Peers {
    /// Runs a behaviour in a swarm of its own.
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

    /// A peer that runs a script for each stream.
    async fn scripted<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        script: impl Fn(Stream) -> F + Send + Sync + 'static,
    ) -> Peer {
        self.start(Keypair::generate_ed25519(), Scripted::new(PROTOCOL, script)).await
    }

    /// A peer that reads each request and hands its stream to the test.
    async fn holding(&mut self) -> (Peer, mpsc::UnboundedReceiver<Stream>) {
        let (asked, streams) = mpsc::unbounded_channel();
        let peer = self.scripted(move |mut stream| {
            let asked = asked.clone();
            async move {
                read_request(&mut stream).await;
                // The receiver is gone once the test is over.
                let _ = asked.send(stream);
            }
        });
        (peer.await, streams)
    }

    /// A Kademlia server without neighbours and records.
    async fn server(&mut self) -> Peer {
        let keypair = Keypair::generate_ed25519();
        let kad = kad(&keypair, kad::Mode::Server);
        self.start(keypair, kad).await
    }
}

/// Kademlia of rust-libp2p with its own store.
fn kad(keypair: &Keypair, mode: kad::Mode) -> kad::Behaviour<MemoryStore> {
    let local = keypair.public().to_peer_id();
    let config = kad::Config::new(PROTOCOL);
    let mut kad = kad::Behaviour::with_config(local, MemoryStore::new(local), config);
    kad.set_mode(Some(mode));
    kad
}

/// The requesting swarm, without Kademlia.
async fn client() -> Swarm<Outbound> {
    let keypair = Keypair::generate_ed25519();
    let outbound = Outbound::new(keypair.public().to_peer_id(), PROTOCOL);
    listening(keypair, outbound).await.0
}

fn get(key: &'static str) -> Request {
    Request::GetValue { key: Bytes::from_static(key.as_bytes()) }
}

fn put(key: &'static str, value: impl Into<Bytes>) -> Request {
    let record = Record { value: value.into(), publisher: None, ttl: None };
    Request::PutValue { key: Bytes::from_static(key.as_bytes()), record }
}

/// Sends a request to a peer.
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

/// Returns a new id for a request without timeout.
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

/// The next end of a request.
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

/// Sends a request and returns its result.
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

/// Reads a request of less than 128 bytes.
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
