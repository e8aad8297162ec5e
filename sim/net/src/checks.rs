//! What must hold, and what is known to be true.
//!
//! The world tells what was written and read. An update is *acknowledged* when a majority of the
//! servers closest to its key, of those that its writer reaches, have it three seconds later.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug, Display, Formatter},
    time::Duration,
};

use libp2p_identity::PeerId;
use libp2p_smart_record::{Position, Seq};

/// A property that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// No acknowledged live update is lost: absent from a reading though one of those who had it,
    /// a node of ours, is up and the reader reaches it.
    Lost,
    /// Nothing expired or withdrawn is visible.
    Visible,
    /// No reading is called complete that lacks an acknowledged live update, as for `Lost`.
    Complete,
    /// Nothing is called withheld, for nobody withholds.
    Withheld,
    /// A store has no more than its settings allow.
    Bounds,
    /// Two replication intervals after the last fault, all servers closest to a key have the same.
    Equal,
    /// The servers send no more than the scenario allows.
    Traffic,
}

impl Display for Check {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Visible => "visible",
            Self::Complete => "complete",
            Self::Withheld => "withheld",
            Self::Bounds => "bounds",
            Self::Equal => "equal",
            Self::Traffic => "traffic",
        })
    }
}

/// Something that must not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The property.
    pub check: Check,
    /// Time since the start.
    pub at: Duration,
    /// What was seen.
    pub what: String,
}

impl Display for Violation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:.0} s: {}", self.check, self.at.as_secs_f64(), self.what)
    }
}

/// A write; its holders are known once it was acknowledged.
#[derive(Clone)]
pub(crate) struct Acknowledged {
    pub(crate) at: Duration,
    pub(crate) seq: Seq,
    pub(crate) position: Option<Position>,
    /// `None`: a withdrawal.
    pub(crate) document: Option<String>,
    /// As it is signed, in milliseconds since 1970.
    pub(crate) expires_at: u64,
    pub(crate) holders: Vec<PeerId>,
}

impl Debug for Acknowledged {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let what = self.document.as_deref().unwrap_or("a withdrawal");
        let (at, seq, holders) = (self.at.as_secs_f64(), self.seq, self.holders.len());
        write!(f, "{what:.24} ({seq}, at {at:.0} s, kept by {holders})")
    }
}

/// What is known of a space.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpaceTruth {
    /// Documents by their sequence numbers; `None` for withdrawals.
    pub(crate) written: BTreeMap<Seq, Option<String>>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// When the last write began.
    pub(crate) begun: Duration,
}

/// A space as a reading shows it.
#[derive(Clone, Debug)]
pub(crate) struct ShownSpace {
    pub(crate) writer: PeerId,
    pub(crate) seq: Seq,
    pub(crate) expires_at: u64,
    pub(crate) document: String,
}

/// A reading that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) reader: u32,
    pub(crate) board: u32,
    pub(crate) began: Duration,
    /// The clock of the reader at the end, in milliseconds since 1970.
    pub(crate) now: u64,
    pub(crate) is_complete: bool,
    pub(crate) spaces: Vec<ShownSpace>,
}

/// Milliseconds within which the clock of a reader may have moved while it read.
const WHILE_READING: u64 = 1_000;

/// Compares a reading with what is known of the spaces of its board. `is_connected` tells whether
/// this holder of a write is up and the reader reaches it.
pub(crate) fn check_read(
    read: &Read,
    truths: &BTreeMap<PeerId, SpaceTruth>,
    skew: u64,
    is_connected: impl Fn(&PeerId) -> bool,
) -> Vec<(Check, String)> {
    let mut found = Vec::new();
    let reader = read.reader;
    for shown in &read.spaces {
        if shown.expires_at.saturating_add(WHILE_READING) <= read.now {
            found.push((Check::Visible, format!("{reader} reads an expired space: {shown:?}")));
        }
        let truth = truths.get(&shown.writer);
        let written = truth.and_then(|truth| truth.written.get(&shown.seq));
        // A number that is not known is of a write whose caller got no result.
        if let Some(written) = written
            && written.as_deref() != Some(&shown.document)
        {
            found.push((Check::Visible, format!("{reader} reads {shown:?}, not {written:?}")));
        }
    }
    for (writer, truth) in truths {
        let before = truth.acknowledged.iter().rev().find(|it| it.at <= read.began);
        let Some(last) = before else { continue };
        let shown = read.spaces.iter().find(|shown| shown.writer == *writer);
        let is_reached = last.holders.iter().any(&is_connected);
        if !is_reached {
            continue;
        }
        let is_older = shown.is_some_and(|shown| shown.seq < last.seq);
        if last.document.is_none() {
            if is_older {
                let what = format!("{reader} reads what was withdrawn: {shown:?}, {last:?}");
                found.push((Check::Visible, what));
            }
            continue;
        }
        // With a margin for the clocks of the writer and the reader.
        let is_live = last.expires_at > read.now.saturating_add(2 * skew + WHILE_READING);
        // A later write may have withdrawn it.
        let is_last = truth.begun <= last.at;
        if is_live && (is_older || (shown.is_none() && is_last)) {
            let what = format!("{reader} reads {shown:?} of {writer} instead of {last:?}");
            if read.is_complete {
                found.push((Check::Complete, what.clone()));
            }
            found.push((Check::Lost, what));
        }
    }
    found
}
