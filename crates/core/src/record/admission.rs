//! Write policies: who may write under a key.
//!
//! **Invariants.** A policy looks at the key and the writer only, and at the work of an update. So
//! replicas with the same policy admit the same updates.
//!
//! **Spec.** Peer ids in keys: [peer ids, string
//! representation](https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#string-representation).

use std::{collections::BTreeSet, fmt};

use libp2p_identity::PeerId;

use super::writer::Writer;
use crate::{key::RecordKey, peer::peer_id_from_text};

/// Decides who may write under a key.
///
/// It is called for each space of an incoming record, before any signature is checked, so it must
/// be fast. No method has a default, so a policy that wraps another says what it does with each.
pub trait Admission: Send + Sync + fmt::Debug + 'static {
    /// Checks that `writer` may write under `key`.
    ///
    /// # Errors
    /// [`PolicyRefusal`] if it may not.
    fn admit(&self, key: &RecordKey, writer: &Writer) -> Result<(), PolicyRefusal>;

    /// The bits of work that each update under `key` has to prove with a [`Stamp`](super::Stamp),
    /// withdrawals too: 0 if none has to. [`MinWork`] adds a minimum to another policy.
    fn min_work(&self, key: &RecordKey) -> u8;

    /// Checks that at least one writer may write under `key`.
    ///
    /// # Errors
    /// [`PolicyRefusal`] if no writer may.
    fn check_key(&self, key: &RecordKey) -> Result<(), PolicyRefusal>;
}

/// Why a writer may not write under a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyRefusal {
    /// The writer is not on the list.
    #[error("the writer is not on the list of allowed writers")]
    NotListed,
    /// The key belongs to another peer.
    #[error("the key belongs to {owner}")]
    NotOwner {
        /// The owner of the key.
        owner: PeerId,
    },
    /// The key names no owner.
    #[error("the key names no owner: its form is /namespace/<peer id>/…")]
    NoOwner,
    /// The stamp of an update proves too little work.
    #[error("the stamp proves {got} bits of work, and {min} are needed")]
    TooLittleWork {
        /// The bits of work that it proves.
        got: u8,
        /// The bits of work that are needed.
        min: u8,
    },
    /// A reason given by an application's own policy.
    #[error("{0}")]
    Other(String),
}

/// Lets every peer write. The default.
///
/// An open board promises that what is shown was signed by its writer and has not expired, that
/// nobody overwrites the space of another, and that what was withdrawn does not come back. It does
/// not promise a place: keys are free, so whoever makes enough of them pushes out the others. A
/// full board takes about half a minute of one core, or 0.1 s of a graphics card; one of ten
/// writers a second of one core. Writers whose updates have a [`Stamp`](super::Stamp) of at least
/// [`Limits::min_stamp_bits`](super::Limits::min_stamp_bits) go last: to push out `n` of them takes
/// `n` times the work that each has spent, and no more than that. Where a place matters, use
/// another policy; see `docs/security.md`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Admission for Open {
    fn admit(&self, _: &RecordKey, _: &Writer) -> Result<(), PolicyRefusal> {
        Ok(())
    }

    fn min_work(&self, _: &RecordKey) -> u8 {
        0
    }

    fn check_key(&self, _: &RecordKey) -> Result<(), PolicyRefusal> {
        Ok(())
    }
}

/// Lets those write whom another policy lets write, if each update proves at least so many bits of
/// work with a [`Stamp`](super::Stamp). The stamp of a day counts for all updates of that day.
///
/// ```
/// use smart_record_core::{Admission, MinWork, Open};
///
/// let policy = MinWork::new(20, Open);
/// assert_eq!(policy.min_work(&"/sr/lobby".into()), 20);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MinWork<A> {
    bits: u8,
    policy: A,
}

impl<A> MinWork<A> {
    /// A minimum of work beside another policy. Each bit doubles the work: 20 bits take some 0.1 s
    /// of one core, and less than a millisecond of a graphics card.
    pub const fn new(bits: u8, policy: A) -> Self {
        Self { bits, policy }
    }
}

impl<A: Admission> Admission for MinWork<A> {
    fn admit(&self, key: &RecordKey, writer: &Writer) -> Result<(), PolicyRefusal> {
        self.policy.admit(key, writer)
    }

    fn min_work(&self, key: &RecordKey) -> u8 {
        self.bits.max(self.policy.min_work(key))
    }

    fn check_key(&self, key: &RecordKey) -> Result<(), PolicyRefusal> {
        self.policy.check_key(key)
    }
}

/// Lets only the listed peers write.
#[derive(Clone, Debug, Default)]
pub struct AllowList(BTreeSet<PeerId>);

impl FromIterator<PeerId> for AllowList {
    fn from_iter<I: IntoIterator<Item = PeerId>>(writers: I) -> Self {
        Self(writers.into_iter().collect())
    }
}

impl Admission for AllowList {
    fn admit(&self, _: &RecordKey, writer: &Writer) -> Result<(), PolicyRefusal> {
        if self.0.contains(&writer.peer_id()) {
            return Ok(());
        }
        Err(PolicyRefusal::NotListed)
    }

    fn min_work(&self, _: &RecordKey) -> u8 {
        0
    }

    fn check_key(&self, _: &RecordKey) -> Result<(), PolicyRefusal> {
        Ok(())
    }
}

/// Lets only the peer named in a key `/namespace/<peer id>` or `/namespace/<peer id>/…` write
/// there. No peer may write under any other key. The peer id is in base58; the CID forms name no
/// owner.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyOwner;

impl KeyOwner {
    fn owner(key: &RecordKey) -> Result<PeerId, PolicyRefusal> {
        key.path()
            .split(|b| *b == b'/')
            .next()
            .and_then(|segment| std::str::from_utf8(segment).ok())
            .and_then(peer_id_from_text)
            .ok_or(PolicyRefusal::NoOwner)
    }
}

impl Admission for KeyOwner {
    fn admit(&self, key: &RecordKey, writer: &Writer) -> Result<(), PolicyRefusal> {
        let owner = Self::owner(key)?;
        if writer.peer_id() == owner {
            return Ok(());
        }
        Err(PolicyRefusal::NotOwner { owner })
    }

    fn min_work(&self, _: &RecordKey) -> u8 {
        0
    }

    fn check_key(&self, key: &RecordKey) -> Result<(), PolicyRefusal> {
        Self::owner(key).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::*;

    #[test]
    fn policies_admit_whom_they_say() {
        let (owner, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (owner, other) = (Writer::from(&owner.public()), Writer::from(&other.public()));
        for writer in [&owner, &other] {
            let id = writer.peer_id();
            let foreign = if writer == &owner { &other } else { &owner };
            for key in [format!("/sr/{id}"), format!("/sr/{id}/"), format!("/sr/{id}/a/b")] {
                let key = RecordKey::new(key);
                assert_eq!(KeyOwner.admit(&key, writer), Ok(()));
                assert_eq!(KeyOwner.check_key(&key), Ok(()));
                assert!(matches!(
                    KeyOwner.admit(&key, foreign),
                    Err(PolicyRefusal::NotOwner { owner }) if owner == id
                ));
            }
        }
        // A CID of a peer id, and a peer id in a longer form, name no owner.
        let cid = "/sr/bafzaajaiaejcbcui4poxicprsx6vfwznhs5f24wkm4e36hmucin7g5eiag2a6324";
        for key in ["/sr/lobby", "/sr/", "lobby", "", cid, "/sr/YsBk4NnmM7MsWK9/a"] {
            let key = RecordKey::new(key);
            assert_eq!(KeyOwner.admit(&key, &owner), Err(PolicyRefusal::NoOwner));
            assert_eq!(KeyOwner.check_key(&key), Err(PolicyRefusal::NoOwner));
        }
        let list: AllowList = [owner.peer_id()].into_iter().collect();
        assert_eq!(list.admit(&"/sr/a".into(), &owner), Ok(()));
        assert!(list.admit(&"/sr/a".into(), &other).is_err());
        assert_eq!(Open.admit(&"/sr/a".into(), &other), Ok(()));
        let nested = MinWork::new(5, MinWork::new(8, list));
        assert_eq!((nested.min_work(&"/sr/a".into()), Open.min_work(&"/sr/a".into())), (8, 0));
        assert!(nested.admit(&"/sr/a".into(), &other).is_err());
    }
}
