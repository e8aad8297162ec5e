//! Why bytes are not the protobuf message that they should be.

use std::fmt;

/// The bytes are not the expected protobuf message; says in words what is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProtobufError(String);

impl ProtobufError {
    /// An error with a decoder's reason.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}
