//! Tests of the answers of a read.

use std::time::Duration;

use libp2p_identity::Keypair;

use super::*;
use smart_record_core::{Coverage, Limits, Open, SpaceSigner, Validator, Validity};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const BOUNDS: Bounds = Bounds {
    closest: 20,
    complete_at: 2,
    patience: 1,
    chunk_bytes: 15 * 1_024,
    rounds: 4,
    repair_chunks: 2,
    record_bytes: 4 * 1_024 * 1_024,
};

fn signer() -> SpaceSigner {
    SpaceSigner::new("/sr/a".into(), Keypair::generate_ed25519(), Limits::default())
}

fn board(writers: usize, bytes: usize) -> SmartRecord {
    let mut board = SmartRecord::new("/sr/a".into());
    for _ in 0..writers {
        let mut signer = signer();
        let document = [("x", "x".repeat(bytes))].into_iter().collect();
        signer.merge(document, NOW, Duration::from_secs(60)).unwrap();
        board.join(signer.record(NOW)).unwrap();
    }
    board
}

struct Test(RecordLookup);

impl Test {
    fn new(policy: ReadPolicy) -> Self {
        Self::with_registry(policy, &Registry::default())
    }

    fn with_registry(policy: ReadPolicy, registry: &Registry) -> Self {
        Self(RecordLookup::new("/sr/a".into(), policy, BOUNDS, registry).unwrap())
    }

    fn answer(&mut self, peer: PeerId, value: &[u8]) -> bool {
        let value = Bytes::copy_from_slice(value);
        let answer = self.0.joined().check(self.0.key(), value, NOW);
        self.0.on_answer(peer, answer, None)
    }

    /// The answer of a holder of `all` with a part of it, which covers these arcs.
    fn says(&mut self, peer: PeerId, part: Vec<u8>, all: &SmartRecord, arcs: &[RingArc]) {
        let mut value = part;
        let spaces = u32::try_from(all.spaces().len()).unwrap();
        let coverage = Coverage::new(arcs.iter().copied(), spaces, all.digest(NOW));
        coverage.append_to(&mut value);
        self.answer(peer, &value);
    }

    fn repairs(&self) -> (Vec<PeerId>, bool) {
        let local = PeerId::random();
        let (repairs, is_close) = (self.0.repairs(&local, |_| false), self.0.is_close(&local));
        (repairs.into_iter().flat_map(|repair| repair.peers).collect(), is_close)
    }
}

fn peers(n: usize) -> Vec<PeerId> {
    std::iter::repeat_with(PeerId::random).take(n).collect()
}

#[test]
fn a_peer_with_an_expired_copy_is_repaired_and_one_with_garbage_is_not() {
    let board = board(1, 1);
    let mut test = Test::new(ReadPolicy::All);
    let peers = peers(BOUNDS.closest + 1);
    let mut by_distance = peers.clone();
    by_distance.sort_by_key(|peer| RecordId::new(peer, test.0.key()));
    let farthest = by_distance.pop().unwrap();
    let [good, expired, liar, rest @ ..] = &by_distance[..] else { panic!() };
    test.answer(*good, &board.encode());
    let old = ValidationError::Expired { expired_at: NOW };
    test.0.on_answer(*expired, Err(old), None);
    test.answer(*liar, b"garbage");
    for peer in rest {
        test.answer(*peer, &board.encode());
    }
    // There are 20 closer peers.
    test.0.on_empty([farthest]);
    test.0.on_round();
    assert_eq!(test.repairs().0, [*expired]);
}

#[test]
fn only_valid_answers_count_and_invalid_ones_change_nothing() {
    let board = board(1, 1);
    for (policy, good) in [(ReadPolicy::Replies(2), 2), (ReadPolicy::WithoutNews(2), 3)] {
        let mut test = Test::new(policy);
        for peer in peers(10) {
            assert!(!test.answer(peer, b"garbage"));
        }
        assert!(!test.0.has_answers() && !test.0.has_failed());
        let enough = peers(good).into_iter().map(|peer| test.answer(peer, &board.encode()));
        let enough: Vec<_> = enough.collect();
        assert_eq!(enough.iter().position(|enough| *enough), Some(good - 1));
        assert_eq!(test.0.joined().record(), Some(&board));
        assert!(!test.0.is_complete());
    }
    let mut all = Test::new(ReadPolicy::All);
    assert!(peers(18).into_iter().all(|peer| !all.answer(peer, &board.encode())));
    assert!(!all.0.is_complete(), "nobody says what it covers");
    all.says(PeerId::random(), board.encode(), &board, &[]);
    assert!(!all.0.is_complete(), "one is not enough");
    all.says(PeerId::random(), board.encode(), &board, &[RingArc::RING]);
    assert!(all.0.is_complete());
}

#[test]
fn kept_answers_for_others_cover_nothing() {
    let (old, peers, local) = (board(3, 1), peers(2), PeerId::random());
    let is_other = |it: &PeerId| AskerTag::of(it) != AskerTag::of(&local);
    let other = std::iter::repeat_with(PeerId::random).find(is_other);
    for (asker, covers, joins) in [(Some(local), true, 2), (None, true, 0), (other, false, 0)] {
        let mut test = Test::new(ReadPolicy::All);
        test.0.asker = Some(AskerTag::of(&local));
        let mut answer = old.encode();
        Coverage::new([RingArc::RING], 3, old.digest(NOW)).append_to(&mut answer);
        asker.into_iter().for_each(|asker| AskerTag::of(&asker).append_to(&mut answer));
        peers.iter().for_each(|peer| assert!(!test.answer(*peer, &answer)));
        assert_eq!(test.0.joined().record(), Some(&old));
        assert_eq!((test.0.is_complete(), test.0.says_coverage(&peers[0])), (covers, covers));
        assert_eq!(test.0.joining().filter(|(_, joins)| *joins).count(), joins);
    }
}

#[test]
fn a_sliced_record_is_read_until_enough_have_covered_it_or_the_rounds_run_out() {
    let (peers, board) = (peers(2), board(60, 600));
    let slices: Vec<_> = board.chunks(8 * 1_024).collect();
    assert!(slices.len() > 4);
    // Four rounds of one slice each are too few, and of two slices enough.
    for (step, is_complete) in [(1, false), (2, true)] {
        let mut test = Test::new(ReadPolicy::All);
        let mut rounds = 0;
        for slices in slices.chunks(step) {
            rounds += 1;
            for peer in &peers {
                for slice in slices {
                    test.says(*peer, slice.clone(), &board, &[]);
                }
            }
            if !test.0.on_round() {
                break;
            }
        }
        assert_eq!((rounds <= 4, test.0.is_complete()), (true, is_complete));
        assert_eq!(test.0.unfinished(&BTreeSet::new()), []);
        let reading = test.0.into_reading(&[], Vec::new(), NOW);
        assert_eq!(reading.missing() == 0.0, is_complete);
        let writer = board.spaces().next().unwrap().0;
        assert_eq!(reading.is_complete_for(writer), is_complete);
    }
}

#[test]
fn one_holder_of_two_has_covered_half_and_a_peer_that_shows_nothing_new_is_given_up() {
    let ([one, other], board) = ([(); 2].map(|()| PeerId::random()), board(30, 600));
    let slices: Vec<_> = board.chunks(8 * 1_024).collect();
    let half = RingArc { first: 0, last: u64::MAX / 2 };
    let mut test = Test::new(ReadPolicy::All);
    test.says(one, slices[0].clone(), &board, &[RingArc::RING]);
    test.says(other, slices[1].clone(), &board, &[half]);
    assert!(test.0.on_round() && !test.0.is_complete());
    let reading = test.0.clone().into_reading(&[], Vec::new(), NOW);
    assert_eq!((reading.missing(), reading.coverage(&other).unwrap().share), (0.5, 0.5));
    assert_eq!(reading.coverage(&one).unwrap().spaces, 30);
    test.says(other, slices[1].clone(), &board, &[half]);
    assert_eq!((test.0.on_round(), test.0.overclaimed()), (false, 1), "nothing new");
    assert!(!test.0.is_complete(), "one alone");
}

/// Of the 20 closest, 17 show a board of 60 spaces in slices, and three show one space and claim
/// that it is all. Two peers beyond them have been sent no more than that one: with the three they
/// are five.
#[test]
fn peers_beyond_the_closest_that_are_behind_do_not_make_a_reading_complete() {
    let (board, n) = (board(60, 600), 4);
    let slices: Vec<_> = board.chunks(8 * 1_024).collect();
    let (one, space) = board.spaces().next().unwrap();
    let mut old = SmartRecord::new(board.key().clone());
    old.join_space(Writer::clone(one), Space::clone(space));
    for is_known in [false, true] {
        let mut test = Test::new(ReadPolicy::All);
        test.0.set_complete_at(n);
        let mut peers = peers(22);
        peers.sort_by_key(|peer| RecordId::new(peer, test.0.key()));
        if is_known {
            // A subnet may have more of the nearest peers than its share.
            peers.rotate_left(2);
            test.0.set_closest(peers[..20].iter().copied().collect());
        }
        let (closest, beyond) = peers.split_at(20);
        let (liars, honest) = closest.split_at(3);
        liars.iter().chain(beyond).for_each(|peer| {
            test.says(*peer, old.encode(), &old, &[RingArc::RING]);
        });
        for peer in honest {
            test.says(*peer, slices[0].clone(), &board, &[]);
        }
        assert!(!test.0.is_complete() && !board.spaces().any(|(it, _)| test.0.tells(it)));
        let mut unfinished = test.0.unfinished(&BTreeSet::new());
        unfinished.sort_by_key(|peer| peers.iter().position(|it| it == peer));
        assert_eq!(unfinished, honest);
        for slice in &slices {
            test.says(honest[0], slice.clone(), &board, &[]);
        }
        assert_eq!(test.0.joined().record(), Some(&board));
        assert!(test.0.is_complete(), "what was found is all that the honest ones have");
    }
}

/// Before all were asked, it is known how many the closest are.
#[test]
fn more_than_have_answered_may_have_to_cover_a_place() {
    let (board, peers) = (board(3, 10), peers(20));
    let mut test = Test::new(ReadPolicy::Settled);
    test.0.set_complete_at(15);
    test.0.set_closest(peers.iter().copied().collect());
    for (n, peer) in peers.iter().enumerate() {
        assert_eq!(test.0.is_complete(), n >= 15, "{n}");
        test.says(*peer, board.encode(), &board, &[RingArc::RING]);
    }
}

/// What peers beyond the closest show is joined, and they are asked for more once none of the
/// closest has more to show.
#[test]
fn peers_beyond_the_closest_are_asked_again_last() {
    let (board, peers) = (board(60, 600), peers(4));
    let slices: Vec<_> = board.chunks(8 * 1_024).collect();
    let mut test = Test::new(ReadPolicy::All);
    test.0.set_closest(peers[..2].iter().copied().collect());
    for (peer, slice) in peers.iter().zip(&slices) {
        test.says(*peer, slice.clone(), &board, &[]);
    }
    let sorted = |mut peers: Vec<PeerId>| {
        peers.sort_unstable();
        peers
    };
    assert_eq!(sorted(test.0.unfinished(&BTreeSet::new())), sorted(peers[..2].to_vec()));
    test.0.on_no_answer(&peers[0]);
    assert_eq!(test.0.unfinished(&BTreeSet::new()), peers[1..2]);
    test.0.on_no_answer(&peers[1]);
    assert_eq!(sorted(test.0.unfinished(&BTreeSet::new())), sorted(peers[2..].to_vec()));
    for (slice, peer) in slices.iter().zip(peers[2..].iter().cycle()) {
        test.says(*peer, slice.clone(), &board, &[]);
    }
    assert_eq!(test.0.joined().record(), Some(&board));
}

#[test]
fn answers_without_news_cost_no_hashes() {
    let (board, peers) = (board(30, 1), peers(3));
    let mut test = Test::new(ReadPolicy::All);
    let whole = |test: &mut Test, peer| test.says(peer, board.encode(), &board, &[]);
    whole(&mut test, peers[0]);
    assert_eq!(test.0.extent().digest, Some(board.digest(NOW)));
    whole(&mut test, peers[1]);
    assert!(test.0.extent.get().is_none(), "another holder may change what was covered");
    assert_eq!(test.0.extent().digest, Some(board.digest(NOW)));
    assert_eq!(test.0.hashed.hashed(), 30);
    // What has expired is not in the digest any more.
    let later = NOW.saturating_add(Duration::from_secs(49 * 3_600));
    let shown = CheckedAnswer::Record(board.clone());
    let answer = Answer { shown, coverage: None, asker: None, ahead: BTreeSet::new(), at: later };
    test.0.on_answer(peers[2], Ok(answer), None);
    assert_eq!(test.0.extent().digest, None);
    assert_eq!(test.0.hashed.hashed(), 30);
}

#[test]
fn the_end_of_a_round_with_news_hashes_what_is_new_whatever_the_size_of_the_board() {
    let (mut board, peers, limits) = (board(200, 1), peers(2), Limits::default());
    let mut test = Test::new(ReadPolicy::All);
    test.says(peers[0], board.encode(), &board, &[]);
    test.0.on_round();
    assert_eq!(test.0.hashed.hashed(), 200);
    for n in 1..=10 {
        // A holder that shows one space more each time, and has as many as were found.
        let news = self::board(1, 1);
        board.join(news.clone()).unwrap();
        test.says(peers[1], news.encode(), &board, &[]);
        test.0.on_round();
        assert_eq!(test.0.extent().digest, Some(board.digest(NOW)));
        assert_eq!(test.0.hashed.hashed(), 200 + n);
        assert!(test.0.clone().hashed.digest(&board, &limits, NOW) == board.digest(NOW));
    }
    // What ends is hashed again, and nothing else.
    let mut signer = signer();
    let document = [("x", "x")].into_iter().collect();
    let late = NOW.saturating_add(Duration::from_secs(3_600));
    signer.merge(document, late, Duration::from_secs(60)).unwrap();
    let mut later = board.clone();
    later.join(signer.record(late)).unwrap();
    test.0.on_known(&later);
    let ends = board.spaces().filter_map(|(_, space)| space.retain_until()).min().unwrap();
    assert_eq!(test.0.hashed.digest(&later, &limits, ends), later.digest(ends));
    assert_eq!(test.0.hashed.hashed(), 211 + 210);
    assert_eq!(test.0.hashed.digest(&later, &limits, ends), later.digest(ends));
    assert_eq!(test.0.hashed.hashed(), 211 + 210);
}

#[test]
fn an_interim_result_is_not_compared_with_what_holders_have() {
    let (board, peers) = (board(30, 600), peers(2));
    let mut test = Test::new(ReadPolicy::All);
    for peer in &peers {
        test.says(*peer, board.encode(), &board, &[RingArc { first: 0, last: u64::MAX / 2 }]);
    }
    let interim = test.0.clone().into_interim(NOW);
    assert_eq!((interim.digest, interim.missing(), interim.is_complete()), (None, 0.5, false));
    assert_eq!(interim.snapshot.record(), Some(&board));
    let reading = test.0.into_reading(&[], Vec::new(), NOW);
    assert_eq!((reading.digest, reading.missing()), (Some(board.digest(NOW)), 0.0));
}

#[test]
fn a_reading_says_that_this_clock_is_behind_and_does_not_tell_of_who_is_ahead() {
    let skew = Limits::default().max_clock_skew();
    let ahead = NOW.saturating_add(skew + Duration::from_millis(1));
    let mut signers = [signer(), signer()];
    for signer in &mut signers {
        let document = [("x", "x")].into_iter().collect();
        signer.merge(document, NOW, Duration::from_secs(60)).unwrap();
    }
    let mut before = signers[0].record(NOW);
    before.join(signers[1].record(NOW)).unwrap();
    let document = [("x", "y")].into_iter().collect();
    signers[1].merge(document, ahead, Duration::from_secs(600)).unwrap();
    let mut after = before.clone();
    after.join(signers[1].record(ahead)).unwrap();
    let [other, late] = signers.map(|signer| signer.writer().clone());
    // So many of three have the update, by their clocks. One alone may lie.
    for holders in 0..=3 {
        let mut test = Test::new(ReadPolicy::All);
        for (n, peer) in peers(3).into_iter().enumerate() {
            let all = if n < holders { &after } else { &before };
            test.says(peer, all.encode(), all, &[RingArc::RING]);
        }
        assert_eq!(test.0.joined().record(), Some(&before));
        let is_known = holders < BOUNDS.complete_at;
        assert_eq!([&other, &late].map(|it| test.0.tells(it)), [true, is_known]);
        assert_eq!([&other, &late].map(|it| test.0.has_covered(it, 2)), [true, is_known]);
        let reading = test.0.into_reading(&[], Vec::new(), NOW);
        assert!(reading.is_complete(), "as far as this clock goes");
        assert_eq!(reading.ahead_of_clock.len(), holders);
        assert_eq!([&other, &late].map(|it| reading.is_complete_for(it)), [true, is_known]);
    }
}

/// Whoever has only what is from the future by this clock has a record, and peers without one do
/// not replace it. Peers that say nothing of coverage may have kept what was forged.
#[test]
fn peers_without_a_record_do_not_complete_one_that_this_clock_refuses() {
    let skew = Limits::default().max_clock_skew();
    let ahead = NOW.saturating_add(skew + Duration::from_millis(1));
    let mut late = signer();
    late.merge([("x", "x")].into_iter().collect(), ahead, Duration::from_secs(60)).unwrap();
    let (writer, record) = (late.writer().clone(), late.record(ahead));
    for (holders, empty) in [(3, 2), (2, 2), (1, 2), (0, 2)] {
        let mut test = Test::new(ReadPolicy::All);
        for peer in peers(holders) {
            test.says(peer, record.encode(), &record, &[RingArc::RING]);
        }
        test.0.on_empty(peers(empty));
        let is_known = holders < BOUNDS.complete_at;
        assert_eq!(test.0.covered().is_ring(), is_known, "{holders} holders");
        let reading = test.0.into_reading(&[], Vec::new(), NOW);
        assert_eq!(reading.ahead_of_clock.len(), holders);
        assert_eq!(reading.is_complete_for(&writer), is_known);
    }
    // All holders of two nodes, and two that keep what was forged.
    let mut old = signer();
    old.merge([("x", "x")].into_iter().collect(), NOW, Duration::from_secs(60)).unwrap();
    let (old_writer, before) = (old.writer().clone(), old.record(NOW));
    let mut after = before.clone();
    old.merge([("x", "y")].into_iter().collect(), ahead, Duration::from_secs(60)).unwrap();
    after.join(old.record(ahead)).unwrap();
    let mut test = Test::new(ReadPolicy::All);
    test.says(PeerId::random(), after.encode(), &after, &[RingArc::RING]);
    test.0.on_empty(peers(2));
    assert!(!test.0.has_covered(&old_writer, 2), "the only holder has more");
    let mut test = Test::new(ReadPolicy::All);
    for peer in peers(3) {
        test.says(peer, before.encode(), &before, &[RingArc::RING]);
    }
    for peer in peers(2) {
        test.answer(peer, &after.encode());
    }
    assert!(test.0.has_covered(&old_writer, 2) && test.0.tells(&old_writer));
}

#[test]
fn a_first_write_waits_for_its_own_space_alone() {
    let (peers, board) = (peers(2), board(30, 600));
    let slices: Vec<_> = board.chunks(8 * 1_024).collect();
    let (writer, _) = board.spaces().next().unwrap();
    let place = RingArc::place(&writer.rank(board.key()));
    let mut test = Test::new(ReadPolicy::Settled);
    test.0.want(writer);
    test.0.set_asked(2);
    let own = RingArc { first: place, last: place };
    test.says(peers[0], slices[0].clone(), &board, &[own]);
    assert!(!test.0.tells(writer) && test.0.on_round());
    test.says(peers[1], slices[1].clone(), &board, &[own]);
    assert!(test.0.tells(writer) && !test.0.on_round() && !test.0.is_complete());
    let reading = test.0.into_reading(&[], Vec::new(), NOW);
    assert!(reading.is_complete_for(writer));
}

#[test]
fn what_was_dropped_was_not_covered_for_its_writer() {
    let mut signers = [signer(), signer()];
    signers.sort_by_key(|signer| signer.writer().rank(&"/sr/a".into()));
    let limits = Limits::default().with_spaces_per_record(1);
    let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
    let mut test = Test::with_registry(ReadPolicy::Settled, &registry);
    let records = signers.each_mut().map(|signer| {
        let document = [("x", "x")].into_iter().collect();
        signer.merge(document, NOW, Duration::from_secs(60)).unwrap();
        signer.record(NOW)
    });
    let mut both = records[0].clone();
    both.join(records[1].clone()).unwrap();
    for record in &records {
        test.says(PeerId::random(), record.encode(), &both, &[RingArc::RING]);
    }
    let [first, dropped] = signers.map(|signer| signer.writer().clone());
    // A first write of this writer does not resume from this read, nor from what is left of it.
    assert!(test.0.has_covered(&first, 2) && !test.0.has_covered(&dropped, 2));
    let of_dropped = test.0.joined().dropped().unwrap().bytes();
    assert!(of_dropped > 0);
    assert_eq!(test.0.bytes(), test.0.shown.bytes() + of_dropped + test.0.hashed.bytes());
    let interim = test.0.clone().into_interim(NOW);
    assert!(!interim.is_complete_for(&first) && !interim.is_complete_for(&dropped));
    let reading = test.0.into_reading(&[], Vec::new(), NOW);
    assert!(reading.is_complete_for(&first) && !reading.is_complete_for(&dropped));
}

#[test]
fn a_full_record_covers_nothing_by_itself_and_accuses_nobody_beyond_its_last_place() {
    let mut signers: Vec<_> = std::iter::repeat_with(signer).take(5).collect();
    let place = |signer: &SpaceSigner| RingArc::place(&signer.writer().rank(&"/sr/a".into()));
    signers.sort_by_key(place);
    let [_, within, last, evicted, withdrawn] = &mut signers[..] else { panic!() };
    withdrawn.withdraw(NOW).unwrap();
    let (within, beyond) = (within.writer().clone(), evicted.writer().clone());
    let found = [RingArc { first: 0, last: place(last) }];
    let mut board = SmartRecord::new("/sr/a".into());
    for n in [0, 1, 2, 4] {
        let document = [("x", "x")].into_iter().collect();
        if n < 4 {
            signers[n].merge(document, NOW, Duration::from_secs(60)).unwrap();
        }
        board.join(signers[n].record(NOW)).unwrap();
    }
    let limits = Limits::default().with_spaces_per_record(3);
    let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
    for (arcs, is_complete) in [(found, false), ([RingArc::RING], true)] {
        let mut test = Test::with_registry(ReadPolicy::All, &registry);
        // It agrees with nobody, so the arcs alone count.
        let mut more = board.clone();
        more.join(self::board(1, 1)).unwrap();
        for peer in peers(2) {
            test.says(peer, board.encode(), &more, &arcs);
        }
        assert_eq!(test.0.joined().record().unwrap().spaces().len(), 4);
        assert_eq!(test.0.is_complete(), is_complete);
        assert!(test.0.tells(&within));
        assert!(!test.0.tells(&beyond), "there is no place for it");
    }
}

#[test]
fn a_full_record_of_spaces_with_work_accuses_nobody_of_those_that_it_lacks() {
    let limits = Limits::default().with_spaces_per_record(3).with_min_stamp_bits(4);
    let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
    for (stamped, is_told) in [(0, true), (2, true), (3, false)] {
        let mut signers: Vec<_> = std::iter::repeat_with(signer).take(4).collect();
        signers.sort_by_key(|signer| signer.writer().rank(&"/sr/a".into()));
        let missing = signers.remove(0).writer().clone();
        let mut board = SmartRecord::new("/sr/a".into());
        for (n, signer) in signers.iter_mut().enumerate() {
            if n < stamped {
                signer.set_stamp(signer.stamp_search(4, NOW).step(1 << 16));
            }
            let document = [("x", "x")].into_iter().collect();
            signer.merge(document, NOW, Duration::from_secs(60)).unwrap();
            board.join(signer.record(NOW)).unwrap();
        }
        let mut test = Test::with_registry(ReadPolicy::All, &registry);
        for peer in peers(2) {
            test.says(peer, board.encode(), &board, &[RingArc::RING]);
        }
        assert!(test.0.is_complete());
        assert_eq!(test.0.tells(&missing), is_told, "{stamped} of 3 have work");
        // Whoever has a slot may be shown older than it is.
        assert!(signers.iter().all(|signer| test.0.tells(&signer.writer())));
    }
}

#[test]
fn of_a_slice_only_what_it_covers_shows_what_is_lacking() {
    let (all, behind) = (board(40, 600), [(); 2].map(|()| PeerId::random()));
    let mut had = SmartRecord::new(all.key().clone());
    let mut ranked: Vec<_> = all.spaces().collect();
    ranked.sort_by_key(|(writer, _)| writer.rank(all.key()));
    for (writer, space) in &ranked[..5] {
        had.join_space(Writer::clone(writer), Space::clone(space));
    }
    let place = |n: usize| RingArc::place(&ranked[n].0.rank(all.key()));
    let mut test = Test::new(ReadPolicy::All);
    test.says(PeerId::random(), all.encode(), &all, &[RingArc::RING]);
    // It says that there is nothing between the fifth space and the eighth.
    let arc = RingArc { first: 0, last: place(7) };
    test.says(behind[0], had.encode(), &had, &[arc]);
    test.says(behind[1], had.encode(), &had, &[]);
    let repairs = test.0.repairs(&PeerId::random(), |_| true);
    let [Repair { peers, chunks }] = &repairs[..] else { panic!("{repairs:?}") };
    assert_eq!(peers[..], behind[..1]);
    let sent = SmartRecord::decode(all.key(), chunks[0].clone(), &Limits::default()).unwrap();
    let lacking: BTreeSet<_> = ranked[5..8].iter().map(|(writer, _)| *writer).collect();
    assert_eq!(sent.spaces().map(|(writer, _)| writer).collect::<BTreeSet<_>>(), lacking);
    assert!(test.0.has_unseen(), "the other may lack anything");
}

#[test]
fn only_the_closest_peers_that_are_behind_or_empty_are_repaired() {
    let (one, other) = (board(1, 1), board(1, 1));
    let mut both = one.clone();
    both.join(other).unwrap();
    let mut test = Test::new(ReadPolicy::All);
    let mut seen = peers(62);
    seen.sort_by_key(|peer| RecordId::new(peer, test.0.key()));
    let (far, near) = (seen.pop().unwrap(), seen.remove(0));
    for (n, peer) in seen.iter().enumerate() {
        match n % 3 {
            0 => drop(test.answer(*peer, &both.encode())),
            1 => drop(test.answer(*peer, &one.encode())),
            _ => test.0.on_empty([*peer]),
        }
    }
    let (mut repaired, _) = test.repairs();
    repaired.sort_by_key(|peer| RecordId::new(peer, test.0.key()));
    let lacking = seen[..20].iter().enumerate().filter(|(n, _)| n % 3 > 0);
    assert_eq!(repaired, lacking.map(|(_, peer)| *peer).collect::<Vec<_>>());
    let is_close = |local| test.0.is_close(&local);
    assert!(is_close(near) && !is_close(far));
}

#[test]
fn of_what_fits_into_a_packet_all_is_sent_to_who_is_behind() {
    let (one, other) = (board(1, 1), board(1, 1));
    let mut both = one.clone();
    both.join(other).unwrap();
    let [newest, behind, empty] = [(); 3].map(|()| PeerId::random());
    let mut test = Test::new(ReadPolicy::All);
    test.answer(newest, &both.encode());
    test.answer(behind, &one.encode());
    test.0.on_empty([empty]);
    let repairs = test.0.repairs(&PeerId::random(), |_| false);
    let [Repair { peers, chunks }] = &repairs[..] else { panic!("{repairs:?}") };
    assert!(peers.contains(&behind) && peers.contains(&empty));
    assert_eq!(chunks[..], [Bytes::from(both.encode())]);
}

#[test]
fn of_a_large_record_who_may_keep_the_last_put_is_sent_what_it_has_shown_too() {
    let (mut signer, slice, rest) = (signer(), board(9, 600), board(20, 600));
    let mut say = |text: &str| {
        let document = [("x", text)].into_iter().collect();
        signer.merge(document, NOW, Duration::from_secs(60)).unwrap();
        let mut said = slice.clone();
        said.join(signer.record(NOW)).unwrap();
        (said, signer.record(NOW))
    };
    let ((shown, _), (new, own)) = (say("old"), say("new"));
    let [behind, newest] = [(); 2].map(|()| PeerId::random());
    let mut test = Test::new(ReadPolicy::All);
    test.answer(behind, &shown.encode());
    test.answer(newest, &rest.encode());
    test.answer(newest, &own.encode());
    let sent = |joins: bool| {
        let repairs = test.0.repairs(&PeerId::random(), |_| joins);
        let [Repair { peers, chunks }] = &repairs[..] else { panic!("{repairs:?}") };
        assert_eq!((&peers[..], chunks.len()), (&[behind][..], 1));
        SmartRecord::decode(&"/sr/a".into(), chunks[0].clone(), &Limits::default()).unwrap()
    };
    assert_eq!((sent(true), sent(false)), (own, new));
}

#[test]
fn after_an_early_end_empty_peers_are_not_repaired() {
    let (one, other) = (board(1, 1), board(1, 1));
    let mut both = one.clone();
    both.join(other).unwrap();
    let [newest, stale, empty] = [(); 3].map(|()| PeerId::random());
    let mut test = Test::new(ReadPolicy::All);
    test.answer(newest, &both.encode());
    test.answer(stale, &one.encode());
    test.0.on_empty([empty]);
    let (mut repaired, is_close) = test.repairs();
    repaired.sort_unstable();
    let mut expected = vec![stale, empty];
    expected.sort_unstable();
    assert_eq!((repaired, is_close), (expected, true), "only these peers are known");
    test.0.end_early();
    assert_eq!(test.repairs(), (vec![stale], false));
}

#[test]
fn spaces_that_are_not_stored_locally_are_news() {
    let (here, theirs) = (board(3, 1), board(2, 1));
    let mut test = Test::new(ReadPolicy::All);
    test.0.on_local(here.clone());
    assert_eq!(test.0.news(), None);
    let mut whole = here.clone();
    whole.join(theirs.clone()).unwrap();
    let peer = PeerId::random();
    test.answer(peer, &whole.encode());
    assert_eq!(test.0.news(), Some(theirs.clone()));
    for (writer, _) in theirs.spaces() {
        assert_eq!(test.0.source_of(writer), Some(peer));
    }
    let mut knowing = Test::new(ReadPolicy::WithoutNews(1));
    knowing.0.on_known(&whole);
    assert_eq!(knowing.0.news(), Some(whole.clone()), "known but not stored");
    assert!(knowing.answer(peer, &whole.encode()), "no news to the read");
}

#[test]
fn the_number_of_answers_per_round_is_bounded() {
    let mut test = Test::new(ReadPolicy::All);
    let enough = peers(MAX_ANSWERS).into_iter().map(|peer| test.answer(peer, b"garbage"));
    let enough: Vec<_> = enough.collect();
    assert_eq!(enough.iter().position(|enough| *enough), Some(MAX_ANSWERS - 1));
    assert!(!test.0.is_complete());
}

/// Accepts any bytes and prefers the greatest. The first byte of a value says all; others are as if
/// they were not signed.
struct Greatest;

impl Validator for Greatest {
    fn validate(&self, _: &RecordKey, _: &[u8], _: Timestamp) -> Result<Validity, ValidationError> {
        Ok(Validity::forever())
    }

    fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        smart_record_core::best_index(values)
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }

    fn contains(&self, _: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
        whole[0] == part[0]
    }
}

fn at(seconds: u64) -> Option<Timestamp> {
    Some(NOW.saturating_add(Duration::from_secs(seconds)))
}

/// Gives a read one value after the other with its expiry, and returns that of the best.
fn kept_until() -> impl FnMut(&'static str, Option<Timestamp>) -> Option<Timestamp> {
    let registry = Registry::empty().with("great", Greatest).unwrap();
    let mut lookup =
        RecordLookup::new("/great/a".into(), ReadPolicy::All, BOUNDS, &registry).unwrap();
    move |value, expires_at| {
        let shown = lookup.joined().check(lookup.key(), value.into(), NOW);
        lookup.on_answer(PeerId::random(), shown, expires_at);
        lookup.expires_at()
    }
}

#[test]
fn a_value_expires_no_later_than_with_the_holders_of_the_best_value() {
    let mut kept_until = kept_until();
    assert_eq!(kept_until("a", at(40)), at(40));
    assert_eq!(kept_until("c", at(10)), at(10));
    assert_eq!(kept_until("c", at(20)), at(20));
    assert_eq!(kept_until("b", at(30)), at(20));
    assert_eq!(kept_until("c", None), None, "one holder states no expiry");
    assert_eq!(kept_until("c", at(50)), None);
}

#[test]
fn a_copy_in_other_bytes_extends_a_lifetime_and_does_not_shorten_it() {
    let mut kept_until = kept_until();
    assert_eq!(kept_until("ab", at(40)), at(40));
    assert_eq!(kept_until("ac", at(10)), at(40), "its bytes are greater");
    assert_eq!(kept_until("aa", at(50)), at(50), "its bytes are lesser");
    assert_eq!(kept_until("b", at(20)), at(20), "it says more");
}
