//! The known records of an ancestry chain, and how they descend from each other.
//!
//! **Invariants.** A chain is a set: the order of insertion and duplicates change no answer.
//! Answers rest on links, which are hashes, and never on heights, which an author can fake. If a
//! missing record could change an answer, the answer says so.
//!
//! **Spec.** IPRS, "Signed, based on ancestry (chain)".

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, btree_map},
};

use cid::Cid;

use super::{IprsError, IprsRecord, ancestry::Place};
use smart_record_core::RecordKey;

/// Records of the [`Ancestry`](super::Ancestry) scheme under one key.
///
/// ```
/// use libp2p_identity::Keypair;
/// use smart_record_core::RecordKey;
/// use smart_record_formats::iprs::{Ancestry, Chain, Relation};
///
/// let (key, keypair) = (RecordKey::new("/iprs/log"), Keypair::generate_ed25519());
/// let first = Ancestry::first("one").sign(&key, &keypair)?;
/// let second = Ancestry::child("two", &first)?.sign(&key, &keypair)?;
/// let third = Ancestry::child("three", &second)?.sign(&key, &keypair)?;
///
/// let mut chain = Chain::new(key);
/// chain.insert(first.clone())?;
/// chain.insert(third.clone())?;
/// let missing = [second.cid()].into();
/// assert_eq!(chain.relation(third.cid(), first.cid()), Relation::Unknown { missing });
/// chain.insert(second)?;
/// assert_eq!(chain.relation(third.cid(), first.cid()), Relation::Descendant);
/// # Ok::<(), smart_record_formats::iprs::ChainError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    key: RecordKey,
    records: BTreeMap<Cid, IprsRecord>,
}

/// Why a record cannot be part of a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The record has another key.
    #[error("a record of {other} in a chain of {own}")]
    OtherKey {
        /// The chain's key.
        own: RecordKey,
        /// The record's key.
        other: RecordKey,
    },
    /// The record is not of the ancestry scheme.
    #[error(transparent)]
    Record(#[from] IprsError),
}

/// Relation of one record of a chain to another, as far as the known records tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Relation {
    /// They are the same record.
    Same,
    /// It descends from the other.
    Descendant,
    /// The other descends from it.
    Ancestor,
    /// They are on two branches.
    Fork {
        /// The last common ancestor; `None` if the two have different first records.
        parent: Option<Cid>,
    },
    /// The answer depends on missing records.
    Unknown {
        /// The first missing record on each branch.
        missing: BTreeSet<Cid>,
    },
}

/// A branching point of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The record that has several children; `None` if the chain has several first records.
    pub parent: Option<Cid>,
    /// The children, the best first. The order ignores their descendants.
    pub children: Vec<Cid>,
}

/// A record with a height or version that contradicts its parent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FalseClaim {
    /// Its height is not one more than its parent's.
    Height {
        /// The record.
        record: Cid,
        /// The value in the record.
        claimed: u64,
        /// One more than its parent's height; `None` if there is no such number.
        expected: Option<u64>,
    },
    /// Its version is lower than its parent's, so the parent beats it.
    Version {
        /// The record.
        record: Cid,
        /// The value in the record.
        claimed: u64,
        /// The parent's version.
        at_least: u64,
    },
}

/// The known ancestors of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The ancestors that are known without a gap, starting with the parent.
    pub ancestors: Vec<Cid>,
    /// The first missing ancestor; `None` if the ancestors are complete.
    pub missing: Option<Cid>,
}

impl Chain {
    /// Creates a chain without records.
    pub const fn new(key: RecordKey) -> Self {
        Self { key, records: BTreeMap::new() }
    }

    /// Adds a record. Returns whether it was new. Records that contradict their parent are
    /// accepted: see [`Chain::lies`].
    ///
    /// # Errors
    /// [`ChainError`] if the record has another key or scheme.
    pub fn insert(&mut self, record: IprsRecord) -> Result<bool, ChainError> {
        if *record.key() != self.key {
            return Err(ChainError::OtherKey {
                own: self.key.clone(),
                other: record.key().clone(),
            });
        }
        Place::of(&record)?;
        Ok(match self.records.entry(record.cid()) {
            btree_map::Entry::Vacant(entry) => {
                entry.insert(record);
                true
            }
            btree_map::Entry::Occupied(mut entry) => {
                // Of two signatures of one record, the lesser is kept, so the order of insertion
                // does not matter.
                if record.signature() < entry.get().signature() {
                    entry.insert(record);
                }
                false
            }
        })
    }

    /// The key.
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The records, ordered by CID.
    pub fn records(&self) -> btree_map::Values<'_, Cid, IprsRecord> {
        self.records.values()
    }

    /// The record with a CID.
    pub fn get(&self, cid: &Cid) -> Option<&IprsRecord> {
        self.records.get(cid)
    }

    /// The best record. It decides forks.
    pub fn head(&self) -> Option<&IprsRecord> {
        self.records.values().max_by_key(rank)
    }

    /// The known ancestors of a record. `None` if the record itself is not known.
    pub fn lineage(&self, cid: Cid) -> Option<Lineage> {
        let mut lineage = Lineage { ancestors: Vec::new(), missing: None };
        let mut next = self.parent(&cid)?;
        // The loop ends: a link is the hash of its target, so there are no cycles.
        while let Some(cid) = next {
            match self.parent(&cid) {
                Some(parent) => {
                    lineage.ancestors.push(cid);
                    next = parent;
                }
                None => {
                    lineage.missing = Some(cid);
                    break;
                }
            }
        }
        Some(lineage)
    }

    /// The relation of `record` to `other`. Either may be known only as a link.
    pub fn relation(&self, record: Cid, other: Cid) -> Relation {
        if record == other {
            return Relation::Same;
        }
        let (path, missing) = self.path(record);
        let (other_path, other_missing) = self.path(other);
        if path.contains(&other) {
            return Relation::Descendant;
        }
        if other_path.contains(&record) {
            return Relation::Ancestor;
        }
        let on_other: BTreeSet<_> = other_path.into_iter().collect();
        if let Some(parent) = path.into_iter().find(|cid| on_other.contains(cid)) {
            return Relation::Fork { parent: Some(parent) };
        }
        let missing: BTreeSet<_> = missing.into_iter().chain(other_missing).collect();
        if missing.is_empty() {
            return Relation::Fork { parent: None };
        }
        Relation::Unknown { missing }
    }

    /// The record and its known ancestors, starting with the record. A missing ancestor is the last
    /// element, and is also returned separately.
    fn path(&self, cid: Cid) -> (Vec<Cid>, Option<Cid>) {
        let lineage =
            self.lineage(cid).unwrap_or(Lineage { ancestors: Vec::new(), missing: Some(cid) });
        let Lineage { ancestors, missing } = lineage;
        ([cid].into_iter().chain(ancestors).chain(missing).collect(), missing)
    }

    /// The forks of the known records, ordered by parent. To choose between the ends of branches,
    /// use [`Chain::head`].
    pub fn forks(&self) -> Vec<Fork> {
        let mut children = BTreeMap::<Option<Cid>, Vec<&IprsRecord>>::new();
        for (cid, record) in &self.records {
            if let Some(parent) = self.parent(cid) {
                children.entry(parent).or_default().push(record);
            }
        }
        children
            .into_iter()
            .filter(|(_, children)| children.len() > 1)
            .map(|(parent, mut children)| {
                children.sort_by_key(|child| Reverse(rank(child)));
                Fork { parent, children: children.into_iter().map(IprsRecord::cid).collect() }
            })
            .collect()
    }

    /// The records without children, the best first. There is one if no record is missing and there
    /// is no fork.
    pub fn tips(&self) -> Vec<&IprsRecord> {
        let parents: BTreeSet<_> =
            self.records.keys().filter_map(|cid| self.parent(cid)?).collect();
        let mut tips: Vec<_> =
            self.records.values().filter(|record| !parents.contains(&record.cid())).collect();
        tips.sort_by_key(|tip| Reverse(rank(tip)));
        tips
    }

    /// The CIDs of parents that are not in the set.
    pub fn missing(&self) -> BTreeSet<Cid> {
        let parents = self.records.keys().filter_map(|cid| self.parent(cid)?);
        parents.filter(|parent| !self.records.contains_key(parent)).collect()
    }

    /// The records whose height or version contradicts their parent's, where the parent is known.
    /// Their authors have signed false claims, which let a record beat others that it should not
    /// beat.
    pub fn lies(&self) -> Vec<FalseClaim> {
        let mut lies = Vec::new();
        for (cid, record) in &self.records {
            let Ok(Place { height: claimed, parent: Some(parent) }) = Place::read(record.record())
            else {
                continue;
            };
            let Some(parent) = self.records.get(&parent) else { continue };
            let Ok(place) = Place::read(parent.record()) else { continue };
            let expected = place.height.checked_add(1);
            if expected != Some(claimed) {
                lies.push(FalseClaim::Height { record: *cid, claimed, expected });
            }
            if record.version() < parent.version() {
                let (claimed, at_least) = (record.version(), parent.version());
                lies.push(FalseClaim::Version { record: *cid, claimed, at_least });
            }
        }
        lies
    }

    /// The parent of a known record. The inner `None` means the first record of a chain.
    fn parent(&self, cid: &Cid) -> Option<Option<Cid>> {
        let place = Place::read(self.records.get(cid)?.record()).ok()?;
        Some(place.parent)
    }
}

/// The order of the scheme. [`Chain::insert`] has checked that each record has a height.
fn rank(record: &&IprsRecord) -> (u64, Option<u64>, Cid) {
    let height = Place::read(record.record()).ok().map(|place| place.height);
    (record.version(), height, record.cid())
}
