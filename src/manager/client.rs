//! Records in the DHT, through a [`Client`] of a [`Behaviour`](crate::behaviour::Behaviour).
//!
//! The behaviour's reads send the best record to those who are behind, so there is nothing left to correct. It keeps a copy
//! here if it is a server among the closest to the key, or has some of it.
//!
//! **Invariants.** As for any backend the manager checks all that is answered, although the behaviour has done so.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

use bytes::Bytes;

use super::backend::{Found, RecordBackend};
use crate::client::{Client, ClientError};
use smart_record_core::RecordKey;

impl RecordBackend for Client {
    type Error = ClientError;

    async fn fetch(&self, key: &RecordKey) -> Result<Found, ClientError> {
        Ok(self.get(key.clone()).await?.into())
    }

    async fn put(&self, key: &RecordKey, value: Bytes) -> Result<usize, ClientError> {
        let put = self.put(key.clone(), value).await;
        Ok(put.or_else(ClientError::into_publication)?.peers.len())
    }
}
