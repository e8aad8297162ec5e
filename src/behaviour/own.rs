//! The writer's own spaces: writing to them, and keeping them in the network.
//!
//! A space is sent again once an interval, and soon after a new peer close to its key has turned up. A document that
//! is *kept* is also signed anew at half of its life, or at once after a clock that was far ahead was set right.
//!
//! **Invariants.** Pure: `now` and the results come in, what is to be done goes out. Writes to one space are signed in the
//! order they came. A write that is refused leaves no trace. The work does not grow with the number of spaces.
//!
//! **Spec.** `docs/design.md`, sections "Signing" and "Behaviour and client".

use std::{collections::BTreeMap, time::Duration};

use libp2p_identity::{Keypair, PeerId};

use super::turns::Turns;
use crate::{
    client::Write,
    schedule::{Due, half_life, jittered},
    store::storage::RecordId,
};
use smart_record_core::{
    KeptDocument, Limits, RecordKey, SignError, SignedUpdate, SmartRecord, SpaceSigner, Timestamp,
};

/// After how long a renewal that has failed is tried again; twice as long after each further one, until it is due anyway.
const FIRST_RETRY: Duration = Duration::from_secs(30);

/// What is to be done for an own space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Send it again.
    Resend,
    /// Sign what is kept anew, then send it.
    Renew,
}

/// One own space.
#[derive(Clone, Debug)]
struct OwnSpace {
    signer: SpaceSigner,
    /// What is signed anew, and when.
    kept: Option<(KeptDocument, Due)>,
    /// After how long it is tried again if it cannot be signed anew.
    retry: Duration,
    /// When it is sent again; `None` until it is written to: until then it is only known what it says.
    resend: Option<Due>,
    /// How far the farthest is of the peers closest to the key, as of the last time that somebody looked; `None`: there is room
    /// for more.
    reach: Option<RecordId>,
}

/// All own spaces, by key.
#[derive(Debug)]
pub(super) struct OwnSpaces {
    keypair: Keypair,
    local: PeerId,
    interval: Duration,
    topology_delay: Duration,
    spaces: BTreeMap<RecordKey, OwnSpace>,
    turns: Turns,
}

impl OwnSpaces {
    pub(super) fn new(keypair: Keypair, interval: Duration, topology_delay: Duration) -> Self {
        let local = keypair.public().to_peer_id();
        let (spaces, turns) = (BTreeMap::new(), Turns::default());
        Self { keypair, local, interval, topology_delay, spaces, turns }
    }

    /// Whether the space was written to, so that all is known of it that there is.
    pub(super) fn knows(&self, key: &RecordKey) -> bool {
        self.spaces.get(key).is_some_and(OwnSpace::is_written)
    }

    /// The keys of the spaces that were written to.
    pub(super) fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.spaces.iter().filter(|(_, space)| space.is_written()).map(|(key, _)| key)
    }

    /// Nothing is kept alive any more.
    pub(super) fn clear(&mut self) {
        self.spaces.clear();
        self.turns.clear();
    }

    /// Takes note of all that the space says already.
    pub(super) fn resume(&mut self, key: &RecordKey, limits: &Limits, record: &SmartRecord) {
        self.space(key, limits).signer.resume(record);
    }

    /// Takes note of what the space says already, which may not be all.
    pub(super) fn learn(&mut self, key: &RecordKey, limits: &Limits, record: &SmartRecord) {
        self.space(key, limits).signer.learn(record);
    }

    /// Forgets a space that was not written to, so that before the next write it is looked up again.
    pub(super) fn forget_unwritten(&mut self, key: &RecordKey) {
        if !self.knows(key) {
            self.spaces.remove(key);
        }
    }

    /// Whether nothing can be signed, because what was signed before seems to come from the future.
    pub(super) fn is_ahead(&self, key: &RecordKey, now: Timestamp) -> bool {
        self.spaces.get(key).is_some_and(|space| space.signer.is_ahead(now))
    }

    /// Forgets what was signed while the clock was far ahead; what is kept goes on to be. Says whether there was anything.
    pub(super) fn forget_future(&mut self, key: &RecordKey, now: Timestamp) -> bool {
        let ahead = self.spaces.get_mut(key).filter(|space| space.signer.is_ahead(now));
        ahead.map(|space| space.signer.forget_future(now)).is_some()
    }

    fn space(&mut self, key: &RecordKey, limits: &Limits) -> &mut OwnSpace {
        let keypair = &self.keypair;
        self.spaces.entry(key.clone()).or_insert_with(|| OwnSpace {
            signer: SpaceSigner::new(key.clone(), keypair.clone(), limits.clone()),
            kept: None,
            retry: FIRST_RETRY,
            resend: None,
            reach: None,
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
        let resend = Due::after(now, self.jittered(key, self.interval));
        let local = self.local;
        let space = self.space(key, limits);
        let undo = Undo { key: key.clone(), space: space.is_written().then(|| space.clone()) };
        let update = match space.sign(write, now, |ttl| half_life(key, &local, ttl)) {
            Ok(update) => update,
            Err(error) => {
                self.forget_unwritten(key);
                return Err(error);
            }
        };
        space.resend = Some(resend);
        let record = space.signer.record(now);
        self.plan(key);
        Ok((update, record, undo))
    }

    /// Undoes the last write.
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo.space {
            Some(space) => drop(self.spaces.insert(undo.key.clone(), space)),
            None => drop(self.spaces.remove(&undo.key)),
        }
        self.plan(&undo.key);
    }

    fn plan(&mut self, key: &RecordKey) {
        self.turns.set(key, self.spaces.get(key).and_then(OwnSpace::next_at));
    }

    /// Whether a peer at this distance may be one of the closest to the key. When peers have gone it may be without this saying
    /// so: it is then served when the space is sent the next time, and that looks again.
    pub(super) fn may_reach(&self, key: &RecordKey, distance: RecordId) -> bool {
        let reach = self.spaces.get(key).and_then(|space| space.reach);
        reach.is_none_or(|reach| distance <= reach)
    }

    /// Takes note of how far the farthest is of the peers closest to the key.
    pub(super) fn set_reach(&mut self, key: &RecordKey, reach: Option<RecordId>) {
        if let Some(space) = self.spaces.get_mut(key) {
            space.reach = reach;
        }
    }

    /// A peer has turned up that is one of the closest to the key.
    pub(super) fn on_new_peer(&mut self, key: &RecordKey, now: Timestamp) {
        let delay = self.topology_delay;
        let delay = delay.saturating_add(self.jittered(key, delay));
        if let Some(resend) = self.spaces.get_mut(key).and_then(|space| space.resend.as_mut()) {
            // Not later than it would have been: those who come one by one do not put it off for ever.
            resend.hasten(now, delay);
        }
        self.plan(key);
    }

    /// The clock was set back: nothing waits for longer than it would have from now on, and what was signed while the clock
    /// was far ahead, so that nobody has taken it, is signed anew at once.
    pub(super) fn on_clock_set_back(&mut self, now: Timestamp) {
        let keys: Vec<_> = self.spaces.keys().cloned().collect();
        for key in keys {
            if let Some(space) = self.spaces.get_mut(&key) {
                if let Some(due) = &mut space.resend {
                    due.cap(now);
                }
                if let Some((_, due)) = &mut space.kept {
                    due.cap(now);
                    if space.signer.is_ahead(now) {
                        due.hasten(now, Duration::ZERO);
                    }
                }
            }
            self.plan(&key);
        }
    }

    /// When there is something to do next.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.turns.next_at()
    }

    /// A space for which there is something to do, once for each reason. Spaces of which nothing is left are dropped.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<(RecordKey, Duty)> {
        loop {
            let key = self.turns.due(now)?;
            let resend = Due::after(now, self.jittered(&key, self.interval));
            let local = self.local;
            let due = self.spaces.get_mut(&key).and_then(|space| {
                let is_left = space.kept.is_some() || space.signer.record(now).spaces().len() > 0;
                space.resend = Some(resend);
                space.reach = None;
                is_left.then_some(())?;
                Some(match &mut space.kept {
                    Some((kept, due)) if due.at() <= now => {
                        *due = Due::after(now, half_life(&key, &local, kept.ttl()));
                        Duty::Renew
                    }
                    _ => Duty::Resend,
                })
            });
            if let Some(due) = due {
                self.plan(&key);
                return Some((key, due));
            }
            self.spaces.remove(&key);
            self.plan(&key);
        }
    }

    /// Signs anew what is kept under a key. If that fails it is due again soon, later each time.
    pub(super) fn renew(&mut self, key: &RecordKey, now: Timestamp) -> Result<(), SignError> {
        let Some(OwnSpace { signer, kept: Some((kept, due)), retry, .. }) =
            self.spaces.get_mut(key)
        else {
            return Ok(());
        };
        let renewed = kept.renew(signer, now).map(drop);
        if renewed.is_ok() {
            *retry = FIRST_RETRY;
        } else {
            due.hasten(now, *retry);
            *retry = retry.saturating_mul(2);
        }
        self.plan(key);
        renewed
    }

    /// The whole space under a key.
    pub(super) fn record(&self, key: &RecordKey, now: Timestamp) -> Option<SmartRecord> {
        let record = self.spaces.get(key)?.signer.record(now);
        (record.spaces().len() > 0).then_some(record)
    }

    fn jittered(&self, key: &RecordKey, duration: Duration) -> Duration {
        jittered(key, &self.local, duration)
    }
}

impl OwnSpace {
    const fn is_written(&self) -> bool {
        self.resend.is_some()
    }

    fn next_at(&self) -> Option<Timestamp> {
        let renewal = self.kept.as_ref().map(|(_, due)| due.at());
        self.resend.iter().map(|due| due.at()).chain(renewal).min()
    }

    /// Signs a write; `half_life` says after how much of a lifetime something is signed anew.
    fn sign(
        &mut self,
        write: &Write,
        now: Timestamp,
        half_life: impl Fn(Duration) -> Duration,
    ) -> Result<SignedUpdate, SignError> {
        let kept = self.kept.clone();
        let (update, kept) = match write {
            Write::Merge(document, ttl) => {
                let update = self.signer.merge(document.clone(), now, *ttl)?;
                let left = |(kept, at): (KeptDocument, _)| Some((kept.without(document)?, at));
                (update, kept.and_then(left))
            }
            Write::Keep(document, ttl) => {
                let kept = match kept {
                    Some((kept, _)) => kept.and(document.clone(), *ttl),
                    None => KeptDocument::new(document.clone(), *ttl),
                };
                let update = kept.sign(&mut self.signer, now)?;
                let renewal = Due::after(now, half_life(kept.ttl()));
                (update, Some((kept, renewal)))
            }
            Write::Replace(document, ttl) => {
                (self.signer.replace(document.clone(), now, *ttl)?, None)
            }
            Write::Withdraw => (self.signer.withdraw(now)?, None),
        };
        self.kept = kept;
        Ok(update)
    }
}

/// A space as it was before a write; `None`: there was none.
#[derive(Debug)]
pub(super) struct Undo {
    key: RecordKey,
    space: Option<OwnSpace>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_record_core::Dict;

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
        assert_eq!(spaces.due(NOW.saturating_add(HOUR)), Some((key.clone(), Duty::Resend)));
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
            assert_eq!(spaces.due(now), Some((key.clone(), Duty::Renew)));
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
        assert_eq!(spaces.due(at), Some((key, Duty::Resend)));
        assert_eq!(spaces.due(at), None);
    }

    #[test]
    fn what_is_kept_twice_is_one_document_in_which_the_later_wins() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        let minutes = |n: u32| n * Duration::from_secs(60);
        for n in 0..100 {
            let keep = Write::Keep(says(&n.to_string()), minutes(10 + n % 2));
            write(&mut spaces, &key, keep);
        }
        let other = [("other", "kept too")].into_iter().collect();
        write(&mut spaces, &key, Write::Keep(other, minutes(1)));
        let mut now = NOW;
        for _ in 0..10 {
            now = spaces.next_at().unwrap();
            assert_eq!(spaces.due(now), Some((key.clone(), Duty::Renew)));
            spaces.renew(&key, now).unwrap();
            assert_eq!(spaces.due(now), None, "once for both");
            let record = spaces.record(&key, now).unwrap();
            let (_, space) = record.spaces().next().unwrap();
            assert_eq!(space.updates().len(), 1, "renewals do not pile up");
            let view = space.view(now).unwrap();
            assert_eq!(view.document.get("text").unwrap().to_string(), "\"99\"");
            assert_eq!(view.document.len(), 2);
            assert_eq!(view.expires_at, now.saturating_add(minutes(11)), "the longer of the two");
        }
        let published_at = now;
        // What is published over it stands, also after the next renewals, until it expires.
        spaces
            .write(&key, &Limits::default(), &Write::Merge(says("now"), minutes(20)), now)
            .unwrap();
        for _ in 0..2 {
            now = spaces.next_at().unwrap();
            assert_eq!(spaces.due(now), Some((key.clone(), Duty::Renew)));
            spaces.renew(&key, now).unwrap();
            let view = spaces.record(&key, now).unwrap().view(now);
            let document = &view.iter().next().unwrap().1.document;
            assert_eq!(document.get("text").unwrap().to_string(), "\"now\"");
            assert_eq!(document.len(), 2);
        }
        let end = published_at.saturating_add(minutes(20));
        let view = spaces.record(&key, end).unwrap().view(end);
        assert!(view.iter().all(|(_, space)| space.document.get("text").is_none()));
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        write(&mut spaces, &key, Write::Keep(says("x"), HOUR));
        let earlier = NOW.saturating_sub(24 * HOUR);
        spaces.on_clock_set_back(earlier);
        assert!(spaces.next_at().unwrap() <= earlier.saturating_add(HOUR / 2));
        // Nobody else would take what is signed now; it is tried again, in case the clock was right before.
        assert!(spaces.is_ahead(&key, earlier) && spaces.renew(&key, earlier).is_err());
        spaces.on_clock_set_back(earlier.saturating_sub(24 * HOUR));
        assert!(spaces.next_at().unwrap() <= earlier.saturating_sub(23 * HOUR));
        spaces.renew(&key, NOW).unwrap();
    }

    #[test]
    fn case_24_what_is_kept_is_signed_anew_at_once_when_the_clock_was_far_ahead() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        write(&mut spaces, &key, Write::Keep(says("x"), HOUR));
        let right = NOW.saturating_sub(24 * HOUR);
        spaces.on_clock_set_back(right);
        assert_eq!(spaces.due(right), Some((key.clone(), Duty::Renew)));
        assert!(spaces.next_at().unwrap() > right, "once");
        assert!(spaces.forget_future(&key, right) && !spaces.forget_future(&key, right));
        spaces.renew(&key, right).unwrap();
        let record = spaces.record(&key, right).unwrap();
        let (_, space) = record.spaces().next().unwrap();
        assert_eq!(space.updates().len(), 1);
        assert_eq!(space.updates().next().unwrap().document(), says("x"));
    }

    #[test]
    fn a_renewal_that_fails_is_tried_again_soon_and_then_less_often_until_it_works() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        write(&mut spaces, &key, Write::Keep(says("x"), HOUR));
        let mut now = NOW.saturating_sub(24 * HOUR);
        spaces.on_clock_set_back(now);
        assert_eq!(spaces.due(now), Some((key.clone(), Duty::Renew)));
        // Nobody is reached, so nobody says that the clock of before was wrong.
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert!(spaces.renew(&key, now).is_err());
            let failed_at = now;
            loop {
                now = spaces.next_at().unwrap();
                if spaces.due(now) == Some((key.clone(), Duty::Renew)) {
                    break;
                }
            }
            waits.push(now.saturating_since(failed_at));
        }
        assert_eq!(waits[..4], [1, 2, 4, 8].map(|n| n * FIRST_RETRY));
        assert!(waits.iter().all(|wait| *wait <= HOUR / 2), "{waits:?}");
        assert!(spaces.forget_future(&key, now));
        spaces.renew(&key, now).unwrap();
        assert!(
            spaces.next_at().unwrap() >= now.saturating_add(HOUR * 3 / 8),
            "a full half of its life"
        );
    }

    #[test]
    fn peers_that_are_not_among_the_closest_are_told_by_their_distance() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        write(&mut spaces, &key, Write::Merge(says("x"), 2 * HOUR));
        let at = |byte| RecordId([byte; 32]);
        assert!(spaces.may_reach(&key, at(9)), "nobody has looked yet");
        spaces.set_reach(&key, Some(at(5)));
        assert!(spaces.may_reach(&key, at(4)) && !spaces.may_reach(&key, at(6)));
        assert!(spaces.due(NOW.saturating_add(HOUR)).is_some());
        assert!(spaces.may_reach(&key, at(6)), "it is sent again, and peers may have gone");
    }

    #[test]
    fn a_first_write_that_was_refused_is_forgotten_with_what_was_known_for_it() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        let nothing = SmartRecord::new(key.clone());
        spaces.resume(&key, &Limits::default(), &nothing);
        let endless = Write::Merge(says("x"), 1_000 * HOUR);
        assert!(spaces.write(&key, &Limits::default(), &endless, NOW).is_err());
        assert!(!spaces.knows(&key) && spaces.spaces.is_empty());

        spaces.resume(&key, &Limits::default(), &nothing);
        assert!(!spaces.knows(&key), "nothing was written yet");
        let good = Write::Merge(says("x"), HOUR);
        let (_, _, undo) = spaces.write(&key, &Limits::default(), &good, NOW).unwrap();
        assert!(spaces.knows(&key));
        spaces.undo(undo);
        assert!(!spaces.knows(&key) && spaces.spaces.is_empty());
        assert_eq!(spaces.next_at(), None);
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
