//! Handles to what a client keeps alive.
//!
//! **Invariants.** Dropping a handle neither waits nor blocks, and is not lost: each handle has a channel of its own, which
//! tells the behaviour of its end, so no queue can be full. There are as many such channels as handles.

use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;

use super::{
    Client, ClientError, Publication,
    command::{Command, Ending, KeepId, Write},
};
use smart_record_core::{Dict, RecordKey};

/// What both kinds of handles have.
#[derive(Debug)]
struct Keep {
    key: RecordKey,
    id: KeepId,
    // Dropped before the client: when the last client is gone, the end of every handle is known.
    end: oneshot::Sender<()>,
    client: Client,
}

impl Keep {
    /// Tells the behaviour of a new handle.
    async fn begin(client: &Client, key: RecordKey) -> Result<Self, ClientError> {
        let (end, receiver) = oneshot::channel();
        let id = client.next_keep_id();
        let ending = Ending { key: key.clone(), id, end: receiver };
        client.send(Command::Handle(ending)).await?;
        Ok(Self { key, id, end, client: client.clone() })
    }

    fn detach(self) {
        // If nobody hears of it, nothing is kept any more.
        let _ = self.end.send(());
    }
}

/// Keeps a document in our own space of a smart record: see [`Client::keep`].
///
/// Dropping it withdraws the document, as far as the swarm is still polled; nobody waits for that, and a failure is
/// logged. [`withdraw`](Self::withdraw) waits and tells. After a crash, or when the swarm is polled no more, the document
/// lives until its `ttl` is over. [`detach`](Self::detach) lets go of it without an end.
///
/// A handle is a [`Client`] too: as long as there is one, the behaviour keeps alive what was written.
#[derive(Debug)]
#[must_use = "what is kept is withdrawn when this is dropped"]
pub struct KeepHandle {
    keep: Keep,
    ttl: Duration,
    publication: Publication,
}

impl KeepHandle {
    pub(super) async fn new(
        client: &Client,
        key: RecordKey,
        document: Dict,
        ttl: Duration,
    ) -> Result<Self, ClientError> {
        client.check_space(&key)?;
        let keep = Keep::begin(client, key).await?;
        let write = Write::Keep(keep.id, document, ttl);
        let publication = client.write(keep.key.clone(), write).await?;
        Ok(Self { keep, ttl, publication })
    }

    /// The key of the record.
    pub const fn key(&self) -> &RecordKey {
        &self.keep.key
    }

    /// The first publication.
    pub const fn publication(&self) -> &Publication {
        &self.publication
    }

    /// Merges `document` into what is kept, and signs that anew. It lives for the `ttl` that was given
    /// first. Nothing is removed: a key that `document` lacks keeps its value.
    ///
    /// What is signed takes the place of all that our space says, and says the same: so there is one update, however
    /// often this is called, and more only while all that the space says does not fit into one.
    ///
    /// After [`Client::withdraw`] or [`Client::replace`] under the same key nothing is kept any more; then `document` is
    /// kept anew.
    ///
    /// # Errors
    /// As [`Client::keep`]. What was kept before goes on to be.
    pub async fn update(&self, document: Dict) -> Result<Publication, ClientError> {
        let Keep { key, id, client, .. } = &self.keep;
        client.write(key.clone(), Write::Keep(*id, document, self.ttl)).await
    }

    /// Withdraws what is kept, and nothing else that our space says. Replicas retain the withdrawal until what it hides is
    /// gone: until the latest `retain_until` if that is known from a complete read, and otherwise for
    /// [`Limits::max_ttl`](smart_record_core::Limits::max_ttl), 48 hours.
    ///
    /// # Errors
    /// As [`Client::publish`]. It is not kept any more all the same, and lives until its `ttl` is over.
    pub async fn withdraw(self) -> Result<Publication, ClientError> {
        let Keep { key, id, client, .. } = &self.keep;
        client.write(key.clone(), Write::WithdrawKept(*id)).await
    }

    /// Lets go of the document without withdrawing it: it is kept for as long as there is a client, and our space is not
    /// replaced or withdrawn.
    ///
    /// All documents that are detached under one key are kept together, as one document that lives for the longest `ttl`
    /// of them.
    pub fn detach(self) {
        self.keep.detach();
    }
}

/// Keeps a value alive that is not a smart record: see [`Client::keep_value`].
///
/// Dropping it ends that: the value is not sent again, and lives until it expires. Nothing withdraws a value.
///
/// A handle is a [`Client`] too: as long as there is one, the behaviour keeps alive what was written.
#[derive(Debug)]
#[must_use = "the value is not sent again once this is dropped"]
pub struct KeepValueHandle {
    keep: Keep,
    publication: Publication,
}

impl KeepValueHandle {
    pub(super) async fn new(
        client: &Client,
        key: RecordKey,
        value: Bytes,
    ) -> Result<Self, ClientError> {
        client.check_value(&key)?;
        let keep = Keep::begin(client, key).await?;
        let publication = client.put_by(keep.key.clone(), value, Some(keep.id)).await?;
        Ok(Self { keep, publication })
    }

    /// The key of the value.
    pub const fn key(&self) -> &RecordKey {
        &self.keep.key
    }

    /// The first publication.
    pub const fn publication(&self) -> &Publication {
        &self.publication
    }

    /// Puts `value`, and keeps it in the place of what was kept.
    ///
    /// # Errors
    /// As [`Client::put`]. What was kept before goes on to be.
    pub async fn update(&self, value: impl Into<Bytes>) -> Result<Publication, ClientError> {
        let Keep { key, id, client, .. } = &self.keep;
        client.put_by(key.clone(), value.into(), Some(*id)).await
    }

    /// Lets go of the value without an end: it is kept until it expires, for as long as there is a client. Of values that
    /// are detached under one key, what they come to together is kept.
    pub fn detach(self) {
        self.keep.detach();
    }
}
