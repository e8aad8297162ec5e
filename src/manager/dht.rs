//! Backend over the DHT, through a plain `kad::Behaviour` and its [`Dht`] handle.
//!
//! **Invariants.** The manager validates all answers, as for any backend, although the handle has
//! already done so.
//!
//! **Spec.** `docs/design.md`, section "Validators".

use std::time::Duration;

use bytes::Bytes;
use smart_record_core::RecordKey;

use super::backend::{BackendAnswers, Correction, Holder, RecordBackend};
use crate::dht::{Dht, DhtError};

/// Maximum lifetime of a copy, whatever its holders say: Kademlia's default lifetime of a record.
const LONGEST: Duration = Duration::from_secs(48 * 60 * 60);
/// With less than a second left, a record would be sent with a lifetime of zero, which means no
/// expiry.
const SHORTEST: Duration = Duration::from_secs(1);

/// Use it with a store whose registry has the manager's rules. A copy of a record that was read is
/// stored on this node, and lives no longer than the copies of its holders.
impl RecordBackend for Dht {
    type Error = DhtError;

    async fn fetch(&self, key: &RecordKey) -> Result<BackendAnswers, DhtError> {
        let mut found = match self.get(key.clone()).await {
            // The manager judges the answers itself.
            Err(DhtError::AnswersRefused(refused)) => refused.into(),
            read => BackendAnswers::from(read?),
        };
        if found.answers.iter().all(|answer| answer.holder != Holder::Local) {
            found.missing.push(Holder::Local);
        }
        Ok(found)
    }

    async fn put(&self, key: &RecordKey, value: Bytes) -> Result<usize, DhtError> {
        Ok(self.put(key.clone(), value).await?.len())
    }

    fn has_stopped(error: &DhtError) -> bool {
        *error == DhtError::DriverStopped
    }

    /// Stores the local copy in the node's own store. Does not wait for the peers.
    async fn correct(&self, Correction { key, value, lifetime, holders }: Correction) {
        let lifetime = lifetime.map_or(LONGEST, |left| left.min(LONGEST));
        if lifetime < SHORTEST {
            return;
        }
        let here = holders.contains(&Holder::Local);
        let peers = holders.into_iter().filter_map(Holder::peer).collect();
        if let Err(error) = self.send_to(key, value, lifetime, here, peers).await {
            tracing::debug!(%error, "a correction was lost");
        }
    }
}
