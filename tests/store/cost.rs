//! What a write costs: what the storage is asked for, not the time that it takes.

use super::*;

/// Rows and bytes read, rows and bytes written, by a put of one more space of 256 bytes of text.
fn cost_of_a_put(spaces: u64) -> [(usize, usize); 2] {
    let (mut store, touched, _) = probed(StoreConfig::default());
    let key = RecordKey::new("/sr/board");
    for writer in 0..spaces {
        put(&mut store, &key, one_space(&key, writer, 256, HOUR));
    }
    // Of too many, one that has a place.
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
    // Among them the space and the head of the record, which says how many spaces and bytes it has.
    assert!(read.0 <= empty_reads, "{} and {empty_reads} rows", read.0);
    assert_eq!(written.0, empty_writes);
    assert_eq!((read.0, written.0), (one_read.0, one_written.0));
    // Larger numbers take a few bytes more, each time that the head is read or written.
    assert!(read.1 <= one_read.1 + 4 * read.0, "{} and {} bytes", read.1, one_read.1);
    assert!(written.1 <= empty_bytes_written + 4, "{} and {empty_bytes_written} bytes", written.1);

    // In a full board one space goes for it, which is found at once.
    let [full_read, full_written] = cost_of_a_put(1_024);
    println!("in a full board {full_read:?}, {full_written:?}");
    assert!(full_read.0 <= read.0 + 4, "{} rows", full_read.0);
    assert!(full_read.1 <= read.1 + 1_024, "{} bytes", full_read.1);
    assert!(full_written.0 <= written.0 + 2, "{} rows", full_written.0);
}
