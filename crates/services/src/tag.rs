//! The smart tags: what a service can check.

use std::time::Duration;

use futures::future::BoxFuture;

use super::filter::AddressRefusal;
use libp2p_smart_record::Predicate;

/// A kind of request that a service answers: the predicates of a tag, and their check.
///
/// ```
/// use futures::{FutureExt, future::BoxFuture};
/// use libp2p_smart_record::Predicate;
/// use smart_record_services::{Outcome, SmartTag};
///
/// /// Answers `sum(1, 2)` with `sumIs(; value=3)`.
/// struct Sum;
///
/// impl SmartTag for Sum {
///     fn tag(&self) -> &str {
///         "sum"
///     }
///
///     fn check(&self, request: &Predicate) -> BoxFuture<'static, Outcome> {
///         let int = |node: &libp2p_smart_record::Node| match node.kind {
///             libp2p_smart_record::Kind::Int(int) => int,
///             _ => 0,
///         };
///         let sum = request.positional.iter().map(int).fold(0_i64, i64::wrapping_add);
///         let found = Predicate::new("sumIs").with_named("value", sum.to_string());
///         async move { Outcome::Found(found) }.boxed()
///     }
/// }
/// ```
///
/// Anyone who can write to a record can cause a check, so a check has to be cheap and harmless to
/// others. [`ServiceConfig`](super::ServiceConfig) bounds how often checks are made.
pub trait SmartTag: Send + Sync + 'static {
    /// The tag of the predicates that are requests.
    fn tag(&self) -> &str;

    /// Converts a request to its canonical form. Requests with the same canonical form are checked
    /// once, and the finding is published under that form. `asked` has no lifetimes. By default the
    /// form is kept as it is.
    ///
    /// # Errors
    /// [`RequestRefusal`] if the request must not be checked.
    fn request(&self, asked: &Predicate) -> Result<Predicate, RequestRefusal> {
        Ok(asked.clone())
    }

    /// Checks a request. A finding longer than twice
    /// [`max_request_bytes`](super::ServiceConfig::max_request_bytes) is not published. Use named
    /// arguments for what changes from one finding to the next: positional arguments are a set, to
    /// which a later finding with the same tag adds.
    fn check(&self, request: &Predicate) -> BoxFuture<'static, Outcome>;
}

/// Outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A finding, which is published.
    Found(Predicate),
    /// No finding. The request is checked again when a finding would be.
    Unknown,
    /// Nothing was done, and no rate is charged. The request is checked again after this time, at
    /// least a second. Until then it makes room for others if too many wait.
    Later(Duration),
}

/// Why a request is not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RequestRefusal {
    /// The arguments do not fit the tag.
    #[error("the arguments do not fit the tag")]
    Malformed,
    /// The request is longer than [`max_request_bytes`](super::ServiceConfig::max_request_bytes).
    #[error("the request has {bytes} bytes, but at most {max} are allowed")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The longest allowed length in bytes.
        max: usize,
    },
    /// The address must not be dialled.
    #[error(transparent)]
    Address(#[from] AddressRefusal),
    /// The writer has [`max_of_writer`](super::ServiceConfig::max_of_writer) other requests in the
    /// record.
    #[error("the writer has too many requests in the record")]
    TooManyOfWriter,
    /// The record has [`max_of_record`](super::ServiceConfig::max_of_record) other requests, or no
    /// room for the finding in its bytes of findings, and no finding is past half of its life.
    #[error("the record has too many requests")]
    TooManyOfRecord,
    /// The writer has [`max_waiting_of_writer`](super::ServiceConfig::max_waiting_of_writer) other
    /// requests waiting, over all records.
    #[error("the writer has too many requests waiting")]
    TooManyWaitingOfWriter,
    /// [`max_waiting`](super::ServiceConfig::max_waiting) other requests wait for their first
    /// check, or [`max_requests`](super::ServiceConfig::max_requests) are known and none can make
    /// room.
    #[error("too many requests are waiting")]
    QueueFull,
}
