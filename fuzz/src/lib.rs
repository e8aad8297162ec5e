//! What the fuzz targets share: makers of input that gets past the first check, and the laws that hold for all of it.
//!
//! Bytes alone never carry a good signature. So a target draws what to say, has one of a few fixed keys sign it, and
//! damages the result; see [`values`] and [`updates`].

#![forbid(unsafe_code)]

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

/// The few who write, with keys of each type that signs quickly.
pub static AUTHORS: LazyLock<[Author; 5]> = LazyLock::new(|| {
    let [a, b, c] = [1, 2, 3].map(Author::ed25519);
    [a, b, c, Author::secp256k1(), Author::ecdsa()]
});

/// The author of this number, counted around.
pub fn author(number: u8) -> &'static Author {
    &AUTHORS[usize::from(number) % AUTHORS.len()]
}

/// The time at which everything begins.
pub fn now() -> Timestamp {
    forge::at(forge::NOW)
}
