//! What each holder has shown, each version of a space and each value kept once.
//!
//! **Invariants.** However many holders show the same, its bytes are kept once; of each holder a
//! number for each version is kept beside it. Versions and numbers together come to no more than
//! twice the bytes of the largest record. Of what goes beyond that, it is forgotten who has shown
//! it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use libp2p_identity::PeerId;
use smart_record_core::{Position, RecordKey, SmartRecord, Space, Writer};

use super::joined::Said;

/// Bytes that an update takes beside its own: its signature, position and times. A guess.
const UPDATE: usize = 160;
/// Bytes that a version takes beside its updates: its writer, and its places in the maps. A guess.
const VERSION: usize = 160;
/// Bytes that it takes to know that a holder has shown a version.
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
    /// For records of at most so many bytes.
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

    /// A holder has shown this. Of values its latest counts, of spaces all that it has shown.
    pub(super) fn add(&mut self, peer: PeerId, said: Said) {
        match said {
            Said::Record(record) => {
                for (writer, space) in record.into_spaces() {
                    let version = self.version_of_space(writer, space);
                    self.holders.entry(peer).or_default().extend(version);
                }
            }
            Said::Value(value) => {
                let version = self.version_of_value(value);
                self.holders.insert(peer, version.into_iter().collect());
            }
        }
    }

    fn version_of_space(&mut self, writer: Writer, space: Space) -> Option<u32> {
        let is_it = |number: &u32| matches!(self.version(*number), Some(Version::Space(_, it)) if *it == space);
        let mut numbers = self.spaces.get(&writer).into_iter().flatten().copied();
        if let Some(known) = numbers.find(is_it) {
            return self.take_room(NUMBER).then_some(known);
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
            return u32::try_from(known).ok().filter(|_| self.take_room(NUMBER));
        }
        self.push(value.len().saturating_add(VERSION), Version::Value(value))
    }

    fn push(&mut self, bytes: usize, version: Version) -> Option<u32> {
        let number = u32::try_from(self.versions.len()).ok()?;
        if !self.take_room(bytes) {
            return None;
        }
        self.versions.push(version);
        Some(number)
    }

    /// Whether there is room for so many bytes more; if so, it is taken.
    fn take_room(&mut self, bytes: usize) -> bool {
        let with = self.bytes.saturating_add(bytes);
        let has_room = with <= self.max_bytes;
        if has_room {
            self.bytes = with;
        }
        has_room
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

    /// What a peer has shown, as far as that is remembered.
    pub(crate) fn said(&self, peer: &PeerId) -> Option<Said> {
        if let Some(value) = self.value(peer) {
            return Some(Said::Value(value.clone()));
        }
        let mut record = SmartRecord::new(self.key.clone());
        for version in self.versions_of(peer) {
            if let Version::Space(writer, space) = version {
                record.join_space(writer.clone(), space.clone());
            }
        }
        (record.spaces().len() > 0).then_some(Said::Record(record))
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

    /// Where the first bytes of what a peer has shown are.
    fn bytes_of(shown: &Shown, peer: &PeerId) -> *const u8 {
        match shown.said(peer).unwrap() {
            Said::Record(record) => {
                record.spaces().next().unwrap().1.updates().next().unwrap().as_bytes().as_ptr()
            }
            Said::Value(value) => value.as_ptr(),
        }
    }

    /// As packets of their own bring it.
    fn read(record: &SmartRecord) -> Said {
        let bytes = Bytes::from(record.encode());
        Said::Record(SmartRecord::decode(record.key(), bytes, &Limits::default()).unwrap())
    }

    #[test]
    fn what_many_show_is_kept_once_and_no_more_than_twice_a_record() {
        let [one, two] = records();
        let mut shown = Shown::new("/sr/a".into(), 4_096);
        let [first, other] = [(); 2].map(|()| PeerId::random());
        shown.add(first, read(&one));
        let kept = shown.bytes;
        let peers: Vec<_> = std::iter::repeat_with(PeerId::random).take(100).collect();
        for peer in &peers {
            shown.add(*peer, read(&one));
            assert_eq!(bytes_of(&shown, peer), bytes_of(&shown, &first));
            assert_eq!(shown.said(peer), Some(read(&one)));
        }
        assert_eq!(shown.bytes, kept + 100 * NUMBER);
        shown.add(other, read(&two));
        assert_eq!(shown.said(&other), Some(read(&two)), "another version");
        let (writer, space) = two.spaces().next().unwrap();
        let holders = shown.holders_of(writer, space.newest().unwrap());
        assert_eq!(holders.collect::<Vec<_>>(), [other]);

        let mut shown = Shown::new("/sr/a".into(), kept / 2);
        shown.add(first, read(&one));
        shown.add(other, read(&two));
        assert_eq!(shown.said(&first), Some(read(&one)));
        assert_eq!(shown.said(&other), None, "there is no room for another");
        assert!(shown.is_holder(&other));
        for peer in peers {
            shown.add(peer, read(&one));
        }
        assert!(shown.bytes <= kept, "nor for more numbers");
    }

    #[test]
    fn of_a_space_all_is_kept_that_a_holder_has_shown() {
        let ([one, two], peer) = (records(), PeerId::random());
        let mut shown = Shown::new("/sr/a".into(), 4_096);
        for record in [&one, &two] {
            shown.add(peer, read(record));
        }
        let mut both = one.clone();
        both.join(two).unwrap();
        assert_eq!(shown.said(&peer), Some(Said::Record(both)));
    }

    #[test]
    fn of_values_the_latest_is_kept_once_and_as_many_as_there_is_room_for() {
        let value = |byte| Bytes::from(vec![byte; 50]);
        let mut shown = Shown::new("/any/a".into(), VERSION + 50);
        let [a, b, c] = [(); 3].map(|()| PeerId::random());
        shown.add(a, Said::Value(value(0)));
        shown.add(a, Said::Value(value(1)));
        assert_eq!(shown.value(&a), Some(&value(1)));
        shown.add(b, Said::Value(value(2)));
        assert_eq!((shown.value(&b), shown.is_holder(&b)), (None, true), "no room");
        assert!(shown.bytes <= shown.max_bytes);
        let mut shown = Shown::new("/any/a".into(), 1_024);
        for peer in [b, c] {
            shown.add(peer, Said::Value(value(1)));
        }
        assert_eq!(bytes_of(&shown, &b), bytes_of(&shown, &c));
    }
}
