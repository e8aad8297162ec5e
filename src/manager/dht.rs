//! Records in the DHT, through a bare `kad::Behaviour` and the [`Dht`] that asks it.
//!
//! **Invariants.** As for any backend the manager checks all that is answered, although the handle has done so.
//!
//! **Spec.** `docs/design.md`, section "Validators".

use std::time::Duration;

use bytes::Bytes;
use smart_record_core::RecordKey;

use super::backend::{Correction, Found, Holder, RecordBackend};
use crate::dht::{Dht, DhtError};

/// No copy that was read is kept for longer, whatever its holders say: the lifetime that Kademlia gives a
/// record by default.
const LONGEST: Duration = Duration::from_secs(48 * 60 * 60);
/// With less than a second left, a record would go out with a lifetime of zero, which means none.
const SHORTEST: Duration = Duration::from_secs(1);

/// Use it with a store whose registry has the manager's rules. A copy that was read is kept on this node, and lives no longer than
/// those of its holders.
impl RecordBackend for Dht {
    type Error = DhtError;

    async fn fetch(&self, key: &RecordKey) -> Result<Found, DhtError> {
        let mut found = Found::from(self.get(key.clone()).await?);
        if found.answers.iter().all(|answer| answer.holder != Holder::Local) {
            found.missing.push(Holder::Local);
        }
        Ok(found)
    }

    async fn put(&self, key: &RecordKey, value: Bytes) -> Result<usize, DhtError> {
        Ok(self.put(key.clone(), value).await?.len())
    }

    /// The local copy is kept in the node's own store; what is sent to peers is not waited for.
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
