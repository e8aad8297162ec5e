//! Backend over the DHT, through a [`Client`] of a [`Behaviour`](crate::behaviour::Behaviour).
//!
//! The behaviour's reads send the best record to peers that are behind, so no correction is needed.
//! The behaviour stores a copy locally if this node is a server among the closest to the key, or
//! already holds some of the record.
//!
//! **Invariants.** The manager validates all answers, as for any backend, although the behaviour
//! has already done so.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

use bytes::Bytes;

use super::backend::{BackendAnswers, Correction, RecordBackend};
use crate::client::{Client, ClientError};
use smart_record_core::RecordKey;

impl RecordBackend for Client {
    type Error = ClientError;

    async fn fetch(&self, key: &RecordKey) -> Result<BackendAnswers, ClientError> {
        match self.get(key.clone()).await {
            // The manager judges the answers itself.
            Err(ClientError::AnswersRefused(refused)) => Ok(refused.into()),
            read => Ok(read?.into()),
        }
    }

    async fn put(&self, key: &RecordKey, value: Bytes) -> Result<usize, ClientError> {
        let put = self.put(key.clone(), value).await;
        Ok(put.or_else(ClientError::into_publication)?.peers.len())
    }

    fn has_stopped(error: &ClientError) -> bool {
        *error == ClientError::Stopped
    }

    /// Does nothing, because reads repair.
    async fn correct(&self, _: Correction) {}
}
