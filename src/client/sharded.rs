//! Reading a topic that is spread over many keys.
//!
//! **Invariants.** A shard that could not be read, or not to its end, is told, and does not stand in the way of the others.
//!
//! **Spec.** `docs/design.md`, section "Sharded keys".

use futures::{StreamExt, stream};

use super::{Client, ClientError};
use crate::query::Content;
use smart_record_core::{RecordKey, ShardedKey, ShardedRecord, Timestamp, View};

/// How many shards are read at a time.
const AT_ONCE: usize = 8;

/// What reading all of a topic has come to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShardedReading {
    /// What was found under its keys, together.
    pub record: ShardedRecord,
    /// The shards of which no peer has said anything, not even that it has nothing. What this node holds of them itself is in the
    /// record.
    pub unreached: Vec<RecordKey>,
    /// The shards of which there may be more than was found: see [`Reading::is_complete`](crate::query::Reading::is_complete).
    /// How far one reading goes says [`BehaviourConfig::read_rounds`](crate::behaviour::BehaviourConfig::read_rounds); reading such a
    /// shard again brings other slices of it, to be [`join`](ShardedRecord::join)ed.
    pub incomplete: Vec<RecordKey>,
    /// The shards that could not be read, and why.
    pub failed: Vec<(RecordKey, ClientError)>,
    /// When the last of them was read.
    pub at: Timestamp,
}

impl ShardedReading {
    /// What the topic said then, as if it were one record.
    pub fn view(&self) -> View {
        self.record.view(self.at)
    }

    /// Whether every shard has been read to its end.
    pub const fn is_complete(&self) -> bool {
        self.unreached.is_empty() && self.incomplete.is_empty() && self.failed.is_empty()
    }
}

impl Client {
    /// Reads all of a topic that is spread over many keys, eight at a time. To read what one writer says there, read
    /// [`ShardedKey::key_for`] it; to write there, publish under the key for [`Client::peer_id`].
    ///
    /// It takes a read for each of the `2^bits` keys.
    ///
    /// # Errors
    /// [`ClientError::Unregistered`] if it is no topic of smart records, and [`ClientError::Stopped`]. What goes wrong with
    /// single shards stands in the outcome.
    pub async fn get_sharded(&self, topic: &ShardedKey) -> Result<ShardedReading, ClientError> {
        // The shards have one form.
        topic.keys().next().map_or(Ok(()), |key| self.check_space(&key))?;
        let mut reading = ShardedReading {
            record: ShardedRecord::new(topic.clone()),
            unreached: Vec::new(),
            incomplete: Vec::new(),
            failed: Vec::new(),
            at: Timestamp::EPOCH,
        };
        let mut shards = stream::iter(topic.keys())
            .map(|key| async { (key.clone(), self.get(key).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((key, read)) = shards.next().await {
            match read {
                Ok(read) => {
                    if !read.has_reached_anyone() {
                        reading.unreached.push(key);
                    } else if !read.is_complete() {
                        reading.incomplete.push(key);
                    }
                    reading.at = reading.at.max(read.snapshot.at);
                    if let Content::Record(record) = read.snapshot.content {
                        // It is of this key, so it is a shard; who writes under a foreign one is left out.
                        let _ = reading.record.join(record);
                    }
                }
                Err(ClientError::Stopped) => return Err(ClientError::Stopped),
                Err(error) => reading.failed.push((key, error)),
            }
        }
        Ok(reading)
    }
}
