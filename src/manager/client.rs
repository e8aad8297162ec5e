//! Records in the DHT, through a [`Client`] of a [`Behaviour`](crate::Behaviour).
//!
//! The behaviour's reads send the best record to those who are behind, so there is nothing left to correct. It keeps a copy
//! here if it is a server among the closest to the key, or has some of it.
//!
//! **Invariants.** As for any backend the manager checks all that is answered, although the behaviour has done so.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

use bytes::Bytes;

use super::backend::{Answer, Found, Holder, RecordBackend};
use crate::{
    client::{Client, ClientError},
    key::RecordKey,
};

impl RecordBackend for Client {
    type Error = ClientError;

    async fn fetch(&self, key: &RecordKey) -> Result<Found, ClientError> {
        let reading = self.get(key.clone()).await?;
        let answer = |holder, value: &Bytes| {
            let value = value.clone();
            Answer { holder, value, lifetime: None }
        };
        let mut answers: Vec<_> =
            reading.values().map(|(peer, value)| answer(Holder::Peer(peer), value)).collect();
        // What no peer has said is known here.
        if let Some(best) = &reading.snapshot.value
            && answers.iter().all(|answer| answer.value != best)
        {
            answers.push(answer(Holder::Local, best));
        }
        Ok(Found {
            answers,
            missing: reading.empty.iter().copied().map(Holder::Peer).collect(),
            refused: reading
                .refused
                .iter()
                .map(|(peer, error)| (Holder::Peer(*peer), error.clone()))
                .collect(),
        })
    }

    async fn store(&self, key: &RecordKey, value: Bytes) -> Result<usize, ClientError> {
        Ok(self.put(key.clone(), value).await?.peers.len())
    }
}
