//! A set of records of one ancestry chain: what is known of how they descend from each other.
//!
//! **Invariants.** A chain is a set: in which order its records came, or how often, changes no answer. An answer
//! rests on links only, each of which is a hash, never on heights, which may be lies; where a record is missing
//! that could change it, the answer says so.
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
    /// It stands under another key.
    #[error("a record of {other} in a chain of {own}")]
    OtherKey {
        /// The chain's key.
        own: RecordKey,
        /// The record's key.
        other: RecordKey,
    },
    /// It is not a record of the ancestry scheme.
    #[error(transparent)]
    Record(#[from] IprsError),
}

/// How one record of a chain stands to another, as far as the known records tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Relation {
    /// It is the other.
    Same,
    /// It comes after the other.
    Descendant,
    /// It comes before the other.
    Ancestor,
    /// They are on two branches.
    Fork {
        /// The last record that both descend from; `None` if each has a beginning of its own.
        parent: Option<Cid>,
    },
    /// That depends on records that are not here.
    Unknown {
        /// The next that are missing.
        missing: BTreeSet<Cid>,
    },
}

/// Where a chain branches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The record that has several children; `None` if the chain has several beginnings.
    pub parent: Option<Cid>,
    /// The children, the best first. This is the order of the children, not of what descends from them.
    pub children: Vec<Cid>,
}

/// A record that does not follow from its parent as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lie {
    /// Its height is not one more than its parent's.
    Height {
        /// The record.
        record: Cid,
        /// What it says.
        claimed: u64,
        /// One more than its parent's height; `None` if there is no such number.
        expected: Option<u64>,
    },
    /// Its version is lower than its parent's, so that the parent would beat it.
    Version {
        /// The record.
        record: Cid,
        /// What it says.
        claimed: u64,
        /// The parent's version.
        at_least: u64,
    },
}

/// How far back a record can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The ancestors that are known without a gap, the parent first.
    pub ancestors: Vec<Cid>,
    /// The next one that is missing; `None` if the last one known is the first of the chain.
    pub missing: Option<Cid>,
}

impl Chain {
    /// A chain of which nothing is known.
    pub const fn new(key: RecordKey) -> Self {
        Self { key, records: BTreeMap::new() }
    }

    /// Adds a record; says whether it was new. Lies are not refused: see [`Chain::lies`].
    ///
    /// # Errors
    /// [`ChainError`] if it is one of another key or scheme.
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
                // Of two signatures of one record the lesser stays, whichever came first.
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

    /// A record.
    pub fn get(&self, cid: &Cid) -> Option<&IprsRecord> {
        self.records.get(cid)
    }

    /// The best record; forks are decided by this.
    pub fn head(&self) -> Option<&IprsRecord> {
        self.records.values().max_by_key(rank)
    }

    /// How far back a record can be followed. `None` if the record itself is not known.
    pub fn lineage(&self, cid: Cid) -> Option<Lineage> {
        let mut lineage = Lineage { ancestors: Vec::new(), missing: None };
        let mut next = self.parent(&cid)?;
        // This ends: a link is a hash of what it leads to, so there are no circles.
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

    /// How `record` stands to `other`. Either may be known as a link only.
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

    /// The record and all that is linked to from it, down to the first of the chain or to one that is missing,
    /// which is included and returned besides.
    fn path(&self, cid: Cid) -> (Vec<Cid>, Option<Cid>) {
        let lineage =
            self.lineage(cid).unwrap_or(Lineage { ancestors: Vec::new(), missing: Some(cid) });
        let Lineage { ancestors, missing } = lineage;
        ([cid].into_iter().chain(ancestors).chain(missing).collect(), missing)
    }

    /// Where the known records branch, ordered by the record where they do. Ends of branches are compared with
    /// [`Chain::head`].
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

    /// The records that no other one follows, the best first: one if nothing is missing and there is no fork.
    pub fn tips(&self) -> Vec<&IprsRecord> {
        let parents: BTreeSet<_> =
            self.records.keys().filter_map(|cid| self.parent(cid)?).collect();
        let mut tips: Vec<_> =
            self.records.values().filter(|record| !parents.contains(&record.cid())).collect();
        tips.sort_by_key(|tip| Reverse(rank(tip)));
        tips
    }

    /// The parents that are linked to but not here.
    pub fn missing(&self) -> BTreeSet<Cid> {
        let parents = self.records.keys().filter_map(|cid| self.parent(cid)?);
        parents.filter(|parent| !self.records.contains_key(parent)).collect()
    }

    /// The records whose height or version does not follow from their parent's, as far as the parents are
    /// here. Their authors have signed a lie, which makes a record beat others that it should not beat.
    pub fn lies(&self) -> Vec<Lie> {
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
                lies.push(Lie::Height { record: *cid, claimed, expected });
            }
            if record.version() < parent.version() {
                let (claimed, at_least) = (record.version(), parent.version());
                lies.push(Lie::Version { record: *cid, claimed, at_least });
            }
        }
        lies
    }

    /// The parent's CID of a known record, which the first one of a chain does not have.
    fn parent(&self, cid: &Cid) -> Option<Option<Cid>> {
        let place = Place::read(self.records.get(cid)?.record()).ok()?;
        Some(place.parent)
    }
}

/// The order of the scheme. Each record of a chain has a place: that was checked when it was inserted.
fn rank(record: &&IprsRecord) -> (u64, Option<u64>, Cid) {
    let height = Place::read(record.record()).ok().map(|place| place.height);
    (record.version(), height, record.cid())
}
