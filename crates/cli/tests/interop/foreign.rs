//! Nodes of other implementations, behind one interface.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    identity::Keypair,
    kad::{self, store::MemoryStore},
    multiaddr::Protocol,
};
use libp2p_smart_record::{RecordKey, ipns::IpnsName};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use smart_record_testing::process::Running;
use smart_record_testing_swarms::Node;
use tokio::task::block_in_place;

/// The protocol of the networks: that of kubo's LAN DHT, which cannot be changed there.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/lan/kad/1.0.0");

/// An implementation of Kademlia that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Implementation {
    Kubo,
    Go,
    JavaScript,
    Python,
    Rust,
}

impl Implementation {
    pub const ALL: [Self; 5] = [Self::Kubo, Self::Go, Self::JavaScript, Self::Python, Self::Rust];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kubo => "kubo",
            Self::Go => "go-libp2p-kad-dht",
            Self::JavaScript => "@libp2p/kad-dht",
            Self::Python => "py-libp2p",
            Self::Rust => "rust-libp2p, MemoryStore",
        }
    }
}

/// What a node is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves others, and checks records by its own rules.
    Server,
    /// Serves nobody, so what it reads comes from others.
    Client,
    /// A client that sends invalid records too, where it can be made to.
    Unchecked,
}

/// A running node.
pub enum Foreign {
    Peer { process: Running, address: String },
    Kubo(Kubo),
    Plain(Node<MemoryStore>),
}

pub type Outcome<T = ()> = Result<T, String>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where `scripts/interop` puts what it builds.
fn built() -> PathBuf {
    root().join("target/interop")
}

/// Where the nodes of an implementation write what they log.
fn log(implementation: Implementation) -> File {
    let file = built().join(format!("{implementation:?}.log").to_lowercase());
    File::options().create(true).append(true).open(file).unwrap()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

/// The sha2-256 multihash of some content.
pub fn multihash(content: &[u8]) -> Vec<u8> {
    [&[0x12, 0x20][..], &Sha256::digest(content)].concat()
}

/// Splits the peer id off an address.
pub fn peer_of(address: &str) -> (PeerId, Multiaddr) {
    let mut address: Multiaddr = address.parse().unwrap();
    match address.pop() {
        Some(Protocol::P2p(peer)) => (peer, address),
        other => panic!("{other:?} is no peer"),
    }
}

/// A plain node of rust-libp2p.
pub async fn plain(serves: bool) -> Node<MemoryStore> {
    let keypair = Keypair::generate_ed25519();
    let store = MemoryStore::new(keypair.public().to_peer_id());
    let node = Node::start(keypair, store, kad::Config::new(PROTOCOL)).await;
    let mode = if serves { kad::Mode::Server } else { kad::Mode::Client };
    let address = node.address();
    let setup = node.with(move |swarm| {
        // A provider without an address is of no use to anybody.
        swarm.add_external_address(address);
        swarm.behaviour_mut().kad.set_mode(Some(mode));
    });
    setup.await.unwrap();
    node
}

impl Foreign {
    pub async fn start(implementation: Implementation, role: Role) -> Self {
        let peer = |mut command: Command, dashes: &str| {
            command.args([&format!("{dashes}protocol"), PROTOCOL.as_ref()]);
            match role {
                Role::Server => {}
                Role::Client => drop(command.arg(format!("{dashes}client"))),
                Role::Unchecked => {
                    command.args([format!("{dashes}client"), format!("{dashes}unchecked")]);
                }
            }
            command.stderr(log(implementation));
            let process = Running::spawn(command);
            let first: Value = serde_json::from_str(&process.line()).unwrap();
            let address = first["address"].as_str().unwrap().to_owned();
            Self::Peer { process, address }
        };
        let tests = root().join("tests/interop");
        block_in_place(|| match implementation {
            Implementation::Kubo => {
                Some(Self::Kubo(Kubo::start(role == Role::Server, log(implementation))))
            }
            Implementation::Go => Some(peer(Command::new(built().join("peer")), "-")),
            Implementation::JavaScript => {
                let mut command = Command::new(tests.join("js/node_modules/.bin/node"));
                command.arg(tests.join("js/peer.mjs"));
                Some(peer(command, "--"))
            }
            Implementation::Python => {
                let mut command = Command::new(built().join("py/bin/python"));
                command.arg(tests.join("py/peer.py"));
                Some(peer(command, "--"))
            }
            Implementation::Rust => None,
        })
        .unwrap_or(Self::Plain(plain(role == Role::Server).await))
    }

    /// Its address, ending in its peer id.
    pub fn address(&self) -> String {
        match self {
            Self::Peer { address, .. } => address.clone(),
            Self::Kubo(kubo) => kubo.address.clone(),
            Self::Plain(node) => format!("{}/p2p/{}", node.address(), node.peer()),
        }
    }

    pub fn peer(&self) -> PeerId {
        peer_of(&self.address()).0
    }

    fn ask(process: &Running, request: &Value) -> Outcome<Value> {
        let answer = block_in_place(|| {
            writeln!(process.stdin.as_ref().unwrap(), "{request}").unwrap();
            process.line()
        });
        let answer: Value = serde_json::from_str(&answer).unwrap();
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }

    /// Connects it to a server and waits until it has the server in its routing table.
    pub async fn connect(&self, address: &str) -> Outcome {
        match self {
            Self::Peer { process, .. } => {
                Self::ask(process, &json!({ "do": "connect", "address": address })).map(drop)
            }
            Self::Kubo(kubo) => kubo.connect(address),
            Self::Plain(node) => {
                let (peer, address) = peer_of(address);
                node.add(peer, address).await.map_err(|error| error.to_string())?;
                node.bootstrap().await.map_err(|error| error.to_string())
            }
        }
    }

    pub async fn put(&self, key: &RecordKey, value: &[u8]) -> Outcome {
        match self {
            Self::Peer { process, .. } => {
                let request = json!({ "do": "put", "key": hex(key), "value": hex(value) });
                Self::ask(process, &request).map(drop)
            }
            Self::Kubo(kubo) => kubo.run(&["routing", "put", &kubo_key(key)], value).map(drop),
            Self::Plain(node) => {
                let put = node.put(key, value.to_vec()).await;
                put.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    pub async fn get(&self, key: &RecordKey) -> Outcome<Vec<u8>> {
        match self {
            Self::Peer { process, .. } => {
                let answer = Self::ask(process, &json!({ "do": "get", "key": hex(key) }))?;
                Ok(from_hex(answer["value"].as_str().ok_or("no value")?))
            }
            Self::Kubo(kubo) => kubo.run(&["routing", "get", &kubo_key(key)], &[]),
            Self::Plain(node) => {
                let found = node.lookup(key).await.map_err(|error| error.to_string())?;
                found.into_iter().next().map(|(_, value)| value).ok_or("not found".to_owned())
            }
        }
    }

    /// Makes it a provider of this content.
    pub async fn provide(&self, content: &[u8]) -> Outcome {
        let hash = multihash(content);
        match self {
            Self::Peer { process, .. } => {
                Self::ask(process, &json!({ "do": "provide", "multihash": hex(hash) })).map(drop)
            }
            Self::Kubo(kubo) => {
                kubo.run(&["block", "put"], content)?;
                kubo.run(&["routing", "provide", &cid(content)], &[]).map(drop)
            }
            Self::Plain(node) => node.provide(&hash).await.map_err(|error| error.to_string()),
        }
    }

    pub async fn providers(&self, content: &[u8]) -> Outcome<Vec<String>> {
        let hash = multihash(content);
        match self {
            Self::Peer { process, .. } => {
                let request = json!({ "do": "providers", "multihash": hex(hash) });
                let answer = Self::ask(process, &request)?;
                let peers = answer["peers"].as_array().into_iter().flatten();
                Ok(peers.map(|peer| peer.as_str().unwrap().to_owned()).collect())
            }
            Self::Kubo(kubo) => {
                let found = kubo.text(&["routing", "findprovs", "-n", "1", &cid(content)], &[])?;
                Ok(found.lines().map(ToOwned::to_owned).collect())
            }
            Self::Plain(node) => {
                let found = node.providers(&hash).await.map_err(|error| error.to_string())?;
                Ok(found.iter().map(ToString::to_string).collect())
            }
        }
    }
}

/// The CID of a block, as kubo makes it.
pub fn cid(content: &[u8]) -> String {
    let bytes = [&[0x01, 0x55][..], &multihash(content)].concat();
    multibase::encode(multibase::Base::Base32Lower, bytes)
}

/// A key as kubo's commands take it: with the peer id as text.
fn kubo_key(key: &RecordKey) -> String {
    let text = |prefix: &str| {
        let peer = PeerId::from_bytes(key.as_ref().strip_prefix(prefix.as_bytes())?).ok()?;
        Some(format!("{prefix}{peer}"))
    };
    let readable = || String::from_utf8_lossy(key.as_ref()).into_owned();
    text("/ipns/").or_else(|| text("/pk/")).unwrap_or_else(readable)
}

/// A node of kubo, with a repository of its own.
pub struct Kubo {
    repository: tempfile::TempDir,
    address: String,
    _daemon: Running,
}

impl Kubo {
    fn start(serves: bool, log: File) -> Self {
        let repository = tempfile::Builder::new().prefix("kubo-").tempdir_in(built()).unwrap();
        let command = |arguments: &[&str]| {
            let mut command = Command::new(built().join("kubo"));
            // Nothing is looked up, reported or updated.
            command.env("IPFS_PATH", repository.path()).env("IPFS_TELEMETRY", "off");
            command.args(arguments);
            command
        };
        let run = |arguments: &[&str]| {
            let run = command(arguments).stdout(Stdio::null()).status().unwrap();
            assert!(run.success(), "{arguments:?}");
        };
        // Loopback addresses alone, no bootstrap list, no mDNS, no HTTP routers, nothing automatic.
        run(&["init", "--profile", "test", "--empty-repo"]);
        run(&["config", "Routing.Type", if serves { "dhtserver" } else { "dhtclient" }]);
        run(&["config", "--json", "Swarm.RelayClient.Enabled", "false"]);
        run(&["config", "--json", "Swarm.RelayService.Enabled", "false"]);
        run(&["config", "--json", "Swarm.EnableHolePunching", "false"]);
        let mut daemon = command(&["daemon"]);
        daemon.stderr(log);
        let daemon = Running::spawn(daemon);
        daemon.until(|line| line.contains("Daemon is ready").then_some(()));
        let mut kubo = Self { repository, address: String::new(), _daemon: daemon };
        let id = kubo.text(&["id", "-f", "<addrs>"], &[]).unwrap();
        let address = id.lines().find(|address| address.contains("/tcp/"));
        address.unwrap().clone_into(&mut kubo.address);
        kubo
    }

    /// Runs a command of kubo at the node, and returns what it prints.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Outcome<Vec<u8>> {
        block_in_place(|| {
            let mut command = Command::new(built().join("kubo"));
            command.env("IPFS_PATH", self.repository.path()).args(["--timeout", "60s"]);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
            // A command that reads none of it may have ended.
            let _ = child.stdin.take().unwrap().write_all(input);
            let output = child.wait_with_output().unwrap();
            match output.status.success() {
                true => Ok(output.stdout),
                false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            }
        })
    }

    pub fn text(&self, arguments: &[&str], input: &[u8]) -> Outcome<String> {
        let printed = self.run(arguments, input)?;
        Ok(String::from_utf8(printed).unwrap().trim().to_owned())
    }

    fn connect(&self, address: &str) -> Outcome {
        self.run(&["swarm", "connect", address], &[])?;
        let peer = peer_of(address).0.to_string();
        // Each command takes a while, and kubo has no event for it.
        for _ in 0..300 {
            if self.text(&["stats", "dht", "lan"], &[])?.contains(&peer) {
                return Ok(());
            }
        }
        Err("the peer does not come into the routing table".to_owned())
    }
}

/// The key of a name.
pub fn name_key(keypair: &Keypair) -> RecordKey {
    IpnsName::from(&keypair.public()).key()
}
