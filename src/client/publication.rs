//! Results of a client's writes.

use bytes::Bytes;
use libp2p_identity::PeerId;
use smart_record_core::{Position, RecordKey, Seq, SmartRecord, Space, Timestamp, Writer};

use super::{Progress, progress::ProgressReceiver};
use crate::query::{Reading, RefusedAnswers};

/// Result of a successful write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// Key of the record.
    pub key: RecordKey,
    /// Content that was published.
    pub content: PublicationContent,
    /// Other peers that had acknowledged all of it when the call returned; see
    /// [`progress`](Self::progress) for later ones. An acknowledgement does not prove storage:
    /// replicas acknowledge records they refuse.
    pub peers: Vec<PeerId>,
    /// Number of chunks it was sent in.
    pub chunks: usize,
    /// Answers that were refused by the read before the write, if there was one.
    pub refused: Option<RefusedAnswers>,
    pub(crate) receiver: ProgressReceiver,
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
    /// Returns what has become of it at each peer by now.
    pub fn progress(&self) -> Progress {
        self.receiver.now()
    }

    /// Waits for the end: every peer that it was sent to has answered or run out of time, and two
    /// of those that acknowledged it were asked for it, after 100 ms and, if they did not show it,
    /// again after a second. Takes at most some 30 seconds.
    pub async fn finished(&self) -> Progress {
        self.receiver.end().await
    }

    /// The update, if an update of the client's own space was published.
    pub const fn update(&self) -> Option<PublishedUpdate> {
        match self.content {
            PublicationContent::Update(update) => Some(update),
            _ => None,
        }
    }

    /// Whether a reading has something newer in its place.
    pub(super) fn is_superseded(&self, reading: &Reading, writer: &Writer) -> bool {
        match &self.content {
            PublicationContent::Update(update) => {
                let space = reading.snapshot.record().and_then(|record| record.space(writer));
                space.and_then(Space::newest) > Some(update.position)
            }
            PublicationContent::Record(_) => false,
            PublicationContent::Value(value) => reading.replaces_value(value),
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
