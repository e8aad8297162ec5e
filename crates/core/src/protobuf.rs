//! Why bytes are not a protobuf message.

/// What is wrong with the encoding of a protobuf message, in the decoder's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProtobufError(String);

impl ProtobufError {
    /// The error of a decoder.
    pub fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}
