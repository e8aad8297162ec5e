//! The writer's own spaces: writing to them, and keeping them in the network.
//!
//! A space is sent again once an interval, and soon after a new peer close to its key has turned up. A document that
//! is *kept* is also signed anew at half of its life.
//!
//! **Invariants.** Pure: `now` and the results come in, what is to be done goes out. Writes to one space are signed in the
//! order they came. A write that is refused leaves no trace.
//!
//! **Spec.** `docs/design.md`, sections "Update" and "Behaviour and client".

use std::{collections::BTreeMap, time::Duration};

use libp2p_identity::{Keypair, PeerId, PublicKey};
use sha2::{Digest, Sha256};

use crate::{
    key::RecordKey,
    node::Dict,
    record::{Limits, SignError, SignedUpdate, SmartRecord, SpaceSigner},
    time::Timestamp,
};

/// A write to an own space.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Merge(Dict, Duration),
    Replace(Dict, Duration),
    /// As `Merge`, and signed anew for as long as the space is not replaced or withdrawn.
    Keep(Dict, Duration),
    Withdraw,
}

impl Write {
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Merge(..) => "merge",
            Self::Replace(..) => "replace",
            Self::Keep(..) => "keep",
            Self::Withdraw => "withdraw",
        }
    }
}

/// What is to be done for an own space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send it again.
    Resend,
    /// Sign what is kept anew, then send it.
    Renew,
}

#[derive(Clone, Debug)]
struct Kept {
    document: Dict,
    ttl: Duration,
    renew_at: Timestamp,
}

/// One own space.
#[derive(Clone, Debug)]
struct OwnSpace {
    signer: SpaceSigner,
    kept: Vec<Kept>,
    resend_at: Timestamp,
}

/// All own spaces, by key.
#[derive(Debug)]
pub(super) struct OwnSpaces {
    keypair: Keypair,
    local: PeerId,
    interval: Duration,
    topology_delay: Duration,
    spaces: BTreeMap<RecordKey, OwnSpace>,
}

impl OwnSpaces {
    pub(super) fn new(keypair: Keypair, interval: Duration, topology_delay: Duration) -> Self {
        let local = keypair.public().to_peer_id();
        Self { keypair, local, interval, topology_delay, spaces: BTreeMap::new() }
    }

    pub(super) fn public_key(&self) -> PublicKey {
        self.keypair.public()
    }

    pub(super) fn knows(&self, key: &RecordKey) -> bool {
        self.spaces.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.spaces.keys()
    }

    /// Nothing is kept alive any more.
    pub(super) fn clear(&mut self) {
        self.spaces.clear();
    }

    /// Takes note of what is known of the space already.
    pub(super) fn resume(&mut self, key: &RecordKey, limits: &Limits, record: &SmartRecord) {
        self.space(key, limits).signer.resume(record);
    }

    fn space(&mut self, key: &RecordKey, limits: &Limits) -> &mut OwnSpace {
        let keypair = &self.keypair;
        self.spaces.entry(key.clone()).or_insert_with(|| OwnSpace {
            signer: SpaceSigner::new(key.clone(), keypair.clone(), limits.clone()),
            kept: Vec::new(),
            resend_at: Timestamp::MAX,
        })
    }

    /// Signs a write. Returns the update, the whole space, and what undoes it all.
    pub(super) fn write(
        &mut self,
        key: &RecordKey,
        limits: &Limits,
        write: &Write,
        now: Timestamp,
    ) -> Result<(SignedUpdate, SmartRecord, Undo), SignError> {
        let resend_at = now.saturating_add(self.jittered(key, self.interval));
        let local = self.local;
        let space = self.space(key, limits);
        let undo = Undo { key: key.clone(), space: space.clone() };
        let update = match write {
            Write::Merge(document, ttl) => space.signer.merge(document.clone(), now, *ttl),
            Write::Keep(document, ttl) => {
                let update = space.signer.merge(document.clone(), now, *ttl);
                if update.is_ok() {
                    let renew_at = now.saturating_add(half_life(&local, key, *ttl));
                    space.kept.push(Kept { document: document.clone(), ttl: *ttl, renew_at });
                }
                update
            }
            Write::Replace(document, ttl) => space.signer.replace(document.clone(), now, *ttl),
            Write::Withdraw => space.signer.withdraw(now),
        }?;
        if matches!(write, Write::Replace(..) | Write::Withdraw) {
            space.kept.clear();
        }
        space.resend_at = resend_at;
        Ok((update, space.signer.record(now), undo))
    }

    /// Undoes the last write.
    pub(super) fn undo(&mut self, undo: Undo) {
        self.spaces.insert(undo.key, undo.space);
    }

    /// A peer has turned up that is one of the closest to the key.
    pub(super) fn on_new_peer(&mut self, key: &RecordKey, now: Timestamp) {
        let delay = self.topology_delay;
        let delay = delay.saturating_add(self.jittered(key, delay));
        if let Some(space) = self.spaces.get_mut(key) {
            // Not later than it would have been: those who come one by one do not put it off for ever.
            space.resend_at = space.resend_at.min(now.saturating_add(delay));
        }
    }

    /// When there is something to do next.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.spaces.values().map(OwnSpace::next_at).min()
    }

    /// A space for which there is something to do; it will not be named again for the same reason. Spaces of which
    /// nothing is left are dropped.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<(RecordKey, Due)> {
        loop {
            let (key, space) = self.spaces.iter().find(|(_, space)| space.next_at() <= now)?;
            let key = key.clone();
            let is_left = !space.kept.is_empty() || space.signer.record(now).spaces().len() > 0;
            let resend_at = now.saturating_add(self.jittered(&key, self.interval));
            if !is_left {
                self.spaces.remove(&key);
                continue;
            }
            let space = self.spaces.get_mut(&key)?;
            let is_renewal = space.kept.iter().any(|kept| kept.renew_at <= now);
            space.resend_at = resend_at;
            return Some((key, if is_renewal { Due::Renew } else { Due::Resend }));
        }
    }

    /// Signs anew what is kept under a key and past half of its life.
    pub(super) fn renew(&mut self, key: &RecordKey, now: Timestamp) -> Result<(), SignError> {
        let Some(space) = self.spaces.get_mut(key) else {
            return Ok(());
        };
        for kept in space.kept.iter_mut().filter(|kept| kept.renew_at <= now) {
            kept.renew_at = now.saturating_add(half_life(&self.local, key, kept.ttl));
            space.signer.merge(kept.document.clone(), now, kept.ttl)?;
        }
        Ok(())
    }

    /// The whole space under a key.
    pub(super) fn record(&self, key: &RecordKey, now: Timestamp) -> Option<SmartRecord> {
        let record = self.spaces.get(key)?.signer.record(now);
        (record.spaces().len() > 0).then_some(record)
    }

    fn jittered(&self, key: &RecordKey, duration: Duration) -> Duration {
        jittered(&self.local, key, duration)
    }
}

impl OwnSpace {
    fn next_at(&self) -> Timestamp {
        self.kept.iter().map(|kept| kept.renew_at).fold(self.resend_at, Timestamp::min)
    }
}

/// A space as it was before a write.
#[derive(Debug)]
pub(super) struct Undo {
    key: RecordKey,
    space: OwnSpace,
}

/// Between three quarters and all of it, by key and peer: so neither all keys of a peer nor all peers of a key have their
/// turn at the same time, and no randomness is needed.
fn jittered(local: &PeerId, key: &RecordKey, duration: Duration) -> Duration {
    let hash = Sha256::new().chain_update(key.digest()).chain_update(local.to_bytes()).finalize();
    let [byte, ..]: [u8; 32] = hash.into();
    // A quarter, times the byte, by 256.
    let part = share(duration, 4 * 256).saturating_mul(u32::from(byte));
    duration.saturating_sub(part)
}

/// When a document that is kept is renewed: well before it expires, so that a lost run or two does no harm.
fn half_life(local: &PeerId, key: &RecordKey, ttl: Duration) -> Duration {
    jittered(local, key, share(ttl, 2))
}

fn share(duration: Duration, of: u32) -> Duration {
    duration.checked_div(of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);
    const DELAY: Duration = Duration::from_secs(10);

    fn spaces() -> OwnSpaces {
        OwnSpaces::new(Keypair::generate_ed25519(), HOUR, DELAY)
    }

    #[test]
    fn no_secret_shows() {
        let keypair = Keypair::generate_ed25519();
        let mut spaces = OwnSpaces::new(keypair.clone(), HOUR, DELAY);
        let key = RecordKey::new("/sr/a");
        let write = Write::Merge(says("x"), HOUR);
        let undo = spaces.write(&key, &Limits::default(), &write, NOW).unwrap().2;
        let secret = keypair.try_into_ed25519().unwrap();
        let decimals = format!("{:?}", secret.secret().as_ref());
        let shown = format!("{spaces:?} {undo:?}");
        assert!(!shown.contains(decimals.trim_matches(['[', ']'])), "{shown}");
    }

    fn says(text: &str) -> Dict {
        [("text", text)].into_iter().collect()
    }

    fn write(spaces: &mut OwnSpaces, key: &RecordKey, write: Write) -> SignedUpdate {
        spaces.write(key, &Limits::default(), &write, NOW).unwrap().0
    }

    #[test]
    fn a_space_is_sent_again_within_the_interval_until_it_has_expired() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        // It has never been written before, so nothing older has to be outlived.
        spaces.resume(&key, &Limits::default(), &SmartRecord::new(key.clone()));
        write(&mut spaces, &key, Write::Merge(says("x"), 2 * HOUR));
        assert_eq!(spaces.due(NOW.saturating_add(HOUR * 3 / 4 - DELAY)), None);
        assert_eq!(spaces.due(NOW.saturating_add(HOUR)), Some((key.clone(), Due::Resend)));
        assert_eq!(spaces.due(NOW.saturating_add(HOUR)), None, "once");
        assert_eq!(spaces.due(NOW.saturating_add(2 * HOUR)), None);
        assert!(!spaces.knows(&key), "nothing is left of it");
    }

    #[test]
    fn what_is_kept_is_renewed_well_before_it_expires_until_withdrawn() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        let ttl = Duration::from_secs(600);
        let first = write(&mut spaces, &key, Write::Keep(says("x"), ttl));
        let mut now = NOW;
        for _ in 0..10 {
            let at = spaces.next_at().unwrap();
            let life = at.saturating_since(now);
            assert!(life <= ttl / 2 && life >= ttl * 3 / 8, "{life:?}");
            now = at;
            assert_eq!(spaces.due(now), Some((key.clone(), Due::Renew)));
            spaces.renew(&key, now).unwrap();
            assert_eq!(spaces.due(now), None);
            let record = spaces.record(&key, now).unwrap();
            let view = record.view(now);
            let space = view.iter().next().unwrap().1;
            assert_eq!(space.expires_at, now.saturating_add(ttl));
            assert!(space.seq > first.seq());
        }
        spaces.write(&key, &Limits::default(), &Write::Withdraw, now).unwrap();
        assert!(spaces.next_at().unwrap() > now.saturating_add(HOUR / 2), "no renewal any more");
        assert!(spaces.record(&key, now).unwrap().view(now).is_empty());
    }

    #[test]
    fn new_peers_have_it_sent_once_soon_however_many_come() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        write(&mut spaces, &key, Write::Merge(says("x"), 2 * HOUR));
        for second in 0..100 {
            spaces.on_new_peer(&key, NOW.saturating_add(Duration::from_secs(second)));
        }
        let at = spaces.next_at().unwrap();
        assert!(at <= NOW.saturating_add(2 * DELAY) && at >= NOW.saturating_add(DELAY));
        assert_eq!(spaces.due(at), Some((key, Due::Resend)));
        assert_eq!(spaces.due(at), None);
    }

    #[test]
    fn a_write_that_was_refused_leaves_no_trace() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        write(&mut spaces, &key, Write::Merge(says("x"), HOUR));
        let before = spaces.record(&key, NOW);
        let again = Write::Merge(says("y"), HOUR);
        let (_, _, undo) = spaces.write(&key, &Limits::default(), &again, NOW).unwrap();
        assert_ne!(spaces.record(&key, NOW), before);
        spaces.undo(undo);
        assert_eq!(spaces.record(&key, NOW), before);
    }
}
