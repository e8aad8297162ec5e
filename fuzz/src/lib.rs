//! Shared code of the fuzz targets: generators of input that passes the first checks, and the laws
//! that all input must obey.
//!
//! Raw bytes never have a valid signature. A target therefore generates content, signs it with one
//! of a few fixed keys, and damages the result; see [`values`] and [`updates`].

#![forbid(unsafe_code)]

pub mod boards;
pub mod damage;
pub mod documents;
pub mod laws;
pub mod requests;
pub mod small_store;
pub mod updates;
pub mod values;

use std::sync::LazyLock;

use forge::Author;
use libp2p_smart_record::Timestamp;
pub use smart_record_testing::{clock, forge};

/// The authors, with keys of each type that signs fast.
pub static AUTHORS: LazyLock<[Author; 5]> = LazyLock::new(|| {
    let [a, b, c] = [1, 2, 3].map(Author::ed25519);
    [a, b, c, Author::secp256k1(), Author::ecdsa()]
});

/// The author with this number, which wraps around.
pub fn author(number: u8) -> &'static Author {
    &AUTHORS[usize::from(number) % AUTHORS.len()]
}

/// The start time.
pub fn now() -> Timestamp {
    forge::at(forge::NOW)
}
