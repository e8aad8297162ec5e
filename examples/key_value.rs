//! A key-value store in a DHT, to type commands into: a program made for libp2p's `MemoryStore`,
//! with the store of this crate in its place. Plain keys work as before; keys under `/sr/` hold
//! smart records.
//!
//! ```sh
//! cargo run --example key_value                  # prints its address
//! cargo run --example key_value -- ADDRESS       # in another terminal, with that address
//! ```
//!
//! ```text
//! PUT foo bar          stores a value here and at the nodes closest to its key
//! GET foo              prints the values that are found, each once
//! PROVIDE foo          announces that this node provides foo
//! PROVIDERS foo        prints who does
//! ```

use std::{
    collections::{BTreeSet, HashMap},
    error::Error,
    io::BufRead,
};

use futures::{Stream, StreamExt, channel::mpsc};
use libp2p::{
    Multiaddr, PeerId, SwarmBuilder, identify, kad,
    multiaddr::Protocol,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_smart_record::{printable, store::SmartRecordStore};

#[derive(NetworkBehaviour)]
struct Behaviour {
    kad: kad::Behaviour<SmartRecordStore>,
    identify: identify::Behaviour,
}

impl Behaviour {
    fn new(keypair: &libp2p::identity::Keypair) -> Self {
        let peer = keypair.public().to_peer_id();
        let store = SmartRecordStore::drop_in(peer); // Replaces `MemoryStore::new(peer)`.
        let mut kad = kad::Behaviour::new(peer, store);
        kad.set_mode(Some(kad::Mode::Server));
        let identify =
            identify::Config::new("/key-value-example/1.0.0".to_owned(), keypair.public());
        Self { kad, identify: identify::Behaviour::new(identify) }
    }
}

/// Kademlia's running queries, and what was printed of each.
type Queries = HashMap<kad::QueryId, BTreeSet<String>>;

/// Runs a node that knows these others, until the input ends and all commands are done.
pub async fn run(
    others: impl IntoIterator<Item = Multiaddr>,
    commands: impl Stream<Item = String> + Unpin,
    print: impl Fn(String),
) -> Result<(), Box<dyn Error>> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(Behaviour::new)?
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    for address in others {
        if let Some(Protocol::P2p(peer)) = address.iter().last() {
            swarm.behaviour_mut().kad.add_address(&peer, address);
        }
    }
    // Keys and values are from strangers, and a terminal acts upon some characters.
    let print = |line: String| print(printable(&line).to_string());
    let (mut commands, mut queries) = (commands.fuse(), Queries::new());
    loop {
        if commands.is_done() && queries.is_empty() {
            return Ok(());
        }
        tokio::select! {
            command = commands.next(), if !commands.is_done() => if let Some(command) = command {
                match begin(&mut swarm.behaviour_mut().kad, &command) {
                    Ok(query) => drop(queries.insert(query, BTreeSet::new())),
                    Err(error) => print(format!("{command}: {error}")),
                }
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::NewListenAddr { address, .. } => {
                    print(address.with(Protocol::P2p(*swarm.local_peer_id())).to_string());
                }
                SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                    // All addresses go into each reply, so only a few are added.
                    for address in info.listen_addrs.into_iter().take(3) {
                        swarm.behaviour_mut().kad.add_address(&peer_id, address);
                    }
                }
                SwarmEvent::Behaviour(BehaviourEvent::Kad(
                    kad::Event::OutboundQueryProgressed { id, result, step, .. },
                )) => {
                    if let Some(printed) = queries.get_mut(&id) {
                        show(&result, step.last, printed, print);
                    }
                    if step.last {
                        queries.remove(&id);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Runs the command of a line.
fn begin(
    kad: &mut kad::Behaviour<SmartRecordStore>,
    line: &str,
) -> Result<kad::QueryId, Box<dyn Error>> {
    let (command, rest) = line.trim().split_once(' ').unwrap_or((line, ""));
    let (key, value) = rest.trim().split_once(' ').unwrap_or((rest, ""));
    let record_key = kad::RecordKey::new(&key);
    Ok(match (command, key, value) {
        ("GET", _, "") if !key.is_empty() => kad.get_record(record_key),
        ("PROVIDERS", _, "") if !key.is_empty() => kad.get_providers(record_key),
        ("PROVIDE", _, "") if !key.is_empty() => kad.start_providing(record_key)?,
        ("PUT", _, _) if !value.is_empty() => {
            // The log has the reason of a refusal by the store.
            kad.put_record(kad::Record::new(record_key, value.into()), kad::Quorum::One)?
        }
        _ => return Err("use PUT KEY VALUE, GET KEY, PROVIDE KEY or PROVIDERS KEY".into()),
    })
}

/// Prints the progress of a query.
fn show(
    result: &kad::QueryResult,
    is_last: bool,
    printed: &mut BTreeSet<String>,
    print: impl Fn(String),
) {
    let key = |key: &kad::RecordKey| String::from_utf8_lossy(key.as_ref()).into_owned();
    let lines = match result {
        kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))) => {
            let value = String::from_utf8_lossy(&found.record.value);
            vec![format!("{} is {value}", key(&found.record.key))]
        }
        kad::QueryResult::GetRecord(Err(error)) if printed.is_empty() => {
            vec![format!("{} is not found", key(error.key()))]
        }
        kad::QueryResult::PutRecord(Ok(put)) => vec![format!("{} is stored", key(&put.key))],
        kad::QueryResult::PutRecord(Err(error)) => {
            vec![format!("{} is stored here and nowhere else", key(error.key()))]
        }
        kad::QueryResult::StartProviding(Ok(provided)) => {
            vec![format!("{} is provided", key(&provided.key))]
        }
        kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders {
            key: of,
            providers,
        })) => {
            let line = |peer: &PeerId| format!("{} is provided by {peer}", key(of));
            providers.iter().map(line).collect()
        }
        kad::QueryResult::GetProviders(_) if is_last && printed.is_empty() => {
            vec!["no providers are found".to_owned()]
        }
        _ => Vec::new(),
    };
    for line in lines {
        if printed.insert(line.clone()) {
            print(line);
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The store's warnings go to standard error.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let others: Vec<Multiaddr> =
        std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let (lines, commands) = mpsc::unbounded();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.unbounded_send(line).is_err() {
                return;
            }
        }
    });
    run(others, commands, |line| println!("{line}")).await
}
