//! Results of a client's writes.

use bytes::Bytes;
use libp2p_identity::PeerId;
use smart_record_core::{Position, RecordKey, Seq, SmartRecord, Timestamp, Writer};

use super::{Progress, progress::Follower};
use crate::query::Reading;

/// Result of a successful write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// Key of the record.
    pub key: RecordKey,
    /// Content that was published.
    pub content: PublicationContent,
    /// Peers that had acknowledged all of it when the call returned; [`progress`](Self::progress)
    /// returns later acknowledgements. An acknowledgement does not prove storage: Kademlia
    /// acknowledges before it knows.
    pub peers: Vec<PeerId>,
    /// Number of chunks it was sent in.
    pub chunks: usize,
    pub(crate) follower: Follower,
}

/// Content that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublicationContent {
    /// An update of the client's own space in a smart record.
    Update(PublishedUpdate),
    /// A smart record passed to [`put`](super::Client::put).
    Record(SmartRecord),
    /// A value that is not a smart record.
    Value(Bytes),
}

/// An update that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishedUpdate {
    /// Its position in its space.
    pub position: Position,
    /// When its document expires.
    pub expires_at: Timestamp,
}

impl PublishedUpdate {
    /// Its sequence number.
    pub const fn seq(&self) -> Seq {
        self.position.seq
    }
}

impl Publication {
    /// Returns the current progress.
    pub fn progress(&self) -> Progress {
        self.follower.now()
    }

    /// Waits for the final progress: every recipient has answered or timed out, and two that
    /// acknowledged it were asked whether they show it, after 100 ms and, if not, again after a
    /// second. Takes some 30 seconds at most.
    pub async fn finished(&self) -> Progress {
        self.follower.end().await
    }

    /// The update, if an update of the client's own space was published.
    pub const fn update(&self) -> Option<PublishedUpdate> {
        match self.content {
            PublicationContent::Update(update) => Some(update),
            _ => None,
        }
    }

    /// Peers whose answers contain all of it.
    pub(super) fn holders(&self, reading: &Reading, writer: &Writer) -> Vec<PeerId> {
        match &self.content {
            PublicationContent::Update(update) => reading.holders_of(writer, update.position),
            PublicationContent::Record(record) => reading.holders_of_record(record),
            PublicationContent::Value(value) => reading.holders_of_value(value),
        }
    }
}
