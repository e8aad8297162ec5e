//! Asynchronous handle to a [`Behaviour`](crate::behaviour::Behaviour): publishes, keeps alive,
//! reads, watches and withdraws records.
//!
//! * *Lifetimes.* A document lives for the `ttl` it is published with, 48 hours at most
//!   ([`Limits::max_ttl`](smart_record_core::Limits::max_ttl)). [`Client::keep`] signs it anew
//!   before that, and [`Client::keep_value`] sends a value of another kind again.
//! * *Dropping.* Dropping a [`KeepHandle`] withdraws its document, dropping a [`KeepValueHandle`]
//!   stops sending its value. Dropping the last client and handle ends all watches and everything
//!   that was kept alive; what was published lives until it expires. All of this takes a swarm that
//!   is still polled. After a crash only the `ttl` ends a document.
//! * *Merging.* A published document merges with what the client's space says already:
//!   [`Client::publish`] has the table. [`Client::replace`] leaves nothing of it.
//! * *Costs, defaults, errors.* See the [crate documentation](crate#what-a-call-costs).
//!
//! **Invariants.** No call panics or hangs when the behaviour is gone: it fails with
//! [`ClientError::Stopped`]. A call waits while nobody polls the swarm. The number of waiting commands is bounded; a further call waits until
//! there is room. A call that is dropped is not begun or not continued, except for a write that is
//! signed or stored already.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

mod command;
mod error;
mod keep;
pub(crate) mod latest;
mod publication;
mod sharded;
mod watch;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, channel::mpsc, lock::Mutex};
use libp2p_identity::PeerId;
use tracing::Instrument;

pub(crate) use self::command::{Command, End, Ending, KeepId, Reply, Write};
pub use self::{
    error::ClientError,
    keep::{KeepHandle, KeepValueHandle},
    publication::{Publication, PublicationContent, PublishedUpdate},
    sharded::ShardedReading,
    watch::Watch,
};
use crate::{
    meter::{Meter, Timed},
    query::{ReadPolicy, Reading},
    store::{SmartRecordStore, StorageError, storage::RecordId},
};
use smart_record_core::{
    Dict, Namespace, RecordKey, Registry, SmartRecord, ValidationError, View, Writer,
};

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
    registry: Registry,
    meter: Meter,
    /// How many handles there have been.
    handles: AtomicU64,
}

impl Client {
    pub(crate) fn new(
        writer: Writer,
        registry: Registry,
        meter: Meter,
    ) -> (Self, mpsc::Receiver<Command>) {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let (commands, handles) = (Mutex::new(commands), AtomicU64::new(0));
        (Self { shared: Arc::new(Shared { commands, writer, registry, meter, handles }) }, inbox)
    }

    /// Who writes.
    pub fn writer(&self) -> &Writer {
        &self.shared.writer
    }

    /// The peer who writes, which is that of the behaviour.
    pub fn peer_id(&self) -> PeerId {
        self.shared.writer.peer_id()
    }

    /// Merges `document` into our space of the smart record `key`. It lives for `ttl`, 48 hours at most
    /// ([`Limits::max_ttl`](smart_record_core::Limits::max_ttl)); nodes in it may carry an earlier end of their own.
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
    /// When our space has more than 8 KiB
    /// ([`Limits::space_bytes`](smart_record_core::Limits::space_bytes)) or 64 updates
    /// ([`Limits::updates_per_space`](smart_record_core::Limits::updates_per_space)), its oldest
    /// updates go, with what only they say. This is no error.
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

    /// As [`publish`](Self::publish), and signed anew well before it expires, for as long as the handle lives, there is
    /// somebody who polls the swarm, and our space is not replaced or withdrawn. So `ttl` is for how long the document
    /// outlives a crash; it is 48 hours at most ([`Limits::max_ttl`](smart_record_core::Limits::max_ttl)).
    ///
    /// Dropping the handle withdraws the document. The handle changes it with [`KeepHandle::update`], however often, and
    /// lets go of it with [`KeepHandle::detach`].
    ///
    /// Each handle keeps a document of its own. Several under one key are merged into one space, and each lives for its own
    /// `ttl`. What is published or kept later over a part of a document takes that part's place, and is not withdrawn
    /// with it. The elements of a Set stay, a List is overwritten as a whole. Documents merge as those that are published:
    ///
    #[doc = smart_record_core::merge_table!()]
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn keep(
        &self,
        key: impl Into<RecordKey>,
        document: Dict,
        ttl: Duration,
    ) -> Result<KeepHandle, ClientError> {
        KeepHandle::new(self, key.into(), document, ttl).await
    }

    /// Withdraws all that our space says, also what is kept. Replicas retain the withdrawal until what it hides is gone:
    /// until the latest `retain_until` if that is known from a complete read, and otherwise for
    /// [`Limits::max_ttl`](smart_record_core::Limits::max_ttl), 48 hours. Until then it has a place in the record.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn withdraw(&self, key: impl Into<RecordKey>) -> Result<Publication, ClientError> {
        self.write(key.into(), Write::Withdraw).await
    }

    /// Puts a value that is complete as it is: a record of another kind, signed already, or one of somebody else's
    /// that is to be sent on. It is sent once; [`keep_value`](Self::keep_value) sends it again.
    ///
    /// Replicas keep it until it expires by its own word. One whose rules set no such bound they drop after
    /// [`StoreConfig::max_age`](crate::store::StoreConfig::max_age), 48 hours, unless it is sent again.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if our own store refuses it or no packet carries it
    /// ([`StoreConfig::chunk_bytes`](crate::store::StoreConfig::chunk_bytes)), and as [`publish`](Self::publish).
    pub async fn put(
        &self,
        key: impl Into<RecordKey>,
        value: impl Into<Bytes>,
    ) -> Result<Publication, ClientError> {
        self.put_by(key.into(), value.into(), None).await
    }

    /// Puts a value that is not a smart record, and sends the same bytes again once an
    /// [interval](crate::behaviour::BehaviourConfig::refresh_interval) and when new peers turn up: until it expires by its own
    /// word, something better is known, or the handle is dropped. One without an expiry is kept for as long as the handle
    /// lives, although replicas drop it 48 hours after it was sent last. Nothing is kept over a restart of this process: its
    /// owner has to call this again.
    ///
    /// What several handles keep under one key is put together as their namespace has it: the best, or all of them united.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`ClientError::Refused`] if it is a key of smart records, which their writers keep with
    /// [`keep`](Self::keep).
    pub async fn keep_value(
        &self,
        key: impl Into<RecordKey>,
        value: impl Into<Bytes>,
    ) -> Result<KeepValueHandle, ClientError> {
        KeepValueHandle::new(self, key.into(), value.into()).await
    }

    /// Asks who has got what was published: a read of all peers closest to the key.
    ///
    /// Of a record that is larger than one answer, a peer may have it without showing it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn confirm(&self, publication: &Publication) -> Result<Vec<PeerId>, ClientError> {
        let reading = self.get_with(publication.key.clone(), ReadPolicy::All).await?;
        Ok(publication.holders(&reading, self.writer()))
    }

    /// Reads a record, with the policy of the behaviour.
    ///
    /// If no peer is known, or none could be connected to, it comes to what this node has itself, perhaps nothing:
    /// see [`Reading::has_reached_anyone`].
    ///
    /// # Errors
    /// [`ClientError::Refused`] if nothing is registered for the key or it has not the form of its namespace's keys,
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

    /// What a smart record says now. Empty also if nobody was reached: [`get`](Self::get) tells the two apart.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`ClientError::Unregistered`] if it is not a key of smart records.
    pub async fn view(&self, key: impl Into<RecordKey>) -> Result<View, ClientError> {
        let key = key.into();
        self.check_space(&key)?;
        Ok(self.get(key).await?.view())
    }

    /// A stream of what is known of a record, beginning with what is known first, and then whenever it changes: at once
    /// when our own store learns of it or something expires, otherwise by a lookup every
    /// [`watch_interval`](crate::behaviour::BehaviourConfig::with_watch_interval), 15 seconds. All
    /// watches of one key share these lookups.
    ///
    /// It ends when the behaviour does, or with the last client.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if nothing is registered for the key or it has not the form of its namespace's keys, and
    /// [`ClientError::Stopped`].
    pub async fn watch(&self, key: impl Into<RecordKey>) -> Result<Watch, ClientError> {
        let key = key.into();
        self.check_key(&key)?;
        let (sender, receiver) = latest::channel();
        self.send(Command::Watch(key, sender)).await?;
        Ok(Watch::new(receiver))
    }

    /// What our own store holds of a smart record, without asking anybody: `None` if nothing, or if it is a record of another
    /// kind. A replica may know less than the network does, and one that is not a replica of the key may know nothing.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if nothing is registered for the key or it has not the form of its namespace's keys,
    /// [`ClientError::Storage`] and [`ClientError::Stopped`].
    pub async fn stored(
        &self,
        key: impl Into<RecordKey>,
    ) -> Result<Option<SmartRecord>, ClientError> {
        let key = key.into();
        self.check_key(&key)?;
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
        self.check_key(&key)?;
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
        self.check_key(&key)?;
        let span = tracing::debug_span!("get", %key);
        let ask = self.ask(|reply| Command::Read(key, policy, reply));
        ask.instrument(span).await
    }

    /// Checks that something may stand under a key.
    fn check_key(&self, key: &RecordKey) -> Result<(), ClientError> {
        Ok(self.shared.registry.check_key(key)?)
    }

    /// Checks that there are spaces under a key.
    fn check_space(&self, key: &RecordKey) -> Result<(), ClientError> {
        match self.shared.registry.resolve(key) {
            Ok(Namespace::Spaces(rules)) => Ok(rules.check_key(key)?),
            _ => Err(ClientError::Unregistered(key.clone())),
        }
    }

    /// Checks that there is a value under a key, and not spaces.
    fn check_value(&self, key: &RecordKey) -> Result<(), ClientError> {
        match self.shared.registry.resolve(key)? {
            Namespace::Value(validator) => Ok(validator.check_key(key)?),
            Namespace::Spaces(_) => {
                let reason =
                    format!("{key} is a key of smart records, which are kept by their writers");
                Err(ValidationError::Unsupported(reason).into())
            }
        }
    }

    fn next_keep_id(&self) -> KeepId {
        KeepId(self.shared.handles.fetch_add(1, Ordering::Relaxed))
    }

    async fn write(&self, key: RecordKey, write: Write) -> Result<Publication, ClientError> {
        let span = tracing::debug_span!("write", %key, kind = write.as_str());
        let checked = self.check_space(&key);
        let command = |reply| Command::Write(key, write, reply);
        self.publish_by(checked, command).instrument(span).await
    }

    async fn put_by(
        &self,
        key: RecordKey,
        value: Bytes,
        keeper: Option<KeepId>,
    ) -> Result<Publication, ClientError> {
        let span = tracing::debug_span!("put", %key, bytes = value.len());
        let checked = self.check_key(&key);
        let command = |reply| Command::Put(key, value, keeper, reply);
        self.publish_by(checked, command).instrument(span).await
    }

    /// Asks for a write under a key that is good, and says how it went and how long it took.
    async fn publish_by(
        &self,
        checked: Result<(), ClientError>,
        command: impl FnOnce(Reply<Publication>) -> Command,
    ) -> Result<Publication, ClientError> {
        let meter = &self.shared.meter;
        let begun = meter.begin();
        let published = match checked {
            Ok(()) => self.ask(command).await,
            Err(error) => Err(error),
        };
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
