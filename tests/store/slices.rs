//! Large records: slices for GET, chunks for replication.

use super::*;

/// A board of many small spaces, about 200 KB in total.
pub fn large_board(
    store: &mut SmartRecordStore,
    ttl: impl Fn(u64) -> Duration,
) -> (RecordKey, SmartRecord) {
    let key = RecordKey::new("/sr/board");
    let mut board = SmartRecord::new(key.clone());
    for writer in 0..500 {
        let value = one_space(&key, writer, 250, ttl(writer));
        board.join(decode(&key, &value)).unwrap();
    }
    for chunk in board.chunks(15 * 1_024) {
        put(store, &key, chunk);
    }
    assert_eq!(store.record(&key).unwrap().as_ref(), Some(&board));
    (key, board)
}

/// Joins replies to GET until nothing is missing. Returns how many it took.
fn read_whole(store: &SmartRecordStore, board: &SmartRecord, max_gets: usize) -> usize {
    let key = board.key();
    let mut read = SmartRecord::new(key.clone());
    for gets in 1..=max_gets {
        let record = store.get(&kad_key(key)).expect("a slice");
        assert!(record.value.len() <= 8 * 1_024, "{} bytes", record.value.len());
        assert_eq!(record.publisher, None);
        assert_eq!(record.key, kad::RecordKey::new(key));
        read.join(decode(key, &record.value)).unwrap();
        if &read == board {
            return gets;
        }
    }
    panic!("not read within {max_gets} gets");
}

#[test]
fn a_large_board_is_read_slice_by_slice() {
    let (mut store, _) = open_store(StoreConfig::default());
    let (_, board) = large_board(&mut store, |_| HOUR);
    asked(&mut store);
    let size = board.encode().len();
    assert!(size > 190_000, "{size} bytes");
    let slices = size.div_ceil(8 * 1_024);
    // Spaces are not split, which leaves a few hundred bytes of each slice empty, and coverage
    // takes up to 174 of them.
    read_whole(&store, &board, slices + 3);
    // Once more, from where the first reader stopped.
    read_whole(&store, &board, slices + 3);
}

#[test]
fn each_reader_reads_the_whole_whatever_others_ask() {
    for (writers, readers) in [(480, 2), (240, 3), (120, 2), (500, 4)] {
        let (mut store, _) = open_store(StoreConfig::default());
        let key = RecordKey::new("/sr/turns");
        let mut board = SmartRecord::new(key.clone());
        for writer in 0..writers {
            board.join(decode(&key, &one_space(&key, writer, 250, HOUR))).unwrap();
        }
        put_in_chunks(&mut store, &board);
        let slices = board.encode().len().div_ceil(8 * 1_024) + 2;
        let mut read = vec![SmartRecord::new(key.clone()); readers];
        for turn in 0..slices {
            for (reader, record) in read.iter_mut().enumerate() {
                let asker = peer((1 << 40) + reader as u64);
                store.asked_by(Some(Asker::new(asker, None)));
                let slice = store.get(&kad_key(&key)).unwrap();
                record.join(decode(&key, &slice.value)).unwrap();
                // Others ask in between, more often each time.
                store.asked_by(Some(Asker::new(peer(1 << 41), None)));
                (0..turn).for_each(|_| drop(store.get(&kad_key(&key)).unwrap()));
            }
        }
        assert!(read.iter().all(|record| *record == board), "{writers} writers");
    }
}

#[test]
fn of_too_many_walks_of_one_network_the_oldest_is_forgotten_and_counted() {
    let (mut store, _) = open_store(StoreConfig::default());
    let (key, _) = large_board(&mut store, |_| HOUR);
    let address = "/ip4/198.51.100.1/tcp/1".parse().unwrap();
    let mut forgotten = |walks: std::ops::Range<u64>| {
        for walk in walks {
            store.asked_by(Some(Asker::new(peer((1 << 40) + walk), Some(&address))));
            store.get(&kad_key(&key)).unwrap();
        }
        store.counters().walks_forgotten
    };
    assert_eq!(forgotten(0..256), 0);
    assert_eq!(forgotten(256..258), 2);
}

#[test]
fn if_it_is_not_known_who_asks_each_slice_begins_anywhere() {
    let (mut store, _) = open_store(StoreConfig::default());
    let (_, board) = large_board(&mut store, |_| HOUR);
    // 25 slices: in 99 cases of 100 million.
    assert!(read_whole(&store, &board, 600) > 25);
    let long = long_space(&RecordKey::new("/sr/long"), 64, |_| HOUR);
    put_in_chunks(&mut store, &long);
    read_whole(&store, &long, 200);
}

/// What an answer covers is in it as it is in the record, and what it covers grows to the ring.
#[test]
fn what_a_slice_covers_it_shows_whole() {
    let (mut store, _) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/covered");
    let mut board = SmartRecord::new(key.clone());
    // Spaces of all sizes: small, such as do not fit beside others, and one in parts.
    for writer in 100..220 {
        let bytes = if writer % 10 == 0 { 1_900 } else { 20 * (writer as usize % 40) };
        board.join(decode(&key, &one_space(&key, writer, bytes, HOUR))).unwrap();
    }
    board.join(long_space(&key, 64, |_| HOUR)).unwrap();
    put_in_chunks(&mut store, &board);
    let rank = |writer: &Writer| RingArc::place(&writer.rank(&key));
    for asker in [None, Some(Asker::new(peer(107), None)), Some(Asker::new(peer(1 << 40), None))] {
        store.asked_by(asker);
        let (mut covered, mut read) = (Arcs::new(), SmartRecord::new(key.clone()));
        for gets in 0.. {
            let answer = store.get(&kad_key(&key)).unwrap();
            let coverage = Coverage::of_answer(&answer.value).expect("a coverage");
            assert_eq!(coverage.spaces, 121);
            assert_eq!(coverage.digest, board.digest(Timestamp::from_millis(T0)));
            let (shown, mut arcs) = (decode(&key, &answer.value), Arcs::new());
            arcs.add(coverage.arcs().iter().copied());
            for (writer, space) in board.spaces() {
                if arcs.has(rank(writer)) {
                    assert_eq!(shown.space(writer), Some(space), "after {gets}");
                }
            }
            if gets == 0 && asker == Some(Asker::new(peer(107), None)) {
                assert!(shown.spaces().any(|(writer, _)| writer.peer_id() == peer(107)), "its own");
            }
            covered.add(coverage.arcs().iter().copied());
            read.join(shown).unwrap();
            let share = covered.share();
            if read == board && share > 0.999_999 {
                break;
            }
            assert!(gets < 2_000, "{share} covered, {} spaces", read.spaces().len());
        }
        // Only the place of the space that is sent in parts is left.
        assert!(!covered.is_ring());
    }
}

/// Large spaces in a row leave room for small ones, which do not wait for them.
#[test]
fn a_slice_is_filled_past_what_does_not_fit() {
    let (mut store, _) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/filled");
    let mut board = SmartRecord::new(key.clone());
    for writer in 0..60 {
        let bytes = if writer % 2 == 0 { 1_900 } else { 20 };
        board.join(decode(&key, &one_space(&key, writer, bytes, HOUR))).unwrap();
    }
    put_in_chunks(&mut store, &board);
    asked(&mut store);
    let slices = board.encode().len().div_ceil(8 * 1_024);
    // All but the last slice are at least seven eighths full.
    read_whole(&store, &board, slices * 8 / 7 + 2);
}

/// Coverage stands in answers only.
#[test]
fn the_coverage_of_a_received_record_is_dropped() {
    let (mut store, _) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/dropped");
    let record = decode(&key, &one_space(&key, 1, 10, HOUR));
    let coverage = Coverage::new([RingArc::RING], 1_024, [7; 32]);
    let mut forged = record.encode();
    coverage.append_to(&mut forged);
    // New, known byte by byte, and in front of the spaces.
    let mut first = Vec::new();
    coverage.append_to(&mut first);
    first.extend(record.encode());
    for value in [forged.clone(), forged, first] {
        put(&mut store, &key, value);
        assert_eq!(store.record(&key).unwrap(), Some(record.clone()));
        let answer = store.get(&kad_key(&key)).unwrap();
        assert_eq!(without_coverage(&answer.value), record.encode());
        let coverage = Coverage::of_answer(&answer.value).unwrap();
        assert_eq!((coverage.spaces, coverage.arcs()), (1, &[RingArc::RING][..]));
        assert!(store.records().all(|sent| sent.value == record.encode()));
    }
    assert_eq!(store.counters().refused_total(), 0);
}

#[test]
fn small_records_are_returned_whole_each_time() {
    let (mut store, _) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/small");
    let mut record = SmartRecord::new(key.clone());
    for writer in 0..20 {
        let value = one_space(&key, writer, 250, HOUR);
        record.join(decode(&key, &value)).unwrap();
        put(&mut store, &key, value);
    }
    let size = record.encode().len();
    assert!((7_000..8_000).contains(&size), "{size} bytes");
    for _ in 0..3 {
        // The spaces are in ascending order of their ranks.
        let value = store.get(&kad_key(&key)).unwrap().value.clone();
        assert_eq!(without_coverage(&value).len(), size);
        assert_eq!(decode(&key, &value), record);
    }
}

/// A space of many small updates; the `i`th of them lives for `ttl(i)`.
fn long_space(key: &RecordKey, updates: u32, ttl: impl Fn(u32) -> Duration) -> SmartRecord {
    let mut signer = signer(key, 5, Limits::default());
    let mut record = SmartRecord::new(key.clone());
    for i in 0..updates {
        let document = [(i, "x".repeat(40))].into_iter().collect();
        let update = signer.merge(document, Timestamp::from_millis(T0), ttl(i)).unwrap();
        record.insert(signer.writer(), update).unwrap();
    }
    record
}

fn put_in_chunks(store: &mut SmartRecordStore, record: &SmartRecord) {
    for chunk in record.chunks(15 * 1_024) {
        // A chunk of more than 80 updates is taken in two turns.
        put(store, record.key(), chunk.clone());
        put(store, record.key(), chunk);
    }
    assert_eq!(store.record(record.key()).unwrap().as_ref(), Some(record));
}

#[test]
fn a_space_larger_than_a_slice_is_split() {
    let (mut store, _) = open_store(StoreConfig::default());
    let record = long_space(&RecordKey::new("/sr/long"), 64, |_| HOUR);
    assert!(record.encode().len() > 8 * 1_024);
    put_in_chunks(&mut store, &record);
    asked(&mut store);
    assert_eq!(read_whole(&store, &record, 2), 2);
    assert_eq!(read_whole(&store, &record, 2), 2);
}

#[test]
fn a_cursor_into_a_space_that_shrank_hides_nothing() {
    // Most of the space expires after the first slice. The rest must be found, collected or not.
    for collect in [false, true] {
        for others in [0, 30] {
            let (mut store, clock) = open_store(StoreConfig::default());
            let key = RecordKey::new("/sr/shrinking");
            let mut record =
                long_space(&key, 64, |i| if i < 60 { Duration::from_secs(60) } else { HOUR });
            for writer in 100..100 + others {
                let value = one_space(&key, writer, 10, HOUR);
                record.join(decode(&key, &value)).unwrap();
            }
            put_in_chunks(&mut store, &record);
            for gets in 0..4 {
                // Moves the cursor to several places, in the long space and elsewhere.
                let (mut store, clock) = (clone_of(&record), clock.clone());
                for _ in 0..gets {
                    store.0.get(&kad_key(&key)).unwrap();
                }
                store.1.advance(Duration::from_secs(61));
                if collect {
                    assert_eq!(store.0.collect().unwrap(), 60);
                }
                let mut left = record.clone();
                left.collect(store.1.now());
                read_whole(&store.0, &left, 1 + 3);
                drop(clock);
            }
            clock.advance(Duration::from_secs(61));
            assert!(store.get(&kad_key(&key)).is_some());
        }
    }
}

/// A store that holds this record.
fn clone_of(record: &SmartRecord) -> (SmartRecordStore, ManualClock) {
    let (mut store, clock) = open_store(StoreConfig::default());
    put_in_chunks(&mut store, record);
    asked(&mut store);
    (store, clock)
}

#[test]
fn a_cursor_survives_spaces_that_vanish() {
    let (mut store, clock) = open_store(StoreConfig::default());
    // Every third space lives for a minute, every third for two.
    let (key, board) = large_board(&mut store, |writer| match writer % 3 {
        0 => Duration::from_secs(60),
        1 => Duration::from_secs(120),
        _ => HOUR,
    });
    asked(&mut store);
    for (n, collect) in [(3, false), (5, true), (2, false)] {
        for _ in 0..n {
            assert!(store.get(&kad_key(&key)).is_some());
        }
        clock.advance(Duration::from_secs(61));
        if collect {
            store.collect().unwrap();
        }
        let mut left = board.clone();
        left.collect(clock.now());
        let slices = left.encode().len().div_ceil(8 * 1_024);
        read_whole(&store, &left, slices + 6);
    }
    // The cursor is removed with the last space, and later spaces under the key are found.
    clock.advance(2 * HOUR);
    assert!(store.get(&kad_key(&key)).is_none());
    store.collect().unwrap();
    assert!(store.get(&kad_key(&key)).is_none());
    assert_eq!(store.usage(), Usage::default());
    let mut signer = signer(&key, 5, Limits::default());
    let update = signer.merge(text(1), clock.now(), HOUR).unwrap();
    let mut late = SmartRecord::new(key.clone());
    late.insert(signer.writer(), update).unwrap();
    put(&mut store, &key, late.encode());
    assert_eq!(without_coverage(&store.get(&kad_key(&key)).unwrap().value), late.encode());
}

#[test]
fn records_go_out_in_chunks_of_one_key() {
    let (mut store, clock) = open_store(StoreConfig::default());
    let (key, board) = large_board(&mut store, |writer| Duration::from_secs(60 + writer));
    let small = RecordKey::new("/sr/small");
    put(&mut store, &small, one_space(&small, 1, 10, Duration::from_secs(600)));
    let value = RecordKey::new("/any/value");
    let mut any = Record::new(kad::RecordKey::new(&value), b"value".to_vec());
    any.publisher = Some(peer(3));
    any.expires = Some(Instant::now() + Duration::from_secs(100));
    store.put(any).unwrap();
    clock.advance(Duration::from_secs(30));

    let before = Instant::now();
    let records: Vec<Record> = store.records().map(Cow::into_owned).collect();
    let of = |key: &RecordKey| -> Vec<&Record> {
        records.iter().filter(|r| r.key == kad::RecordKey::new(key)).collect()
    };
    // The chunks of a key are adjacent, each within the size, and together they are the whole
    // record.
    let chunks = of(&key);
    assert!(chunks.len() >= board.encode().len() / (15 * 1_024));
    assert!(chunks.len() <= board.encode().len() / (15 * 1_024) + 2);
    let mut whole = SmartRecord::new(key.clone());
    for chunk in &chunks {
        assert!(chunk.value.len() <= 15 * 1_024);
        assert_eq!(chunk.publisher, None);
        // The last space expires 559 seconds after the beginning, of which 30 have passed.
        let left = chunk.expires.unwrap() - before;
        let expected = Duration::from_secs(529);
        assert!((expected..=expected + before.elapsed()).contains(&left), "{left:?}");
        whole.join(decode(&key, &chunk.value)).unwrap();
    }
    assert_eq!(whole, board);
    assert!(matches!(of(&small)[..], [record] if record.publisher.is_none()));
    assert!(matches!(of(&value)[..], [record] if record.publisher == Some(peer(3))));
    assert_eq!(records.len(), chunks.len() + 2);

    // Of the board only the spaces that have not expired; of the value nothing, because less than a
    // second is left.
    clock.advance(Duration::from_millis(69_900));
    let mut left = board.clone();
    left.collect(clock.now());
    assert!(left.spaces().len() < 470);
    let mut whole = SmartRecord::new(key.clone());
    for record in store.records() {
        assert_ne!(record.key, kad::RecordKey::new(&value));
        if record.key == kad::RecordKey::new(&key) {
            whole.join(decode(&key, &record.value)).unwrap();
        }
    }
    assert_eq!(whole, left);
    assert!(store.get(&kad_key(&value)).is_none());
    clock.advance(HOUR);
    assert_eq!(store.records().count(), 0);
}

#[test]
fn the_lifetime_on_the_wire_is_the_signed_one() {
    let (mut store, _) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/a");
    let mut record =
        Record::new(kad::RecordKey::new(&key), one_space(&key, 1, 10, Duration::from_secs(600)));
    // The lifetime and publisher that are sent do not matter.
    record.expires = Some(Instant::now() + Duration::from_secs(5));
    record.publisher = Some(peer(9));
    let before = Instant::now();
    store.put(record).unwrap();
    for found in [store.get(&kad_key(&key)).unwrap(), store.records().next().unwrap()] {
        let left = found.expires.unwrap() - before;
        let expected = Duration::from_secs(600);
        assert!((expected..=expected + before.elapsed()).contains(&left), "{left:?}");
        assert_eq!(found.publisher, None);
    }
}
