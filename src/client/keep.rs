//! Handles to records that a client keeps alive.
//!
//! **Invariants.** Dropping a handle never blocks and always reaches the behaviour: each handle has
//! its own channel to signal its end, so no queue can be full.

use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;

use super::{
    Client, ClientError, Publication,
    command::{Command, Ending, KeepId, Write},
};
use smart_record_core::{Dict, RecordKey};

/// Common part of both kinds of handles.
#[derive(Debug)]
struct HandleInner {
    key: RecordKey,
    id: KeepId,
    // Dropped before the client, so the end of every handle is known when the last client is gone.
    end: oneshot::Sender<()>,
    client: Client,
}

impl HandleInner {
    /// Registers a new handle with the behaviour.
    async fn begin(client: &Client, key: RecordKey) -> Result<Self, ClientError> {
        let (end, receiver) = oneshot::channel();
        let id = client.next_keep_id();
        let ending = Ending { key: key.clone(), id, end: receiver };
        client.send(Command::Handle(ending)).await?;
        Ok(Self { key, id, end, client: client.clone() })
    }

    fn detach(self) {
        // If the behaviour is gone, nothing is kept any more.
        let _ = self.end.send(());
    }
}

/// Keeps a document alive in the client's own space of a smart record: see [`Client::keep`].
///
/// Dropping it withdraws the document if the swarm is still polled; this does not wait, and a
/// failure is logged. So `let _ = client.keep(…).await?` withdraws at once. After a clock was set
/// back, a withdrawal may have to read the key first; if the last client is dropped with the
/// handle, it is then given up. [`withdraw`](Self::withdraw) waits and returns the result. After a
/// crash, or if the swarm is no longer polled, the document lives until its `ttl` is over.
/// [`detach`](Self::detach) ends the handle without withdrawing the document.
///
/// A handle contains a [`Client`]: as long as a handle exists, the behaviour keeps the
/// client's records alive.
#[derive(Debug)]
#[must_use = "what is kept is withdrawn when this is dropped"]
pub struct KeepHandle {
    keep: HandleInner,
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
        let keep = HandleInner::begin(client, key).await?;
        let write = Write::Keep(keep.id, document, ttl);
        let written = client.write(keep.key.clone(), write).await;
        let publication = written.or_else(ClientError::into_publication)?;
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

    /// Merges `document` into the kept document and signs the result anew, with the `ttl` given to
    /// [`Client::keep`]. Nothing is removed: a key that `document` lacks keeps its value.
    /// [`replace`](Self::replace) removes it.
    ///
    /// The new update replaces the earlier updates of the space and repeats their content. So there
    /// is one update, however often this is called; there are more only while the content of the
    /// space does not fit into one.
    ///
    /// After [`Client::withdraw`] or [`Client::replace`] under the same key, nothing is kept any
    /// more; `document` is then kept as a new document.
    ///
    /// # Errors
    /// As [`Client::keep`]. On an error the previous document stays kept.
    pub async fn update(&self, document: Dict) -> Result<Publication, ClientError> {
        let HandleInner { key, id, client, .. } = &self.keep;
        let write = Write::Keep(*id, document, self.ttl);
        client.write(key.clone(), write).await.or_else(ClientError::into_publication)
    }

    /// Keeps exactly `document` from now on, with the `ttl` given to [`Client::keep`]: what was
    /// kept before and `document` lacks is withdrawn. Other content of the space stays: other kept
    /// documents, and what [`Client::publish`] wrote.
    ///
    /// As with [`update`](Self::update), the space is one update, however often this is called.
    ///
    /// # Errors
    /// As [`Client::keep`]. On an error the previous document stays kept.
    pub async fn replace(&self, document: Dict) -> Result<Publication, ClientError> {
        let HandleInner { key, id, client, .. } = &self.keep;
        let write = Write::KeepOnly(*id, document, self.ttl);
        client.write(key.clone(), write).await.or_else(ClientError::into_publication)
    }

    /// Withdraws the kept document, and nothing else in the space. Replicas retain the withdrawal
    /// until everything that it hides has expired: until the latest `retain_until` if a complete
    /// read has found that, otherwise for [`Limits::max_ttl`](smart_record_core::Limits::max_ttl),
    /// 48 hours.
    ///
    /// # Errors
    /// As [`Client::publish`]. The document is no longer kept after an error either, but lives
    /// until its `ttl` is over. After [`ClientError::NotAcknowledged`] the withdrawal is sent
    /// again, as any other write.
    pub async fn withdraw(self) -> Result<Publication, ClientError> {
        let HandleInner { key, id, client, .. } = &self.keep;
        client.write(key.clone(), Write::WithdrawKept(*id)).await
    }

    /// Ends the handle without withdrawing the document: it stays kept as long as a client exists
    /// and the space is not replaced or withdrawn.
    ///
    /// All detached documents under one key are merged into one document with the longest `ttl`
    /// among them.
    pub fn detach(self) {
        self.keep.detach();
    }
}

/// Keeps a value alive that is not a smart record: see [`Client::keep_value`].
///
/// Dropping it stops sending the value, which then lives until it expires. Values cannot be
/// withdrawn.
///
/// A handle contains a [`Client`]: as long as a handle exists, the behaviour keeps the
/// client's records alive.
#[derive(Debug)]
#[must_use = "the value is not sent again once this is dropped"]
pub struct KeepValueHandle {
    keep: HandleInner,
    publication: Publication,
}

impl KeepValueHandle {
    pub(super) async fn new(
        client: &Client,
        key: RecordKey,
        value: Bytes,
    ) -> Result<Self, ClientError> {
        client.check_value(&key)?;
        let keep = HandleInner::begin(client, key).await?;
        let put = client.put_by(keep.key.clone(), value, Some(keep.id)).await;
        let publication = put.or_else(ClientError::into_publication)?;
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

    /// Puts `value` and keeps it instead of the previous value.
    ///
    /// # Errors
    /// As [`Client::put`]. On an error the previous value stays kept.
    pub async fn update(&self, value: impl Into<Bytes>) -> Result<Publication, ClientError> {
        let HandleInner { key, id, client, .. } = &self.keep;
        let put = client.put_by(key.clone(), value.into(), Some(*id)).await;
        put.or_else(ClientError::into_publication)
    }

    /// Ends the handle and keeps the value until it expires, as long as a client exists. Detached
    /// values under one key are combined by the rules of their namespace.
    pub fn detach(self) {
        self.keep.detach();
    }
}
