//! What each holder has shown, deduplicated.
//!
//! **Invariants.** Each version of a space and each value is stored once, and for each holder the
//! numbers of the versions that it has shown. The total is bounded by twice the bytes of the
//! largest record; for content beyond that, the holders are not remembered.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use libp2p_identity::PeerId;
use smart_record_core::{Position, RecordKey, SmartRecord, Space, Writer};

use super::joined::CheckedAnswer;

/// Overhead of an update beside its bytes: signature, position and times. A guess.
const UPDATE: usize = 160;
/// Overhead of a version beside its updates: writer and map entries. A guess.
const VERSION: usize = 160;
/// Size of the number of a version in the set of a holder. A guess.
const NUMBER: usize = 16;

/// What each holder has shown.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    key: RecordKey,
    holders: BTreeMap<PeerId, BTreeSet<u32>>,
    versions: Vec<Version>,
    /// The versions of each space.
    spaces: BTreeMap<Writer, Vec<u32>>,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Clone, Debug)]
enum Version {
    Space(Writer, Space),
    Value(Bytes),
}

impl Shown {
    /// Returns an empty set for records of at most `record_bytes`.
    pub(super) const fn new(key: RecordKey, record_bytes: usize) -> Self {
        Self {
            key,
            holders: BTreeMap::new(),
            versions: Vec::new(),
            spaces: BTreeMap::new(),
            bytes: 0,
            max_bytes: record_bytes.saturating_mul(2),
        }
    }

    /// Adds an answer of a holder. Of values the latest counts, of spaces all that it has shown.
    /// Returns whether the holder has not shown all of it before, as far as that is remembered.
    pub(super) fn add(&mut self, peer: PeerId, answer: CheckedAnswer) -> bool {
        match answer {
            CheckedAnswer::Record(record) => {
                let mut is_new = false;
                for (writer, space) in record.into_spaces() {
                    let version = self.version_of_space(writer, space);
                    let shown = self.holders.entry(peer).or_default();
                    is_new |= version.is_none_or(|version| shown.insert(version));
                }
                is_new
            }
            CheckedAnswer::Value(value) => {
                let version = self.version_of_value(value);
                self.holders.insert(peer, version.into_iter().collect());
                true
            }
        }
    }

    fn version_of_space(&mut self, writer: Writer, space: Space) -> Option<u32> {
        let is_it = |number: &u32| matches!(self.version(*number), Some(Version::Space(_, it)) if *it == space);
        let mut numbers = self.spaces.get(&writer).into_iter().flatten().copied();
        if let Some(known) = numbers.find(is_it) {
            return self.reserve(NUMBER).then_some(known);
        }
        let lens = space.updates().map(|update| update.as_bytes().len().saturating_add(UPDATE));
        let bytes = lens.fold(VERSION, usize::saturating_add);
        let number = self.push(bytes, Version::Space(writer.clone(), space))?;
        self.spaces.entry(writer).or_default().push(number);
        Some(number)
    }

    fn version_of_value(&mut self, value: Bytes) -> Option<u32> {
        let is_it = |version: &Version| matches!(version, Version::Value(it) if *it == value);
        if let Some(known) = self.versions.iter().position(is_it) {
            return u32::try_from(known).ok().filter(|_| self.reserve(NUMBER));
        }
        self.push(value.len().saturating_add(VERSION), Version::Value(value))
    }

    fn push(&mut self, bytes: usize, version: Version) -> Option<u32> {
        let number = u32::try_from(self.versions.len()).ok()?;
        if !self.reserve(bytes) {
            return None;
        }
        self.versions.push(version);
        Some(number)
    }

    /// Reserves `bytes`. Returns whether there was room.
    fn reserve(&mut self, bytes: usize) -> bool {
        let with = self.bytes.saturating_add(bytes);
        let has_room = with <= self.max_bytes;
        if has_room {
            self.bytes = with;
        }
        has_room
    }

    /// How many bytes are held, roughly.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn version(&self, number: u32) -> Option<&Version> {
        self.versions.get(usize::try_from(number).ok()?)
    }

    fn versions_of(&self, peer: &PeerId) -> impl Iterator<Item = &Version> {
        let numbers = self.holders.get(peer).into_iter().flatten();
        numbers.filter_map(|number| self.version(*number))
    }

    /// The peers that have shown anything.
    pub(crate) fn holders(&self) -> impl ExactSizeIterator<Item = &PeerId> + Clone {
        self.holders.keys()
    }

    /// Whether a peer has shown anything.
    pub(crate) fn is_holder(&self, peer: &PeerId) -> bool {
        self.holders.contains_key(peer)
    }

    /// The content that a peer has shown, as far as it is remembered.
    pub(crate) fn answer(&self, peer: &PeerId) -> Option<CheckedAnswer> {
        if let Some(value) = self.value(peer) {
            return Some(CheckedAnswer::Value(value.clone()));
        }
        let mut record = SmartRecord::new(self.key.clone());
        for version in self.versions_of(peer) {
            if let Version::Space(writer, space) = version {
                record.join_space(writer.clone(), space.clone());
            }
        }
        (record.spaces().len() > 0).then_some(CheckedAnswer::Record(record))
    }

    /// The value that a peer has shown.
    pub(crate) fn value(&self, peer: &PeerId) -> Option<&Bytes> {
        self.versions_of(peer).find_map(|version| match version {
            Version::Value(value) => Some(value),
            Version::Space(..) => None,
        })
    }

    /// The peers that have shown an update.
    pub(crate) fn holders_of(
        &self,
        writer: &Writer,
        position: Position,
    ) -> impl Iterator<Item = PeerId> {
        let has_it = |number: &u32| match self.version(*number) {
            Some(Version::Space(_, space)) => space.get(position).is_some(),
            _ => false,
        };
        let numbers = self.spaces.get(writer).into_iter().flatten().copied();
        let numbers: Vec<u32> = numbers.filter(has_it).collect();
        let holders = self.holders.iter();
        let holders = holders.filter(move |(_, shown)| numbers.iter().any(|it| shown.contains(it)));
        holders.map(|(peer, _)| *peer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p_identity::Keypair;

    use super::*;
    use smart_record_core::{Limits, SpaceSigner, Timestamp};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn records() -> [SmartRecord; 2] {
        let key = "/sr/a".into();
        let mut signer = SpaceSigner::new(key, Keypair::generate_ed25519(), Limits::default());
        ["one", "two"].map(|text| {
            let document = [("text", text)].into_iter().collect();
            signer.merge(document, NOW, Duration::from_secs(60)).unwrap();
            signer.record(NOW)
        })
    }

    /// Address of the first bytes that a peer has shown.
    fn bytes_of(shown: &Shown, peer: &PeerId) -> *const u8 {
        match shown.answer(peer).unwrap() {
            CheckedAnswer::Record(record) => {
                record.spaces().next().unwrap().1.updates().next().unwrap().as_bytes().as_ptr()
            }
            CheckedAnswer::Value(value) => value.as_ptr(),
        }
    }

    /// As if it came in a packet of its own.
    fn read(record: &SmartRecord) -> CheckedAnswer {
        let bytes = Bytes::from(record.encode());
        CheckedAnswer::Record(SmartRecord::decode(record.key(), bytes, &Limits::default()).unwrap())
    }

    #[test]
    fn equal_content_is_stored_once_and_the_total_is_bounded() {
        let [one, two] = records();
        let mut shown = Shown::new("/sr/a".into(), 4_096);
        let [first, other] = [(); 2].map(|()| PeerId::random());
        shown.add(first, read(&one));
        let kept = shown.bytes;
        let peers: Vec<_> = std::iter::repeat_with(PeerId::random).take(100).collect();
        for peer in &peers {
            shown.add(*peer, read(&one));
            assert_eq!(bytes_of(&shown, peer), bytes_of(&shown, &first));
            assert_eq!(shown.answer(peer), Some(read(&one)));
        }
        assert_eq!(shown.bytes, kept + 100 * NUMBER);
        shown.add(other, read(&two));
        assert_eq!(shown.answer(&other), Some(read(&two)), "another version");
        let (writer, space) = two.spaces().next().unwrap();
        let holders = shown.holders_of(writer, space.newest().unwrap());
        assert_eq!(holders.collect::<Vec<_>>(), [other]);

        let mut shown = Shown::new("/sr/a".into(), kept / 2);
        shown.add(first, read(&one));
        shown.add(other, read(&two));
        assert_eq!(shown.answer(&first), Some(read(&one)));
        assert_eq!(shown.answer(&other), None, "no room for another version");
        assert!(shown.is_holder(&other));
        for peer in peers {
            shown.add(peer, read(&one));
        }
        assert!(shown.bytes <= kept, "nor room for more holders");
    }

    #[test]
    fn all_versions_of_a_space_that_a_holder_has_shown_are_joined() {
        let ([one, two], peer) = (records(), PeerId::random());
        let mut shown = Shown::new("/sr/a".into(), 4_096);
        for record in [&one, &two] {
            shown.add(peer, read(record));
        }
        let mut both = one.clone();
        both.join(two).unwrap();
        assert_eq!(shown.answer(&peer), Some(CheckedAnswer::Record(both)));
    }

    #[test]
    fn the_latest_value_of_a_holder_is_stored_once_while_there_is_room() {
        let value = |byte| Bytes::from(vec![byte; 50]);
        let mut shown = Shown::new("/any/a".into(), VERSION + 50);
        let [a, b, c] = [(); 3].map(|()| PeerId::random());
        shown.add(a, CheckedAnswer::Value(value(0)));
        shown.add(a, CheckedAnswer::Value(value(1)));
        assert_eq!(shown.value(&a), Some(&value(1)));
        shown.add(b, CheckedAnswer::Value(value(2)));
        assert_eq!((shown.value(&b), shown.is_holder(&b)), (None, true), "no room");
        assert!(shown.bytes <= shown.max_bytes);
        let mut shown = Shown::new("/any/a".into(), 1_024);
        for peer in [b, c] {
            shown.add(peer, CheckedAnswer::Value(value(1)));
        }
        assert_eq!(bytes_of(&shown, &b), bytes_of(&shown, &c));
    }
}
