//! The cost of a write: rows and bytes accessed in the storage, not time.

use super::*;

/// Rows and bytes read, and rows and bytes written, by a put of one more space with 256 bytes of
/// text.
fn cost_of_a_put(spaces: u64) -> [(usize, usize); 2] {
    let (mut store, touched, _) = probed(StoreConfig::default());
    let key = RecordKey::new("/sr/board");
    for writer in 0..spaces {
        put(&mut store, &key, one_space(&key, writer, 256, HOUR));
    }
    // A space that has a place although there are too many.
    let mut newcomers = 1_000_000..;
    let newcomer = newcomers.find(|writer| {
        let writer = Writer::from(&keypair(*writer).public());
        writer.rank(&key)[0] < 0x40
    });
    let newcomer = one_space(&key, newcomer.unwrap(), 256, HOUR);
    touched.read.take();
    touched.written.take();
    put(&mut store, &key, newcomer);
    let cost = [touched.read.take(), touched.written.take()];
    assert_eq!(store.counters().admitted, spaces + 1);
    cost
}

#[test]
fn a_put_into_a_board_of_a_thousand_spaces_touches_what_one_into_an_empty_board_does() {
    let [(empty_reads, _), (empty_writes, empty_bytes_written)] = cost_of_a_put(0);
    let [one_read, one_written] = cost_of_a_put(1);
    let [read, written] = cost_of_a_put(1_000);
    println!(
        "rows and bytes read, written: beside 1 space {one_read:?}, {one_written:?}; beside 1,000 {read:?}, {written:?}"
    );
    // Among them are the space and the head of the record, which has the number of its spaces and
    // bytes.
    assert!(read.0 <= empty_reads, "{} and {empty_reads} rows", read.0);
    assert_eq!(written.0, empty_writes);
    assert_eq!((read.0, written.0), (one_read.0, one_written.0));
    // Larger numbers take a few bytes more each time the head is read or written.
    assert!(read.1 <= one_read.1 + 4 * read.0, "{} and {} bytes", read.1, one_read.1);
    assert!(written.1 <= empty_bytes_written + 4, "{} and {empty_bytes_written} bytes", written.1);

    // In a full board one space is evicted for it, which is found at once.
    let [full_read, full_written] = cost_of_a_put(1_024);
    println!("in a full board {full_read:?}, {full_written:?}");
    assert!(full_read.0 <= read.0 + 4, "{} rows", full_read.0);
    assert!(full_read.1 <= read.1 + 1_024, "{} bytes", full_read.1);
    assert!(full_written.0 <= written.0 + 2, "{} rows", full_written.0);
}

#[test]
fn a_packet_of_nothing_costs_no_look_ups() {
    let (mut store, touched, _) = probed(StoreConfig::default());
    let short = RecordKey::new("/sr/board");
    let long = RecordKey::new(format!("/sr/{}", "x".repeat(8_000)));
    // Empty spaces, and spaces with a public key of one byte.
    for (key, space) in
        [(&short, &[0x0a, 0][..]), (&short, &[0x0a, 3, 0x0a, 1, 7]), (&long, &[0x0a, 0])]
    {
        touched.read.take();
        let packet = space.repeat(16_384 / space.len());
        put(&mut store, key, packet);
        let (rows, _) = touched.read.take();
        assert!(rows <= 16, "{rows} rows for {space:?} under a key of {}", key.as_bytes().len());
    }
    assert_eq!(store.counters().refused[&Fault::Malformed], 2);
    assert_eq!(store.counters().refused[&Fault::LimitExceeded], 1);
}

#[test]
fn a_value_that_is_stored_is_not_validated_again() {
    let asked = Arc::<AtomicUsize>::default();
    let registry = Registry::empty().with("counted", CountingSigned(asked.clone())).unwrap();
    let (config, storage) = (StoreConfig::default(), new_storage());
    let mut store =
        SmartRecordStore::with_storage(local(), registry, config, storage, SystemClock).unwrap();
    let key = RecordKey::new("/counted/x");
    for _ in 0..3 {
        put(&mut store, &key, b"1".to_vec());
    }
    assert_eq!(asked.load(SeqCst), 1);
    assert_eq!((store.counters().values, store.counters().known), (1, 2));
}

/// Counts its calls. Its values have a signed expiry.
struct CountingSigned(Arc<AtomicUsize>);

impl Validator for CountingSigned {
    fn validate(
        &self,
        _: &RecordKey,
        _: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        self.0.fetch_add(1, SeqCst);
        Ok(Validity::bounded_until(now.saturating_add(HOUR)))
    }

    fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        best_index(values.iter())
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }
}
