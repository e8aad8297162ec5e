//! The limits of presence records.
//!
//! **Invariants.** The entries that are kept do not depend on the order in which they arrived.
//!
//! **Spec.** `docs/design.md`, section "Validators".

use std::time::Duration;

use super::PresenceKey;
use smart_record_core::{DEFAULT_KEY_BYTES, Limit, LimitExceeded, settings};

/// The limits of presence records.
///
/// They decide what a replica keeps, so all nodes of a DHT should use the same limits, such as the
/// defaults. Sizes are bytes.
///
/// ```
/// use std::time::Duration;
/// use smart_record_formats::presence::PresenceLimits;
///
/// let limits = PresenceLimits::default().with_max_ttl(Duration::from_secs(3_600));
/// assert_eq!(limits.nodes_per_client(), 8);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceLimits {
    key_bytes: usize,
    record_bytes: usize,
    announcement_bytes: usize,
    nodes_per_client: usize,
    max_ttl: Duration,
    max_clock_skew: Duration,
}

impl Default for PresenceLimits {
    fn default() -> Self {
        Self {
            key_bytes: DEFAULT_KEY_BYTES,
            record_bytes: 8 * 1_024,
            announcement_bytes: 2_816,
            nodes_per_client: 8,
            max_ttl: Duration::from_secs(48 * 60 * 60),
            max_clock_skew: Duration::from_secs(5 * 60),
        }
    }
}

settings! { PresenceLimits:
    /// Maximum length of a key. Defaults to 256, as for smart records.
    key_bytes, with_key_bytes: usize;
    /// Maximum size of a record. Defaults to 8 KiB, which fits into a reply to a GET beside the
    /// addresses of the closer peers.
    record_bytes, with_record_bytes: usize;
    /// Maximum size of a value of the record, counted as the largest possible for the keys of the
    /// client and the node and the length of the DHT key. Defaults to 2,816: enough for two RSA
    /// keys of 4,096 bits and a key of 190 bytes. With two Ed25519 keys a value takes about 500.
    announcement_bytes, with_announcement_bytes: usize;
    /// Maximum number of nodes at which a client is present. The newest entries are kept. Defaults
    /// to 8, a guess: few clients need more, and with Ed25519 keys they fill half a record.
    ///
    /// Fewer large entries are kept. An entry is kept while the newer ones together, each counted
    /// at its largest, take less than [`record_bytes`](Self::record_bytes) minus the fields before
    /// the values, minus [`announcement_bytes`](Self::announcement_bytes). So whether it is kept
    /// depends only on entries that are kept, and replicas agree whatever the order of arrival.
    nodes_per_client, with_nodes_per_client: usize;
    /// Maximum duration from `created_at` to `retain_until`. Defaults to 48 hours, as long as
    /// Kademlia keeps records.
    max_ttl, with_max_ttl: Duration;
    /// How far `created_at` may be ahead of the replica's clock. Defaults to 5 minutes, which
    /// covers a machine that keeps its clock at all.
    max_clock_skew, with_max_clock_skew: Duration;
}

impl PresenceLimits {
    /// Limit of the size of an announcement in bytes, counted as the largest possible for the keys
    /// of its client and node.
    pub const ANNOUNCEMENT_BYTES: Limit = Limit::new("the announcement", "bytes");
    /// Limit of the number of nodes at which a client is present.
    pub const NODES_PER_CLIENT: Limit = Limit::new("the client's presence", "nodes");

    pub(super) fn check_key(&self, key: &PresenceKey) -> Result<(), LimitExceeded> {
        Limit::KEY_BYTES.check(key.as_str().len(), self.key_bytes)
    }

    /// Whether an entry is kept if there are `count` newer ones with a total weight of `weight`.
    pub(super) fn stays(&self, key: &PresenceKey, count: usize, weight: usize) -> bool {
        // Maximum size of the fields of the record before its values.
        let head = key.as_str().len().saturating_add(key.client().to_string().len());
        let head = head.saturating_add(16);
        let room = self.record_bytes.saturating_sub(self.announcement_bytes).saturating_sub(head);
        count < self.nodes_per_client.max(1) && (weight < room || count == 0)
    }
}
