//! What a service can check: the smart tags.

use std::time::Duration;

use futures::future::BoxFuture;

use super::filter::AddressRefusal;
use libp2p_smart_record::Predicate;

/// A kind of request that a service answers: predicates of a certain tag, and how they are checked.
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
///         async move { Outcome::Found(Predicate::new("sumIs").with_named("value", sum.to_string())) }.boxed()
///     }
/// }
/// ```
///
/// Whoever can write to a record can have a check made, so what it does must be fit for that: cheap, and of no harm to
/// others. How often checks are made is bounded, see [`ServiceConfig`](super::ServiceConfig).
pub trait SmartTag: Send + Sync + 'static {
    /// The tag of the predicates that are requests.
    fn tag(&self) -> &str;

    /// What is asked, in the one form that stands for all that mean the same; it is checked once however often it is asked, and
    /// the finding stands under it. It comes without lifetimes. By default, just as it is.
    ///
    /// # Errors
    /// [`RequestRefusal`] if it is not to be checked.
    fn request(&self, asked: &Predicate) -> Result<Predicate, RequestRefusal> {
        Ok(asked.clone())
    }

    /// Checks. A finding that is longer than twice [`max_request_bytes`](super::ServiceConfig::max_request_bytes) is not
    /// published. Give what changes from one finding to the next named arguments: those without a name are a set, to which
    /// a later finding of the same tag adds.
    fn check(&self, request: &Predicate) -> BoxFuture<'static, Outcome>;
}

/// What a check has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A finding, to be published.
    Found(Predicate),
    /// Nothing is known; nothing is published. It is tried again when a finding would be checked again.
    Unknown,
    /// Nothing was done, and it does not count as a check; it is tried again after this long, at least a second. Meanwhile it
    /// makes room for others if too many wait.
    Later(Duration),
}

/// Why a request is not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RequestRefusal {
    /// Its arguments are not those of the tag.
    #[error("its arguments are not those of the tag")]
    Malformed,
    /// It is longer than [`max_request_bytes`](super::ServiceConfig::max_request_bytes).
    #[error("it is {bytes} bytes long, of {max}")]
    TooLong {
        /// How long it is, in bytes.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// The address is not to be dialled.
    #[error(transparent)]
    Address(#[from] AddressRefusal),
    /// The writer has [`max_of_writer`](super::ServiceConfig::max_of_writer) others in the record.
    #[error("its writer has too many in the record")]
    TooManyOfWriter,
    /// The record has [`max_of_record`](super::ServiceConfig::max_of_record) others, of which none was checked longer ago than
    /// half of a finding's life.
    #[error("there are too many in the record")]
    TooManyOfRecord,
    /// The writer has [`max_waiting_of_writer`](super::ServiceConfig::max_waiting_of_writer) others waiting, over all
    /// records.
    #[error("its writer has too many waiting")]
    TooManyWaitingOfWriter,
    /// [`max_waiting`](super::ServiceConfig::max_waiting) others are waiting for their turn, or as many as
    /// [`max_requests`](super::ServiceConfig::max_requests) are known and none of them can go.
    #[error("too many are waiting")]
    QueueFull,
}
