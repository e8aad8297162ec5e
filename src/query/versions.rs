//! Deduplication of what holders have shown: each version of a space and each value is stored once.
//!
//! **Invariants.** Content that several holders show is stored once. The total is bounded by twice
//! the bytes of the largest record; for content beyond that, the holders are not remembered.

use std::collections::BTreeMap;

use bytes::Bytes;
use smart_record_core::{SmartRecord, Space, Writer};

use super::joined::CheckedAnswer;

/// Overhead of an update beside its bytes: signature, position and times. A guess.
const UPDATE: usize = 160;

/// The versions shown so far.
#[derive(Clone, Debug)]
pub(super) struct Versions {
    spaces: BTreeMap<Writer, Vec<Space>>,
    values: Vec<Bytes>,
    bytes: usize,
    max_bytes: usize,
}

impl Versions {
    /// Returns an empty set for records of at most `record_bytes`.
    pub(super) const fn new(record_bytes: usize) -> Self {
        let max_bytes = record_bytes.saturating_mul(2);
        Self { spaces: BTreeMap::new(), values: Vec::new(), bytes: 0, max_bytes }
    }

    /// Returns equal content that shares its bytes with earlier answers.
    pub(super) fn share(&mut self, shown: CheckedAnswer) -> CheckedAnswer {
        match shown {
            CheckedAnswer::Record(record) => CheckedAnswer::Record(self.share_record(record)),
            CheckedAnswer::Value(value) => {
                if let Some(shared) = self.values.iter().find(|shared| **shared == value) {
                    return CheckedAnswer::Value(shared.clone());
                }
                if self.reserve(value.len()) {
                    self.values.push(value.clone());
                }
                CheckedAnswer::Value(value)
            }
        }
    }

    fn share_record(&mut self, record: SmartRecord) -> SmartRecord {
        let mut shared = SmartRecord::new(record.key().clone());
        for (writer, space) in record.into_spaces() {
            let known = self.spaces.get(&writer).into_iter().flatten();
            let known = known.into_iter().find(|known| **known == space).cloned();
            if let Some(known) = known {
                shared.join_space(writer, known);
                continue;
            }
            let lens = space.updates().map(|update| update.as_bytes().len().saturating_add(UPDATE));
            if self.reserve(lens.fold(0, usize::saturating_add)) {
                self.spaces.entry(writer.clone()).or_default().push(space.clone());
                shared.join_space(writer, space);
            }
        }
        shared
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

    fn bytes_of(shown: &CheckedAnswer) -> *const u8 {
        match shown {
            CheckedAnswer::Record(record) => {
                record.spaces().next().unwrap().1.updates().next().unwrap().as_bytes().as_ptr()
            }
            CheckedAnswer::Value(value) => value.as_ptr(),
        }
    }

    #[test]
    fn equal_content_is_stored_once_and_the_total_is_bounded() {
        let [one, two] = records();
        // As if it came in two packets.
        let read = |record: &SmartRecord| {
            let bytes = Bytes::from(record.encode());
            CheckedAnswer::Record(
                SmartRecord::decode(record.key(), bytes, &Limits::default()).unwrap(),
            )
        };
        let mut versions = Versions::new(4_096);
        let first = versions.share(read(&one));
        let kept = versions.bytes;
        for _ in 0..100 {
            let again = versions.share(read(&one));
            assert_eq!((bytes_of(&again), &again), (bytes_of(&first), &first));
        }
        assert_eq!(versions.bytes, kept);
        assert_eq!(versions.share(read(&two)), read(&two), "another version");

        let mut versions = Versions::new(kept / 2);
        assert_eq!(versions.share(read(&one)), read(&one));
        let CheckedAnswer::Record(shared) = versions.share(read(&two)) else { panic!() };
        assert_eq!(shared.spaces().len(), 0, "no room for another version");
    }

    #[test]
    fn equal_values_are_stored_once() {
        let mut versions = Versions::new(100);
        let [a, b] =
            [(); 2].map(|()| versions.share(CheckedAnswer::Value(Bytes::from(vec![1; 50]))));
        assert_eq!(bytes_of(&a), bytes_of(&b));
        assert_eq!(versions.bytes, 50);
    }
}
