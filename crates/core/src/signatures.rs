//! The work of verifying signatures, and a memory of those that were good.
//!
//! Work is measured in the time of a *reference core*: one on which an Ed25519 signature takes 50
//! µs. What else takes is stated relative to that, so it is the same on each machine.
//!
//! Every check of a signature in this workspace is a [`Claim`]: one at a time in
//! [`Writer::verify_bytes`](crate::Writer::verify_bytes), several together in
//! [`SpaceRules::verify_together`](crate::SpaceRules::verify_together). A claim looks here whether
//! a [`SignatureMemory`] is in use on the current thread.
//!
//! **Invariants.** A memory changes no result, except that a reader that asks for the work that is
//! left refuses the rest of a value. Only signatures that were verified are remembered. The memory
//! is bounded. A memory that is in use is out of use again when the closure returns or panics.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};

/// Memory for one signature: a SHA-256 and its share of a tree. A guess.
const ENTRY: usize = 64;
/// Hashing a signature with what it signs: a base, and the time for each byte.
const HASH: Duration = Duration::from_micros(1);
const HASH_BYTE: Duration = Duration::from_nanos(4);

/// A memory of good signatures, by hash of rule, public key, message and signature. A clone is the
/// same memory.
///
/// ```
/// use std::time::Duration;
/// use libp2p_identity::Keypair;
/// use smart_record_core::{SignatureMemory, Writer};
///
/// let keypair = Keypair::generate_ed25519();
/// let (writer, signature) = (Writer::from(&keypair.public()), keypair.sign(b"text").unwrap());
/// let memory = SignatureMemory::new(1_024 * 1_024);
/// let verify = || memory.during(Duration::MAX, || writer.verify_bytes(b"text", &signature));
/// let (first, work) = verify();
/// let (again, less) = verify();
/// assert!(first.is_ok() && again.is_ok() && less < work);
/// assert_eq!((memory.counts().verified, memory.counts().remembered), (1, 1));
/// ```
#[derive(Clone)]
pub struct SignatureMemory(Arc<Mutex<Remembered>>);

/// How many signatures were checked with a [`SignatureMemory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SignatureCounts {
    /// Signatures that were verified, good or bad. Those of a batch that failed count again when
    /// they are verified alone.
    pub verified: u64,
    /// Signatures that were remembered as good.
    pub remembered: u64,
    /// Signatures and keys that were not looked at, because the allowed work was done.
    pub unread: u64,
}

/// Two generations. When the younger is full it becomes the older, and the older is dropped.
struct Remembered {
    /// Maximum number of signatures in a generation.
    max: usize,
    young: BTreeSet<[u8; 32]>,
    old: BTreeSet<[u8; 32]>,
    counts: SignatureCounts,
}

/// The memory in use on a thread.
struct Scope {
    memory: SignatureMemory,
    allowed: Duration,
    done: Duration,
}

thread_local! {
    static SCOPE: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// Puts the memory that was in use before back, with the work that was done since.
struct Outer(Option<Scope>);

impl Drop for Outer {
    fn drop(&mut self) {
        let inner = SCOPE.replace(self.0.take());
        if let Some(inner) = inner {
            spend(inner.done);
        }
    }
}

impl SignatureMemory {
    /// A memory of at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        let max = (max_bytes / ENTRY / 2).max(1);
        let (young, old) = (BTreeSet::new(), BTreeSet::new());
        let remembered = Remembered { max, young, old, counts: SignatureCounts::default() };
        Self(Arc::new(Mutex::new(remembered)))
    }

    /// Uses the memory while `check` runs on this thread. Returns also the work that its signatures
    /// have taken. Readers of values with many signatures refuse the rest of a value once this is
    /// more than `allowed`; the check that exceeds it is completed.
    pub fn during<T>(&self, allowed: Duration, check: impl FnOnce() -> T) -> (T, Duration) {
        let scope = Scope { memory: self.clone(), allowed, done: Duration::ZERO };
        let outer = Outer(SCOPE.replace(Some(scope)));
        let result = check();
        let done = SCOPE.with_borrow(|scope| scope.as_ref().map(|scope| scope.done));
        drop(outer);
        (result, done.unwrap_or_default())
    }

    /// How many signatures were checked.
    pub fn counts(&self) -> SignatureCounts {
        self.lock().counts
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a signature is remembered. It then stays for longer.
    fn knows(&self, id: &[u8; 32]) -> bool {
        let mut remembered = self.lock();
        let in_old = remembered.old.contains(id);
        let knows = in_old || remembered.young.contains(id);
        if in_old {
            remembered.insert(*id);
        }
        if knows {
            remembered.counts.remembered = remembered.counts.remembered.saturating_add(1);
        }
        knows
    }
}

impl Remembered {
    fn insert(&mut self, id: [u8; 32]) {
        if self.young.len() >= self.max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id);
    }
}

/// A signature, and the rule by which it is good or not.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    /// The name of the rule. What is good by one rule may be bad by another.
    pub(crate) rule: &'a str,
    pub(crate) public_key: &'a [u8],
    pub(crate) message: &'a [u8],
    pub(crate) signature: &'a [u8],
}

/// A signature that is not remembered as good.
pub(crate) struct Unknown(Option<(SignatureMemory, [u8; 32])>);

impl Claim<'_> {
    /// Does the check of the signature unless it is remembered as good.
    pub(crate) fn check<E>(
        self,
        work: Duration,
        verify: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(unknown) = self.unknown() else {
            return Ok(());
        };
        spend(work);
        let verified = verify();
        unknown.verified(verified.is_ok());
        verified
    }

    /// `None` if the signature is remembered as good.
    pub(crate) fn unknown(self) -> Option<Unknown> {
        let memory = SCOPE.with_borrow(|scope| scope.as_ref().map(|scope| scope.memory.clone()));
        let Some(memory) = memory else {
            return Some(Unknown(None));
        };
        let id = self.id();
        spend(hashing(self.message.len()));
        (!memory.knows(&id)).then_some(Unknown(Some((memory, id))))
    }

    fn id(self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [self.rule.as_bytes(), self.public_key, self.message, self.signature] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl Unknown {
    /// Counts that it was verified, and remembers it if it is good.
    pub(crate) fn verified(self, is_good: bool) {
        let Some((memory, id)) = self.0 else {
            return;
        };
        let mut remembered = memory.lock();
        remembered.counts.verified = remembered.counts.verified.saturating_add(1);
        if is_good {
            remembered.insert(id);
        }
    }
}

/// The work of hashing a signature of this many bytes.
pub(crate) fn hashing(message_bytes: usize) -> Duration {
    HASH.saturating_add(times(HASH_BYTE, message_bytes))
}

/// Counts work.
pub(crate) fn spend(work: Duration) {
    SCOPE.with_borrow_mut(|scope| {
        if let Some(scope) = scope {
            scope.done = scope.done.saturating_add(work);
        }
    });
}

/// Whether no more than the allowed work is done after this as well.
pub(crate) fn allows(work: Duration) -> bool {
    SCOPE.with_borrow(|scope| {
        scope.as_ref().is_none_or(|scope| scope.done.saturating_add(work) <= scope.allowed)
    })
}

/// The allowed work, if more than that is done. Counts what the caller refuses for it.
pub(crate) fn exceeded() -> Option<Duration> {
    SCOPE.with_borrow(|scope| {
        let scope = scope.as_ref().filter(|scope| scope.done > scope.allowed)?;
        let mut remembered = scope.memory.lock();
        remembered.counts.unread = remembered.counts.unread.saturating_add(1);
        Some(scope.allowed)
    })
}

/// `work` for each of `count`.
pub(crate) fn times(work: Duration, count: usize) -> Duration {
    work.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Shows the counts.
impl fmt::Debug for SignatureMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignatureMemory").field(&self.counts()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_micros(50);

    /// Checks signature `n`. Returns whether it was verified.
    fn is_verified(n: u8, is_good: bool) -> bool {
        let mut verified = false;
        let id = [n];
        let claim = Claim { rule: "", public_key: &id, message: b"message", signature: &id };
        let result = claim.check(WORK, || {
            verified = true;
            if is_good { Ok(()) } else { Err(()) }
        });
        assert_eq!(result.is_ok(), is_good);
        verified
    }

    #[test]
    fn a_good_signature_is_verified_once_and_a_bad_one_each_time() {
        let memory = SignatureMemory::new(1_024);
        assert!(is_verified(1, true) && is_verified(1, true), "no memory is in use");
        let (verified, work) = memory.during(Duration::MAX, || {
            [is_verified(1, true), is_verified(1, true), is_verified(2, false)]
        });
        assert_eq!(verified, [true, false, true]);
        assert!(work >= 2 * WORK && work < 3 * WORK, "{work:?}");
        assert!(memory.during(Duration::MAX, || is_verified(2, false)).0);
        assert_eq!(memory.counts(), SignatureCounts { verified: 3, remembered: 1, unread: 0 });
    }

    #[test]
    fn the_memory_is_bounded_and_what_is_in_use_stays() {
        let memory = SignatureMemory::new(10 * ENTRY);
        memory.during(Duration::MAX, || {
            for n in 0..200 {
                is_verified(n, true);
                assert!(n == 0 || !is_verified(0, true), "it was seen again and again");
            }
            assert!(is_verified(1, true), "long ago");
        });
        let remembered = memory.lock();
        assert!(remembered.young.len() <= 5 && remembered.old.len() <= 5);
    }

    #[test]
    fn more_work_than_allowed_is_told_until_the_end_of_the_call() {
        let memory = SignatureMemory::new(1_024);
        let ((), outer) = memory.during(Duration::MAX, || {
            memory.during(WORK, || {
                is_verified(1, true);
                assert_eq!(exceeded(), Some(WORK), "hashing takes some too");
            });
            assert_eq!(exceeded(), None);
        });
        assert!(outer > WORK, "the work of both");
        let panics = || memory.during(WORK, || panic!("expected by the test"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        spend(2 * WORK);
        assert_eq!((exceeded(), memory.counts().unread), (None, 1));
    }
}
