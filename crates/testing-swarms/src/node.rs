//! A node of a user that has replaced the store of a `kad::Behaviour` and nothing else: a swarm in
//! a task, and its handle.

use std::collections::{BTreeSet, HashMap};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, identify,
    identity::Keypair,
    kad, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::listening;

/// Kademlia over any store, with identify, which tells Kademlia the addresses of peers, and ping,
/// which JavaScript nodes ask of a peer before they use it.
#[derive(NetworkBehaviour)]
#[expect(missing_debug_implementations, reason = "a swarm has no debug output")]
pub struct Behaviour<S: kad::store::RecordStore + Send + 'static> {
    /// Kademlia.
    pub kad: kad::Behaviour<S>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

type SwarmTask<S> = Box<dyn FnOnce(&mut Swarm<Behaviour<S>>) + Send>;
type Progress = mpsc::UnboundedSender<kad::QueryResult>;
type QueryStart<S> = Box<dyn FnOnce(&mut kad::Behaviour<S>) -> Option<kad::QueryId> + Send>;

enum Command<S: kad::store::RecordStore + Send + 'static> {
    Run(SwarmTask<S>),
    Query(QueryStart<S>, Progress),
}

/// A running node, which stops when the handle is dropped.
#[expect(missing_debug_implementations, reason = "a swarm has no debug output")]
pub struct Node<S: kad::store::RecordStore + Send + 'static> {
    peer: PeerId,
    address: Multiaddr,
    commands: mpsc::UnboundedSender<Command<S>>,
    connections: mpsc::UnboundedReceiver<PeerId>,
    task: JoinHandle<()>,
}

/// Failure of a node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its task has ended.
    #[error("the node has stopped")]
    Stopped,
    /// The query failed.
    #[error("the query failed: {0}")]
    Query(String),
}

impl<S: kad::store::RecordStore + Send + 'static> Node<S> {
    /// Starts a node that listens on a free port of the loopback interface.
    pub async fn start(keypair: Keypair, store: S, config: kad::Config) -> Self {
        let peer = keypair.public().to_peer_id();
        let mut kad = kad::Behaviour::with_config(peer, store, config);
        // Without a confirmed external address Kademlia would stay a client and answer nothing.
        kad.set_mode(Some(kad::Mode::Server));
        let agent = identify::Config::new("/smart-record-test/1.0.0".to_owned(), keypair.public());
        let identify = identify::Behaviour::new(agent);
        let behaviour = Behaviour { kad, identify, ping: ping::Behaviour::default() };
        let (swarm, address) = listening(keypair, behaviour).await;
        let (commands, inbox) = mpsc::unbounded_channel();
        let (opened, connections) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(swarm, inbox, opened));
        Self { peer, address, commands, connections, task }
    }

    /// Its peer id.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Its listen address.
    pub fn address(&self) -> Multiaddr {
        self.address.clone()
    }

    /// The peers of connections opened since the last call, once for each connection.
    pub fn connections_opened(&mut self) -> Vec<PeerId> {
        std::iter::from_fn(|| self.connections.try_recv().ok()).collect()
    }

    /// Runs a function on the node's swarm.
    pub async fn with<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Swarm<Behaviour<S>>) -> R + Send + 'static,
    ) -> Result<R, NodeError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Run(Box::new(move |swarm| {
                // The caller may have given up.
                let _ = reply.send(f(swarm));
            })))
            .map_err(|_| NodeError::Stopped)?;
        answer.await.map_err(|_| NodeError::Stopped)
    }

    /// Runs a function on the node's store.
    pub async fn store<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut S) -> R + Send + 'static,
    ) -> Result<R, NodeError> {
        self.with(move |swarm| f(swarm.behaviour_mut().kad.store_mut())).await
    }

    /// Runs a query to its end and returns all its results.
    async fn query(
        &self,
        start: impl FnOnce(&mut kad::Behaviour<S>) -> Result<kad::QueryId, String> + Send + 'static,
    ) -> Result<Vec<kad::QueryResult>, NodeError> {
        let (failed, failure) = oneshot::channel();
        let (progress, mut results) = mpsc::unbounded_channel();
        let start: QueryStart<S> = Box::new(move |kad| match start(kad) {
            Ok(id) => Some(id),
            Err(error) => {
                let _ = failed.send(error);
                None
            }
        });
        self.commands.send(Command::Query(start, progress)).map_err(|_| NodeError::Stopped)?;
        let mut all = Vec::new();
        while let Some(result) = results.recv().await {
            all.push(result);
        }
        match failure.await {
            Ok(error) => Err(NodeError::Query(error)),
            Err(_) if all.is_empty() => Err(NodeError::Stopped),
            Err(_) => Ok(all),
        }
    }

    /// Makes another node known to this one.
    pub async fn add(&self, peer: PeerId, address: Multiaddr) -> Result<(), NodeError> {
        self.with(move |swarm| {
            swarm.behaviour_mut().kad.add_address(&peer, address);
        })
        .await
    }

    /// Looks up the node's neighbours.
    pub async fn bootstrap(&self) -> Result<(), NodeError> {
        self.query(|kad| kad.bootstrap().map_err(|e| e.to_string())).await.map(drop)
    }

    /// Number of known peers.
    pub async fn known_peers(&self) -> Result<usize, NodeError> {
        self.with(|swarm| {
            let buckets = swarm.behaviour_mut().kad.kbuckets();
            buckets.map(|bucket| bucket.num_entries()).sum()
        })
        .await
    }

    /// All values found by one lookup, each with its sender; `None` stands for the node itself.
    pub async fn lookup(
        &self,
        key: &impl AsRef<[u8]>,
    ) -> Result<Vec<(Option<PeerId>, Vec<u8>)>, NodeError> {
        let kad_key = kad::RecordKey::new(&key.as_ref());
        let asked = kad_key.clone();
        let results = self.query(move |kad| Ok(kad.get_record(asked))).await?;
        let found = results.into_iter().filter_map(|result| match result {
            kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))) => Some(found),
            _ => None,
        });
        Ok(found
            // Kademlia does not compare the key of a reply with the key asked for.
            .filter(|found| found.record.key == kad_key)
            .map(|found| (found.peer, found.record.value))
            .collect())
    }

    /// Makes the node a provider of this multihash.
    pub async fn provide(&self, multihash: &impl AsRef<[u8]>) -> Result<(), NodeError> {
        let key = kad::RecordKey::new(&multihash.as_ref());
        self.query(|kad| kad.start_providing(key).map_err(|e| e.to_string())).await.map(drop)
    }

    /// The providers of a multihash that one lookup finds.
    pub async fn providers(
        &self,
        multihash: &impl AsRef<[u8]>,
    ) -> Result<BTreeSet<PeerId>, NodeError> {
        let key = kad::RecordKey::new(&multihash.as_ref());
        let results = self.query(move |kad| Ok(kad.get_providers(key))).await?;
        let found = results.into_iter().filter_map(|result| match result {
            kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders {
                providers,
                ..
            })) => Some(providers),
            _ => None,
        });
        Ok(found.flatten().collect())
    }

    /// Stores a value here and at the peers closest to the key. Returns the number of
    /// acknowledgements.
    pub async fn put(&self, key: &impl AsRef<[u8]>, value: Vec<u8>) -> Result<usize, NodeError> {
        let record = kad::Record::new(kad::RecordKey::new(&key.as_ref()), value);
        let results = self
            .query(move |kad| kad.put_record(record, kad::Quorum::All).map_err(|e| e.to_string()))
            .await?;
        put_outcome(results, kad::K_VALUE.get())
    }

    /// Sends any value to one peer.
    pub async fn put_to(
        &self,
        peer: PeerId,
        key: &impl AsRef<[u8]>,
        value: Vec<u8>,
    ) -> Result<usize, NodeError> {
        self.put_record_to(peer, kad::Record::new(kad::RecordKey::new(&key.as_ref()), value)).await
    }

    /// Sends a record as it is to one peer.
    pub async fn put_record_to(
        &self,
        peer: PeerId,
        record: kad::Record,
    ) -> Result<usize, NodeError> {
        if peer == self.peer {
            // Kademlia would wait for an answer for ever.
            return Err(NodeError::Query("a node does not send to itself".to_owned()));
        }
        let results = self
            .query(move |kad| Ok(kad.put_record_to(record, [peer].into_iter(), kad::Quorum::One)))
            .await?;
        put_outcome(results, 1)
    }
}

/// Number of acknowledgements; `asked` if all peers acknowledged.
fn put_outcome(results: Vec<kad::QueryResult>, asked: usize) -> Result<usize, NodeError> {
    use kad::PutRecordError::{QuorumFailed, Timeout};
    match results.into_iter().next_back() {
        Some(kad::QueryResult::PutRecord(Ok(_))) => Ok(asked),
        // In a small network there are fewer peers than the quorum asks for.
        Some(kad::QueryResult::PutRecord(Err(
            QuorumFailed { success, .. } | Timeout { success, .. },
        ))) if !success.is_empty() => Ok(success.len()),
        Some(kad::QueryResult::PutRecord(Err(error))) => Err(NodeError::Query(error.to_string())),
        other => Err(NodeError::Query(format!("unexpected result {other:?}"))),
    }
}

impl<S: kad::store::RecordStore + Send + 'static> Drop for Node<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run<S: kad::store::RecordStore + Send + 'static>(
    mut swarm: Swarm<Behaviour<S>>,
    mut commands: mpsc::UnboundedReceiver<Command<S>>,
    opened: mpsc::UnboundedSender<PeerId>,
) {
    let mut queries: HashMap<kad::QueryId, Progress> = HashMap::new();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(Command::Run(task)) => task(&mut swarm),
                Some(Command::Query(start, progress)) => {
                    if let Some(id) = start(&mut swarm.behaviour_mut().kad) {
                        queries.insert(id, progress);
                    }
                }
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    let _ = opened.send(peer_id);
                }
                SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                    peer_id,
                    info,
                    ..
                })) => {
                    for address in info.listen_addrs {
                        swarm.behaviour_mut().kad.add_address(&peer_id, address);
                    }
                }
                SwarmEvent::Behaviour(BehaviourEvent::Kad(
                    kad::Event::OutboundQueryProgressed { id, result, step, .. },
                )) => {
                    if let Some(progress) = queries.get(&id) {
                        let _ = progress.send(result);
                    }
                    if step.last {
                        queries.remove(&id);
                    }
                }
                _ => {}
            },
        }
    }
}

/// Makes two nodes known to each other.
pub async fn connect<S, T>(a: &Node<S>, b: &Node<T>)
where
    S: kad::store::RecordStore + Send + 'static,
    T: kad::store::RecordStore + Send + 'static,
{
    a.add(b.peer(), b.address()).await.unwrap();
    b.add(a.peer(), a.address()).await.unwrap();
}
