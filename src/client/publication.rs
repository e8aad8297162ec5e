//! What a client has published.

use bytes::Bytes;
use libp2p_identity::PeerId;
use smart_record_core::{Position, RecordKey, Seq, SmartRecord, Timestamp, Writer};

use super::{Progress, progress::Follower};
use crate::query::Reading;

/// A write that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// Of the record.
    pub key: RecordKey,
    /// What was published.
    pub content: PublicationContent,
    /// The other peers that had taken all of it when the call returned; [`progress`](Self::progress) tells who has since. An
    /// acknowledgement does not prove storage: Kademlia acknowledges before it knows.
    pub peers: Vec<PeerId>,
    /// In how many pieces it was sent.
    pub chunks: usize,
    pub(crate) follower: Follower,
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublicationContent {
    /// An update of the client's own space in a smart record.
    Update(PublishedUpdate),
    /// A smart record that was [put](super::Client::put) as it is.
    Record(SmartRecord),
    /// A value of another kind than a smart record.
    Value(Bytes),
}

/// An update that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishedUpdate {
    /// Where it stands in its space.
    pub position: Position,
    /// When its document expires.
    pub expires_at: Timestamp,
}

impl PublishedUpdate {
    /// The writer's clock.
    pub const fn seq(&self) -> Seq {
        self.position.seq
    }
}

impl Publication {
    /// What has become of it by now.
    pub fn progress(&self) -> Progress {
        self.follower.now()
    }

    /// What has become of it in the end: everybody to whom it was sent has answered or has run out of time, and two of those that
    /// acknowledged it were asked whether they show it, after 100 ms and, if not, again after a second. Takes some 30 seconds at most.
    pub async fn finished(&self) -> Progress {
        self.follower.end().await
    }

    /// The update, if it was one of the client's own space.
    pub const fn update(&self) -> Option<PublishedUpdate> {
        match self.content {
            PublicationContent::Update(update) => Some(update),
            _ => None,
        }
    }

    /// The peers whose answers have all of it.
    pub(super) fn holders(&self, reading: &Reading, writer: &Writer) -> Vec<PeerId> {
        match &self.content {
            PublicationContent::Update(update) => reading.holders_of(writer, update.position),
            PublicationContent::Record(record) => reading.holders_of_record(record),
            PublicationContent::Value(value) => reading.holders_of_value(value),
        }
    }
}
