//! Reading a topic that is spread over many keys.
//!
//! **Invariants.** A shard that could not be read completely is reported and does not stop the
//! other reads.
//!
//! **Spec.** `docs/design.md`, section "Sharded keys".

use futures::{StreamExt, stream};

use super::{Client, ClientError};
use crate::query::Content;
use smart_record_core::{RecordKey, ShardedKey, ShardedRecord, Timestamp, View};

/// Number of concurrent shard reads.
const AT_ONCE: usize = 8;

/// Result of reading all shards of a topic.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShardedReading {
    /// Joined records of all shards.
    pub record: ShardedRecord,
    /// Shards for which no peer answered. `record` contains what this node itself holds of them.
    pub unreached: Vec<RecordKey>,
    /// Shards of which more may exist than was found: see
    /// [`Reading::is_complete`](crate::query::Reading::is_complete).
    /// [`BehaviourConfig::read_rounds`](crate::behaviour::BehaviourConfig::read_rounds) bounds a
    /// single read; reading such a shard again returns other slices of it, to be
    /// [`join`](ShardedRecord::join)ed.
    pub incomplete: Vec<RecordKey>,
    /// Shards that could not be read, with the errors.
    pub failed: Vec<(RecordKey, ClientError)>,
    /// Time of the last read.
    pub at: Timestamp,
    /// The mean of what is missing from the shards.
    missing: f64,
}

impl ShardedReading {
    /// The view of all shards as one record, at [`at`](Self::at).
    pub fn view(&self) -> View {
        self.record.view(self.at)
    }

    /// The share of the topic that was not covered by enough peers, from 0 to 1: about the share of
    /// the writers that may be missing. It is the mean of what is
    /// [missing](crate::query::Reading::missing) from each shard, because writers spread evenly
    /// over the shards; of one that was not reached or could not be read, all is missing. If it is
    /// 0 and the reading is not complete, too few of the closest peers have answered for
    /// [some shards](Self::incomplete).
    pub const fn missing(&self) -> f64 {
        self.missing
    }

    /// Whether every shard was read completely.
    pub const fn is_complete(&self) -> bool {
        self.unreached.is_empty() && self.incomplete.is_empty() && self.failed.is_empty()
    }
}

impl Client {
    /// Reads all shards of a topic, eight at a time. To read one writer's space, read the key from
    /// [`ShardedKey::key_for`]; to write, publish under the key for [`Client::peer_id`].
    ///
    /// Costs one read for each of the `2^bits` keys.
    ///
    /// # Errors
    /// [`ClientError::Refused`] and [`ClientError::NotSmart`] if the topic's keys are not keys of
    /// smart records, [`ClientError::Stopped`] and [`ClientError::NotPolled`]. Errors of single
    /// shards are in the result.
    pub async fn get_sharded(&self, topic: &ShardedKey) -> Result<ShardedReading, ClientError> {
        // All shards have the same form, so checking one key is enough.
        topic.keys().next().map_or(Ok(()), |key| self.check_space(&key))?;
        let mut reading = ShardedReading {
            record: ShardedRecord::new(topic.clone()),
            unreached: Vec::new(),
            incomplete: Vec::new(),
            failed: Vec::new(),
            at: Timestamp::EPOCH,
            missing: 0.0,
        };
        let (mut count, mut missing) = (0.0, 0.0);
        let mut shards = stream::iter(topic.keys())
            .map(|key| async { (key.clone(), self.get(key).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((key, read)) = shards.next().await {
            count += 1.0;
            missing += match &read {
                Ok(read) if read.has_reached_anyone() => read.missing(),
                _ => 1.0,
            };
            match read {
                Ok(read) => {
                    if !read.has_reached_anyone() {
                        reading.unreached.push(key);
                    } else if !read.is_complete() {
                        reading.incomplete.push(key);
                    }
                    reading.at = reading.at.max(read.snapshot.at);
                    if let Content::Record(record) = read.snapshot.content {
                        // Fails for no shard of this topic; spaces of writers that belong to
                        // another shard are left out.
                        let _ = reading.record.join(record);
                    }
                }
                Err(error @ (ClientError::Stopped | ClientError::NotPolled)) => return Err(error),
                Err(ClientError::Unreachable | ClientError::TimedOut) => {
                    reading.unreached.push(key)
                }
                Err(error) => reading.failed.push((key, error)),
            }
        }
        // A topic has at least one shard.
        reading.missing = missing / count;
        Ok(reading)
    }
}
