//! Asynchronous handle to a [`Behaviour`](crate::behaviour::Behaviour): publishes, keeps alive,
//! reads, watches and withdraws records.
//!
//! * *Lifetimes.* A document lives for the `ttl` it is published with, 48 hours at most
//!   ([`Limits::max_ttl`](smart_record_core::Limits::max_ttl)). [`Client::keep`] signs it anew
//!   before it expires. [`Client::keep_value`] sends a value of another kind again.
//! * *Dropping.* Dropping a [`KeepHandle`] withdraws its document. Dropping a [`KeepValueHandle`]
//!   stops sending its value. Dropping the last client and handle ends all watches and stops
//!   keeping anything alive; published records live until they expire. All of this needs a swarm
//!   that is still polled. After a crash only the `ttl` ends a document.
//! * *Merging.* A published document merges with the current content of the client's space: see the
//!   table at [`Client::publish`]. [`Client::replace`] discards that content.
//! * *Costs, defaults, errors.* See the [crate documentation](crate#what-a-call-costs).
//!
//! **Invariants.** No call panics or hangs when the behaviour is gone: it fails with
//! [`ClientError::Stopped`]; nor when nobody polls the swarm: it fails with
//! [`ClientError::NotPolled`]. The queue of commands is bounded; a call waits until there is room.
//! Dropping a call cancels it, except for a write that is already signed or stored.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

mod command;
mod error;
mod keep;
pub(crate) mod latest;
mod progress;
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

pub(crate) use self::{
    command::{Command, End, Ending, KeepId, Reply, Write},
    progress::{ProgressReceiver, ProgressSender},
};
pub use self::{
    error::ClientError,
    keep::{KeepHandle, KeepValueHandle},
    progress::{Progress, ReplicaState},
    publication::{Publication, PublicationContent, PublishedUpdate},
    sharded::ShardedReading,
    watch::{Readings, Watch},
};
use crate::{
    meter::{Meter, Timed},
    pulse::Pulse,
    query::{ReadOptions, ReadPolicy, Reading, RefusedAnswers},
    store::{SmartRecordStore, StorageError, storage::RecordId},
};
use smart_record_core::{
    Dict, Namespace, RecordKey, Registry, SmartRecord, Stamp, ValidationError, View, Writer,
};

/// Maximum number of queued commands; further calls wait. A guess.
const QUEUE: usize = 64;

/// Writes, reads and watches records through a [`Behaviour`](crate::behaviour::Behaviour). Clones
/// share one connection to the behaviour.
///
/// When the last clone is dropped, the behaviour stops keeping its records alive, and all watches
/// end.
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
    shared: Arc<ClientInner>,
}

struct ClientInner {
    // One shared sender: each clone of a sender would add a slot to the queue.
    commands: Mutex<mpsc::Sender<Command>>,
    writer: Writer,
    registry: Registry,
    meter: Meter,
    pulse: Pulse,
    /// Number of handles created so far.
    handles: AtomicU64,
}

impl Client {
    pub(crate) fn new(
        writer: Writer,
        registry: Registry,
        meter: Meter,
        pulse: Pulse,
    ) -> (Self, mpsc::Receiver<Command>) {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let (commands, handles) = (Mutex::new(commands), AtomicU64::new(0));
        let shared = ClientInner { commands, writer, registry, meter, pulse, handles };
        (Self { shared: Arc::new(shared) }, inbox)
    }

    /// The writer of this client's updates.
    pub fn writer(&self) -> &Writer {
        &self.shared.writer
    }

    /// The peer id of the writer, which is that of the behaviour.
    pub fn peer_id(&self) -> PeerId {
        self.shared.writer.peer_id()
    }

    /// Merges `document` into the client's own space of the smart record `key`. It lives for `ttl`,
    /// 48 hours at most ([`Limits::max_ttl`](smart_record_core::Limits::max_ttl)); nodes in it may
    /// carry an earlier expiry of their own.
    ///
    /// Sends the whole space, so peers that missed an earlier update get it too. The space is sent
    /// again once per interval and when new peers appear, until it expires.
    ///
    /// Returns when [enough](crate::query::WritePolicy) of the closest peers have acknowledged it,
    /// or ten seconds after the call
    /// ([`write_deadline`](crate::behaviour::BehaviourConfig::write_deadline)) with those that
    /// have; the read before a first write is part of that. The rest continues in the background:
    /// see [`Publication::progress`].
    ///
    /// The current content of the space and `document` merge:
    ///
    #[doc = smart_record_core::merge_table!()]
    ///
    /// [`replace`](Self::replace) discards the current content instead.
    ///
    /// A space holds 8 KiB ([`Limits::space_bytes`](smart_record_core::Limits::space_bytes)) and 64
    /// updates ([`Limits::updates_per_space`](smart_record_core::Limits::updates_per_space)). If it
    /// has no room for one more update, it is replaced with its content and `document`, in as few
    /// updates as possible. So no content is lost: content that does not fit is refused.
    ///
    /// # Errors
    /// [`ClientError`]. [`ClientError::Sign`] with
    /// [`Limit::SPACE_BYTES`](smart_record_core::Limit::SPACE_BYTES) if the space has no room for
    /// its content and `document`; nothing is changed. If no other peer has acknowledged the
    /// update, the error is [`ClientError::NotAcknowledged`] and carries the publication.
    pub async fn publish(
        &self,
        key: impl Into<RecordKey>,
        document: Dict,
        ttl: Duration,
    ) -> Result<Publication, ClientError> {
        self.write(key.into(), Write::Merge(document, ttl)).await
    }

    /// Replaces the whole content of the client's own space with `document`.
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

    /// Publishes as [`publish`](Self::publish) does and signs the document anew well before it
    /// expires, as long as the handle lives, the swarm is polled, and the space is not replaced or
    /// withdrawn. So `ttl` is how long the document outlives a crash; it is 48 hours at most
    /// ([`Limits::max_ttl`](smart_record_core::Limits::max_ttl)).
    ///
    /// Dropping the handle withdraws the document. So `let _ = client.keep(…).await?` withdraws it
    /// at once; `let _kept = …` keeps it. [`KeepHandle::update`] and [`KeepHandle::replace`] change
    /// the document any number of times. [`KeepHandle::detach`] ends the handle without withdrawing
    /// the document.
    ///
    /// Each handle keeps its own document. Several documents under one key are merged into one
    /// space, and each lives for its own `ttl`. A later publication that overwrites a part of a
    /// document replaces that part, and is not withdrawn with the document. The elements of a Set
    /// stay; a List is overwritten as a whole. Documents merge as published ones do:
    ///
    #[doc = smart_record_core::merge_table!()]
    ///
    /// # Errors
    /// As [`publish`](Self::publish); that no other peer has acknowledged it is no error.
    pub async fn keep(
        &self,
        key: impl Into<RecordKey>,
        document: Dict,
        ttl: Duration,
    ) -> Result<KeepHandle, ClientError> {
        KeepHandle::new(self, key.into(), document, ttl).await
    }

    /// Withdraws the whole content of the client's own space, including kept documents. Replicas
    /// retain the withdrawal until everything that it hides has expired: until the latest
    /// `retain_until` if a complete read has found that, otherwise for
    /// [`Limits::max_ttl`](smart_record_core::Limits::max_ttl), 48 hours. Until then it takes one
    /// of the slots that a record has for withdrawn spaces.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn withdraw(&self, key: impl Into<RecordKey>) -> Result<Publication, ClientError> {
        self.write(key.into(), Write::Withdraw).await
    }

    /// Sets the stamp of the client's own space under `key`: it is added to all updates that are
    /// signed from now on and for which it is good, kept documents included. It is good for the
    /// updates of one day, in UTC, so a client that wants to stay on a crowded board sets a new one
    /// each day. It can find that before and set it early: the stamp that was set before is kept,
    /// and used while it is the better one. If the stamp gives more work to what is signed now,
    /// kept documents are signed anew at once. `None`: no more updates have one.
    ///
    /// A stamp that is good neither today nor tomorrow, or is of another key or writer, is ignored.
    /// Where a namespace demands work ([`MinWork`](smart_record_core::MinWork)) and the stamps give
    /// less, writes are refused, and kept documents are not signed anew until a better stamp is
    /// set: [`Event::NotRenewed`](crate::behaviour::Event::NotRenewed) says so.
    ///
    /// Finding a stamp takes the time that it is to prove, so it is left to the application: on a
    /// thread of its own, in steps, for as long as it likes.
    ///
    /// ```no_run
    /// use libp2p_smart_record::{Clock, RecordKey, Seq, StampSearch, SystemClock};
    /// # async fn example(
    /// #     client: libp2p_smart_record::client::Client,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    ///
    /// let key = RecordKey::new("/sr/rooms/lobby");
    /// let seq = Seq::next(None, SystemClock.now());
    /// let mut search = StampSearch::new(client.writer().rank(&key), seq, 20);
    /// let stamp = loop {
    ///     if let Some(stamp) = search.step(10_000) {
    ///         break stamp;
    ///     }
    ///     println!("{} of some {} hashes", search.tried(), search.expected());
    /// };
    /// client.set_stamp(key, Some(stamp)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::NotSmart`] if the key is of another namespace, [`ClientError::Stopped`] and
    /// [`ClientError::NotPolled`].
    pub async fn set_stamp(
        &self,
        key: impl Into<RecordKey>,
        stamp: Option<Stamp>,
    ) -> Result<(), ClientError> {
        let key = key.into();
        self.check_space(&key)?;
        self.ask(|reply| Command::Stamp(key, stamp, reply)).await
    }

    /// Puts a complete value: a signed record of another kind, or another writer's record to be
    /// forwarded. It is sent until a peer has acknowledged it; [`keep_value`](Self::keep_value)
    /// sends it again after that.
    ///
    /// Replicas keep it until its own expiry. They drop a value without an expiry
    /// [`StoreConfig::max_age`](crate::store::StoreConfig::max_age), 48 hours, after it was last
    /// sent.
    ///
    /// The key of a value is read before it is sent, and a value that combines with what is found
    /// is sent with it. The key of a smart record is read unless it was read within a minute.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the local store refuses it, something better is found
    /// ([`ValidationError::Stale`]), or it does not fit into one packet
    /// ([`StoreConfig::chunk_bytes`](crate::store::StoreConfig::chunk_bytes)), and as
    /// [`publish`](Self::publish).
    pub async fn put(
        &self,
        key: impl Into<RecordKey>,
        value: impl Into<Bytes>,
    ) -> Result<Publication, ClientError> {
        self.put_by(key.into(), value.into(), None).await
    }

    /// Puts a value that is not a smart record. Sends it again once per
    /// [interval](crate::behaviour::BehaviourConfig::refresh_interval) and when new peers appear,
    /// with what has been found that it combines with, until the value expires, a better one is
    /// found, or the handle is dropped. The key is read before each time. A value without an
    /// expiry is sent as long as the handle lives; replicas drop it 48 hours after it was last
    /// sent. Nothing survives a restart of this process: the application has to call this again.
    ///
    /// Values of several handles under one key are combined by the rules of their namespace: into
    /// the best one, or the union of all.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`ClientError::Refused`] for a key of smart records, whose
    /// writers use [`keep`](Self::keep). It is no error if no other peer acknowledges the value.
    pub async fn keep_value(
        &self,
        key: impl Into<RecordKey>,
        value: impl Into<Bytes>,
    ) -> Result<KeepValueHandle, ClientError> {
        KeepValueHandle::new(self, key.into(), value.into()).await
    }

    /// Returns the peers that hold what was published. Reads from all peers closest to the key.
    ///
    /// A peer that holds a record larger than one answer may not show all of it, and is then not
    /// listed. There is at least one, unless the read was not [complete](Reading::is_complete).
    ///
    /// # Errors
    /// [`ClientError::Refused`] with [`ValidationError::Stale`] if something newer has taken its
    /// place, [`ClientError::AnswersRefused`] if no answer was valid, [`ClientError::NotKept`] if
    /// no peer that answered holds it, and as [`get`](Self::get).
    pub async fn confirm(&self, publication: &Publication) -> Result<Vec<PeerId>, ClientError> {
        let reading = self.get_with(publication.key.clone(), ReadPolicy::All).await?;
        let is_complete = reading.is_complete();
        let holders = publication.holders(&reading, self.writer());
        if !holders.is_empty() {
            return Ok(holders);
        }
        if publication.is_superseded(&reading, self.writer()) {
            return Err(ValidationError::Stale.into());
        }
        if reading.holders.is_empty() {
            // What this node holds itself is not what is asked for.
            let refused = RefusedAnswers::decisive(reading.refused, reading.empty.len());
            refused.map_or(Ok(()), Err)?;
            if reading.empty.is_empty() {
                return Err(match reading.silent.is_empty() {
                    true => ClientError::Unreachable,
                    false => ClientError::TimedOut,
                });
            }
        }
        if is_complete { Err(ClientError::NotKept) } else { Ok(Vec::new()) }
    }

    /// Reads a record with the default policy of the behaviour.
    ///
    /// A node that is alone, with no peer in its routing table, returns what it holds itself,
    /// possibly nothing. So does a node that reaches none of its peers, if it holds something: see
    /// [`Reading::has_reached_anyone`]. If it holds nothing, that is an error, because nobody has
    /// said that there is nothing.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the key has no registered namespace or is not a valid key of its
    /// namespace, [`ClientError::TimedOut`] if no peer answered in time and this node has no
    /// copy, [`ClientError::Unreachable`] if peers are known, none was reached and this node holds
    /// nothing, [`ClientError::AnswersRefused`] if nothing valid was found and not more peers have
    /// said that there is nothing than gave answers that were refused, and
    /// [`ClientError::Stopped`] and [`ClientError::NotPolled`]. A result has the answers that were
    /// [refused](Reading::refused).
    pub async fn get(&self, key: impl Into<RecordKey>) -> Result<Reading, ClientError> {
        self.get_with(key, ReadOptions::default()).await
    }

    /// Reads a record with the given policy and deadline.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_with(
        &self,
        key: impl Into<RecordKey>,
        options: impl Into<ReadOptions>,
    ) -> Result<Reading, ClientError> {
        let (key, options) = (key.into(), options.into());
        self.check_key(&key)?;
        let span = tracing::debug_span!("get", %key);
        let ask = self.ask(|reply| Command::Read(key, options, reply));
        ask.instrument(span).await
    }

    /// Returns a stream of ever better readings of a record: one whenever an answer brings
    /// something new, and at last the settled one, which [`get`](Self::get) returns. A slow
    /// consumer misses intermediate readings. An empty reading says that there is nothing only if
    /// it [has reached anyone](Reading::has_reached_anyone) and no [refusal](Reading::refusal) is
    /// the reason.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the key has no registered namespace or is not a valid key of its
    /// namespace, and [`ClientError::Stopped`].
    pub async fn read(
        &self,
        key: impl Into<RecordKey>,
        options: impl Into<ReadOptions>,
    ) -> Result<Readings, ClientError> {
        let key = key.into();
        self.check_key(&key)?;
        let (sender, receiver) = latest::channel();
        self.send(Command::Stream(key, options.into(), sender)).await?;
        Ok(Readings::new(receiver, self.shared.pulse.clone()))
    }

    /// Returns the current view of a smart record. It is empty only if peers said so, or if this
    /// node is alone: see [`get`](Self::get).
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`ClientError::NotSmart`] if the key holds values.
    pub async fn view(&self, key: impl Into<RecordKey>) -> Result<View, ClientError> {
        let key = key.into();
        self.check_space(&key)?;
        Ok(self.get(key).await?.view())
    }

    /// Returns a stream of snapshots of a record: the current one first, then one for each change.
    /// Changes in the local store and expiries show at once; other changes show at the next lookup,
    /// as its answers arrive. A key is looked up every
    /// [`watch_interval`](crate::behaviour::BehaviourConfig::with_watch_interval), two seconds,
    /// while there was news within a minute; without news the interval doubles up to 30 seconds.
    /// All watches of one key share these lookups.
    ///
    /// Neither silence nor a refused answer is taken for absence: that there is nothing is shown
    /// only once a peer has said so, or if this node is alone. What is known is shown until it
    /// expires.
    ///
    /// The stream ends with the behaviour or with the last client, or if nobody polls the swarm
    /// ([`Watch::error`]).
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the key has no registered namespace or is not a valid key of its
    /// namespace, and [`ClientError::Stopped`].
    pub async fn watch(&self, key: impl Into<RecordKey>) -> Result<Watch, ClientError> {
        let key = key.into();
        self.check_key(&key)?;
        let (sender, receiver) = latest::channel();
        self.send(Command::Watch(key, sender)).await?;
        Ok(Watch::new(receiver, self.shared.pulse.clone()))
    }

    /// Returns what the local store holds of a smart record, without any network traffic: `None` if
    /// nothing, or if it is a record of another kind. A replica may know less than the network
    /// does; a node that is no replica of the key may know nothing.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the key has no registered namespace or is not a valid key of its
    /// namespace, [`ClientError::Storage`] and [`ClientError::Stopped`].
    pub async fn stored(
        &self,
        key: impl Into<RecordKey>,
    ) -> Result<Option<SmartRecord>, ClientError> {
        let key = key.into();
        self.check_key(&key)?;
        self.look(move |store| store.record(&key)).await
    }

    /// Returns what the local store holds of one writer's space, without any network traffic. It
    /// may hold the space of a protected writer, such as the client, beside a record that has no
    /// room for it: see [`StoreConfig::with_protected`](crate::store::StoreConfig::with_protected).
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

    /// Returns the next record of the local store after `after`, or the first. Iterates over all
    /// records once, in the order of distance from this node.
    pub async fn next_stored(
        &self,
        after: Option<RecordId>,
    ) -> Result<Option<(RecordId, RecordKey)>, ClientError> {
        self.look(move |store| store.next_record(after)).await
    }

    /// Waits until no operation of clients is under way any more, background work included: writes
    /// that are being sent, and reads that wait for late answers. Each has a deadline, so this
    /// takes at most some 40 seconds, unless further operations begin. It does not wait for what is
    /// kept alive.
    ///
    /// # Errors
    /// [`ClientError::Stopped`] and [`ClientError::NotPolled`].
    pub async fn close(&self) -> Result<(), ClientError> {
        self.ask(Command::Close).await
    }

    /// Returns a weak handle, which does not keep the behaviour's records alive.
    pub fn downgrade(&self) -> WeakClient {
        WeakClient(Arc::downgrade(&self.shared))
    }

    /// Checks that the key is a valid key of a registered namespace.
    fn check_key(&self, key: &RecordKey) -> Result<(), ClientError> {
        Ok(self.shared.registry.check_key(key)?)
    }

    /// Checks that the key is a key of smart records.
    fn check_space(&self, key: &RecordKey) -> Result<(), ClientError> {
        match self.shared.registry.resolve(key)? {
            Namespace::Spaces(rules) => Ok(rules.check_key(key)?),
            Namespace::Value(_) => Err(ClientError::NotSmart(key.clone())),
        }
    }

    /// Checks that the key belongs to a namespace of values.
    fn check_value(&self, key: &RecordKey) -> Result<(), ClientError> {
        match self.shared.registry.resolve(key)? {
            Namespace::Value(validator) => Ok(validator.check_key(key)?),
            Namespace::Spaces(_) => {
                let reason =
                    format!("{key} is a key of smart records, which their writers keep alive");
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

    /// Sends a write command if the check of its key passed. Records and logs the outcome.
    async fn publish_by(
        &self,
        checked: Result<(), ClientError>,
        command: impl FnOnce(Reply<Publication>) -> Command,
    ) -> Result<Publication, ClientError> {
        let meter = &self.shared.meter;
        let begun = meter.begin();
        let mut published = match checked {
            Ok(()) => self.ask(command).await,
            Err(error) => Err(error),
        };
        match &mut published {
            Ok(publication) => publication.receiver.wait_with(&self.shared.pulse),
            Err(ClientError::NotAcknowledged(publication)) => {
                publication.receiver.wait_with(&self.shared.pulse);
            }
            Err(_) => {}
        }
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
        self.ask(|reply| Command::WithStore(Box::new(look(reply)))).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, ClientError> {
        let (reply, answer) = Reply::new();
        self.send(command(reply)).await?;
        self.shared.pulse.wait_for(answer).await?.map_err(|_| ClientError::Stopped)?
    }

    async fn send(&self, command: Command) -> Result<(), ClientError> {
        let send = async {
            let mut commands = self.shared.commands.lock().await;
            commands.send(command).await.map_err(|_| ClientError::Stopped)
        };
        self.shared.pulse.wait_for(send).await?
    }
}

/// Weak handle to a [`Client`].
#[derive(Clone, Debug)]
pub struct WeakClient(Weak<ClientInner>);

impl WeakClient {
    /// Returns a client, if another one still exists.
    pub fn upgrade(&self) -> Option<Client> {
        self.0.upgrade().map(|shared| Client { shared })
    }
}

smart_record_core::impl_debug! { Client: |client| writer: client.shared.writer }
