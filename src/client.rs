//! What an app has of the DHT: an asynchronous handle on a [`Behaviour`](crate::behaviour::Behaviour).
//!
//! **Invariants.** No call panics or hangs when the behaviour is gone: it fails with [`ClientError::Stopped`]. Commands
//! that wait are bounded in number; whoever has one more waits with it. A call that is dropped is no longer worked on, or
//! not begun at all, except for a write once it was signed or stored.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

mod command;
mod error;
pub(crate) mod latest;
mod sharded;
mod watch;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, channel::mpsc, lock::Mutex};
use libp2p_identity::PeerId;
use tracing::Instrument;

pub(crate) use self::command::{Command, Reply, Write};
pub use self::{error::ClientError, sharded::ShardedReading, watch::Watch};
use crate::{
    meter::{Meter, Timed},
    query::{ReadPolicy, Reading},
    store::{SmartRecordStore, StorageError, storage::RecordId},
};
use smart_record_core::{Dict, Position, RecordKey, Seq, SmartRecord, Timestamp, View, Writer};

/// How many commands wait; whoever has one more waits with it. A guess.
const QUEUE: usize = 64;

/// Writes, reads and watches records through a [`Behaviour`](crate::behaviour::Behaviour). A clone is the same client.
///
/// When the last one is dropped, the behaviour stops to keep alive what it has written, and its watches end.
///
/// ```no_run
/// use std::time::Duration;
/// use libp2p_smart_record::client::{Client, ClientError};
///
/// # async fn run(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let hour = Duration::from_secs(3_600);
/// let publication = client.publish("/sr/rooms/lobby", r#"{"name": "ada"}"#.parse()?, hour).await?;
/// println!("{} peers took it", publication.peers.len());
/// for (writer, space) in &client.view("/sr/rooms/lobby").await? {
///     println!("{writer} says {}", space.document);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    // One sender for all: each clone of one would add a place to the queue.
    commands: Mutex<mpsc::Sender<Command>>,
    writer: Writer,
    meter: Meter,
}

/// A write that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// Of the record.
    pub key: RecordKey,
    /// The update, if it is one of a smart record.
    pub update: Option<PublishedUpdate>,
    /// The value, if it is not a smart record.
    pub value: Option<Bytes>,
    /// The other peers that took all of it. Whether they keep it nobody knows: a replica that refuses a record
    /// does not say so. [`Client::confirm`] asks.
    pub peers: Vec<PeerId>,
    /// In how many pieces it was sent.
    pub chunks: usize,
}

/// An update that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishedUpdate {
    /// Where it stands in its space.
    pub position: Position,
    /// When its document expires.
    pub expires_at: Timestamp,
}

impl PublishedUpdate {
    /// The writer's clock.
    pub const fn seq(&self) -> Seq {
        self.position.seq
    }
}

impl Client {
    pub(crate) fn new(writer: Writer, meter: Meter) -> (Self, mpsc::Receiver<Command>) {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared { commands: Mutex::new(commands), writer, meter });
        (Self { shared }, inbox)
    }

    /// Who writes.
    pub fn writer(&self) -> &Writer {
        &self.shared.writer
    }

    /// The peer who writes, which is that of the behaviour.
    pub fn peer_id(&self) -> PeerId {
        self.shared.writer.peer_id()
    }

    /// Merges `document` into our space of the smart record `key`. It lives for `ttl`; nodes in it may carry an earlier
    /// end of their own.
    ///
    /// The whole space goes out, so whoever has missed an earlier update gets it with this one. It is sent again
    /// once an interval and when new peers turn up, until it expires.
    ///
    /// What our space says already and `document` merge:
    ///
    #[doc = smart_record_core::merge_table!()]
    ///
    /// [`replace`](Self::replace) leaves nothing of what was there.
    ///
    /// # Errors
    /// [`ClientError`]. That no other peer was there to take it is no error: see [`Publication::peers`].
    pub async fn publish(
        &self,
        key: impl Into<RecordKey>,
        document: Dict,
        ttl: Duration,
    ) -> Result<Publication, ClientError> {
        self.write(key.into(), Write::Merge(document, ttl)).await
    }

    /// Puts `document` in the place of all that our space says.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn replace(
        &self,
        key: impl Into<RecordKey>,
        document: Dict,
        ttl: Duration,
    ) -> Result<Publication, ClientError> {
        self.write(key.into(), Write::Replace(document, ttl)).await
    }

    /// As [`publish`](Self::publish), and signed anew well before it expires, for as long as there is a client and our
    /// space is not replaced or withdrawn. So `ttl` is for how long it outlives us.
    ///
    /// What is kept under one key is one document: `document` is merged into it, and all of it has the longest `ttl` that any of
    /// it was given. What is later published over a part of it takes that part's place and is not kept: the elements of a Set
    /// stay, a List is overwritten as a whole. Documents merge as those that are published:
    ///
    #[doc = smart_record_core::merge_table!()]
    ///
    /// # Errors
    /// As [`publish`](Self::publish); what is kept under a key has to fit into one update
    /// ([`Limits::update_bytes`](smart_record_core::Limits::update_bytes)).
    pub async fn keep(
        &self,
        key: impl Into<RecordKey>,
        document: Dict,
        ttl: Duration,
    ) -> Result<Publication, ClientError> {
        self.write(key.into(), Write::Keep(document, ttl)).await
    }

    /// Withdraws all that our space says, also what is kept.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn withdraw(&self, key: impl Into<RecordKey>) -> Result<Publication, ClientError> {
        self.write(key.into(), Write::Withdraw).await
    }

    /// Puts a value that is complete as it is: a record of another kind, signed already, or one of somebody else's
    /// that is to be sent on. It is not kept alive.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if our own store refuses it or no packet carries it
    /// ([`StoreConfig::chunk_bytes`](crate::store::StoreConfig::chunk_bytes)), and as [`publish`](Self::publish).
    pub async fn put(
        &self,
        key: impl Into<RecordKey>,
        value: impl Into<Bytes>,
    ) -> Result<Publication, ClientError> {
        let (key, value) = (key.into(), value.into());
        let span = tracing::debug_span!("put", %key, bytes = value.len());
        self.publish_by(|reply| Command::Put(key, value, reply)).instrument(span).await
    }

    /// Asks who has got what was published: a read of all peers closest to the key.
    ///
    /// Of a record that is larger than one answer, a peer may have it without showing it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn confirm(&self, publication: &Publication) -> Result<Vec<PeerId>, ClientError> {
        let reading = self.get_with(publication.key.clone(), ReadPolicy::All).await?;
        Ok(match (&publication.update, &publication.value) {
            (Some(update), _) => reading.holders_of(self.writer(), update.position),
            (None, Some(value)) => reading.holders_of_value(value),
            (None, None) => Vec::new(),
        })
    }

    /// Reads a record, with the policy of the behaviour.
    ///
    /// If no peer is known, or none could be connected to, it comes to what this node has itself, perhaps nothing:
    /// see [`Reading::has_reached_anyone`].
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] if nobody answered in time, and [`ClientError::Stopped`].
    pub async fn get(&self, key: impl Into<RecordKey>) -> Result<Reading, ClientError> {
        self.read(key.into(), None).await
    }

    /// Reads a record.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_with(
        &self,
        key: impl Into<RecordKey>,
        policy: ReadPolicy,
    ) -> Result<Reading, ClientError> {
        self.read(key.into(), Some(policy)).await
    }

    /// What a smart record says now.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn view(&self, key: impl Into<RecordKey>) -> Result<View, ClientError> {
        Ok(self.get(key).await?.view())
    }

    /// A stream of what is known of a record, beginning with what is known first, and then whenever it changes: at once
    /// when our own store learns of it or something expires, by looking it up now and then otherwise. All
    /// watches of one key share these lookups.
    ///
    /// It ends when the behaviour does, or with the last client.
    ///
    /// # Errors
    /// [`ClientError::Stopped`].
    pub async fn watch(&self, key: impl Into<RecordKey>) -> Result<Watch, ClientError> {
        let (sender, receiver) = latest::channel();
        self.send(Command::Watch(key.into(), sender)).await?;
        Ok(Watch::new(receiver))
    }

    /// What our own store holds of a smart record, without asking anybody: `None` if nothing, or if it is a record of another
    /// kind. A replica may know less than the network does, and one that is not a replica of the key may know nothing.
    ///
    /// # Errors
    /// [`ClientError::Storage`] and [`ClientError::Stopped`].
    pub async fn stored(
        &self,
        key: impl Into<RecordKey>,
    ) -> Result<Option<SmartRecord>, ClientError> {
        let key = key.into();
        self.look(move |store| store.record(&key)).await
    }

    /// What our own store holds of one writer's space, without asking anybody. It may hold the space of a protected writer, ours
    /// for instance, beside a record that has no place for it: see
    /// [`StoreConfig::with_protected`](crate::store::StoreConfig::with_protected).
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub async fn stored_of(
        &self,
        key: impl Into<RecordKey>,
        writer: PeerId,
    ) -> Result<Option<SmartRecord>, ClientError> {
        let key = key.into();
        self.look(move |store| store.record_of(&key, [&writer])).await
    }

    /// The record in our own store after this one, or the first; each comes once in the order of distance from us.
    pub async fn next_stored(
        &self,
        after: Option<RecordId>,
    ) -> Result<Option<(RecordId, RecordKey)>, ClientError> {
        self.look(move |store| store.next_record(after)).await
    }

    /// One that does not keep the behaviour's spaces alive.
    pub fn downgrade(&self) -> WeakClient {
        WeakClient(Arc::downgrade(&self.shared))
    }

    async fn read(
        &self,
        key: RecordKey,
        policy: Option<ReadPolicy>,
    ) -> Result<Reading, ClientError> {
        let span = tracing::debug_span!("get", %key);
        let ask = self.ask(|reply| Command::Read(key, policy, reply));
        ask.instrument(span).await
    }

    async fn write(&self, key: RecordKey, write: Write) -> Result<Publication, ClientError> {
        let span = tracing::debug_span!("write", %key, kind = write.as_str());
        self.publish_by(|reply| Command::Write(key, write, reply)).instrument(span).await
    }

    /// Asks for a write, and says how it went and how long it took.
    async fn publish_by(
        &self,
        command: impl FnOnce(Reply<Publication>) -> Command,
    ) -> Result<Publication, ClientError> {
        let meter = &self.shared.meter;
        let begun = meter.begin();
        let published = self.ask(command).await;
        meter.end(Timed::Publish { is_done: published.is_ok() }, begun);
        match &published {
            Ok(Publication { peers, chunks, .. }) => {
                tracing::debug!(peers = peers.len(), chunks, "published");
            }
            Err(error) => tracing::debug!(%error, "not published"),
        }
        published
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut SmartRecordStore) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let look = |reply: Reply<T>| {
            move |store: &mut SmartRecordStore| {
                if !reply.is_gone() {
                    reply.send(look(store).map_err(ClientError::from));
                }
            }
        };
        self.ask(|reply| Command::Look(Box::new(look(reply)))).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, ClientError> {
        let (reply, answer) = Reply::new();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| ClientError::Stopped)?
    }

    async fn send(&self, command: Command) -> Result<(), ClientError> {
        let mut commands = self.shared.commands.lock().await;
        commands.send(command).await.map_err(|_| ClientError::Stopped)
    }
}

/// A client that goes with the last [`Client`].
#[derive(Clone, Debug)]
pub struct WeakClient(Weak<Shared>);

impl WeakClient {
    /// The client, if there is still another.
    pub fn upgrade(&self) -> Option<Client> {
        self.0.upgrade().map(|shared| Client { shared })
    }
}

smart_record_core::impl_debug! { Client: |client| writer: client.shared.writer }
