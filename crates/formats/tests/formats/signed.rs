//! Signed records: the laws of their order, limits, permissions, and exchange with other
//! implementations.

mod content;
mod forms;
mod laws;
mod permissions;
mod record;
mod vectors;

use smart_record_core::*;
use smart_record_formats::signed::*;
use smart_record_testing::{
    clock::*,
    envelope::field,
    forge::{Author, alice, mallory},
    signed::*,
};

fn record_of(author: &Author, value: &str, sequence: u64) -> SignedRecord {
    UnsignedRecord::new(KEY, value.to_owned(), sequence)
        .sign(&author.0, &SignedRecordLimits::default())
        .unwrap()
}

fn honest() -> Vec<u8> {
    record_of(&alice(), "honest", 5).encode().to_vec()
}

fn registry(rules: SignedRecordValidator) -> Registry {
    Registry::empty().with("notes", rules).unwrap()
}
