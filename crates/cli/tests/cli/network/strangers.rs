//! Nodes that are not of this command, run by the test.

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Stream, StreamProtocol,
    identity::Keypair,
    kad::{self, store::MemoryStore, store::RecordStore},
};
use libp2p_smart_record::{
    RecordKey, Registry,
    store::{SmartRecordStore, StoreConfig},
};
use prost::Message;
use smart_record_testing_swarms::{Node, Scripted, listening};
use tokio::runtime::Runtime;

/// The protocol of the command.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/smart-record/kad/1.0.0");

/// A node, and its address for `--connect`.
pub struct Stranger {
    pub address: String,
    // Dropped before the runtime that it runs in.
    _node: Box<dyn Send>,
    _runtime: Runtime,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A plain node of rust-libp2p, which keeps whatever it is sent, and holds these records.
pub fn plain(records: &[(&RecordKey, &[u8])]) -> Stranger {
    let keypair = Keypair::generate_ed25519();
    let mut store = MemoryStore::new(keypair.public().to_peer_id());
    for (key, value) in records {
        store.put(kad::Record::new(kad::RecordKey::new(key), value.to_vec())).unwrap();
    }
    start(keypair, store, kad::Config::new(PROTOCOL))
}

/// A node of this crate with other rules: it acknowledges what it refuses.
pub fn with_rules(registry: Registry) -> Stranger {
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let store = SmartRecordStore::with_registry(peer, registry, StoreConfig::default());
    let config = store.kad_config(PROTOCOL);
    start(keypair, store, config)
}

fn start<S: RecordStore + Send + 'static>(
    keypair: Keypair,
    store: S,
    config: kad::Config,
) -> Stranger {
    let runtime = runtime();
    let node = runtime.block_on(Node::start(keypair, store, config));
    let address = format!("{}/p2p/{}", node.address(), node.peer());
    Stranger { address, _node: Box::new(node), _runtime: runtime }
}

/// The fields of a message of Kademlia that a node needs to have nothing.
#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
}

/// A request to store a record.
pub const PUT_VALUE: i32 = 0;
/// A request for a record.
pub const GET_VALUE: i32 = 1;

/// A node that has nothing, and refuses requests of this kind as Go does: it closes the stream.
pub fn refusing(kind: i32) -> Stranger {
    let runtime = runtime();
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let scripted =
        Scripted::new(
            PROTOCOL,
            move |stream| async move { answer(stream, kind).await.unwrap_or(()) },
        );
    let (mut swarm, address) = runtime.block_on(listening(keypair, scripted));
    runtime.spawn(async move { while swarm.next().await.is_some() {} });
    Stranger { address: format!("{address}/p2p/{peer}"), _node: Box::new(()), _runtime: runtime }
}

/// Answers requests until one is of the `refused` kind.
async fn answer(mut stream: Stream, refused: i32) -> std::io::Result<()> {
    loop {
        let mut len = 0_usize;
        for shift in (0..21).step_by(7) {
            let mut byte = [0];
            stream.read_exact(&mut byte).await?;
            len |= usize::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                break;
            }
        }
        let mut packet = vec![0; len];
        stream.read_exact(&mut packet).await?;
        let Packet { kind, key } = Packet::decode(&packet[..]).unwrap();
        if kind == refused {
            return Ok(());
        }
        stream.write_all(&Packet { kind, key }.encode_length_delimited_to_vec()).await?;
        stream.flush().await?;
    }
}
