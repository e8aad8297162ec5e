//! Presence: the nodes at which a client can be reached, and the keys to use.
//!
//! The record under the key `/presence/<client id>/…` contains one announcement for each node that
//! hosts the client. Client and node both sign it. It names both, the node's X25519 key for
//! handshakes, the client's X25519 key for communication with other clients, and its expiry. The
//! client signs first, then the node:
//!
//! * [`Announcer`]: the client's side. It announces, renews and withdraws, and sets the dates.
//! * [`AnnouncementOffer`], [`ClientSignedAnnouncement`], [`Announcement`]: an announcement before,
//!   between and after the two signatures. The separate types keep one from being used as another.
//! * [`Withdrawal`]: ends the announcements at a node. Only the client signs it.
//! * [`PresenceRecord`]: the entries under a key, one for each node, and the view of them at a
//!   time.
//!
//! ```
//! use std::time::Duration;
//! use libp2p_identity::Keypair;
//! use smart_record_formats::presence::{
//!     Announcement, Announcer, ExchangeKey, ClientSignedAnnouncement, PresenceKey, PresenceLimits,
//!     PresenceValidator,
//! };
//! use smart_record_core::{Timestamp, Validator};
//!
//! let (client, node) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
//! # let (client_secret, node_secret) = ([1; 32], [2; 32]);
//! # let public = |secret| x25519_dalek::x25519(secret, x25519_dalek::X25519_BASEPOINT_BYTES);
//! let handshake_key = ExchangeKey::try_from(public(node_secret))?;
//! let presence_key = ExchangeKey::try_from(public(client_secret))?;
//! let now = Timestamp::from_millis(1_700_000_000_000);
//! let limits = PresenceLimits::default();
//!
//! // The client signs, and sends this to the node.
//! let key = PresenceKey::of(client.public().to_peer_id());
//! let mut announcer = Announcer::new(key.clone(), client, limits.clone())?;
//! let ttl = Duration::from_secs(3_600);
//! let half = announcer.announce(&node.public(), handshake_key, presence_key, now, ttl)?.encode();
//!
//! // The node checks the announcement and countersigns it.
//! let half = ClientSignedAnnouncement::decode(&key, half, &limits)?;
//! let signed = half.countersign(&node, handshake_key, now, &limits)?.encode();
//!
//! // The client puts it into the DHT.
//! announcer.accept(Announcement::decode(&key, signed, &limits)?)?;
//! let value = announcer.record(now).encode();
//!
//! // A reader knows that both have signed it.
//! let found = PresenceValidator::default().read(key.as_record_key(), &value, now)?;
//! let announcement = found.view(now).next().ok_or("nobody there")?;
//! assert_eq!(announcement.node(), node.public().to_peer_id());
//! assert_eq!(announcement.presence_key(), presence_key);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Invariants.** No function reads a clock. Holding an [`Announcement`] means that both
//! signatures are good for the key that it was read under. Holding a [`ClientSignedAnnouncement`]
//! or a [`Withdrawal`] means that the client's signature is. Of two entries for a node the later
//! counts, even if it has expired. So joining records is commutative, associative and idempotent.
//!
//! **Spec.** `proto/presence.proto`; `docs/design.md`, section "Validators"; signatures as in
//! [RFC 0002](https://github.com/libp2p/specs/blob/master/RFC/0002-signed-envelopes.md), X25519 as
//! in [RFC 7748](https://www.rfc-editor.org/rfc/rfc7748).

mod announcement;
mod announcer;
mod entry;
mod error;
mod exchange_key;
mod key;
mod limits;
mod message;
mod record;
mod signed;
mod validator;

pub(crate) use self::record::{collect, contains};
pub use self::validator::PresenceValidator;
pub use self::{
    announcement::{Announcement, AnnouncementOffer, ClientSignedAnnouncement},
    announcer::Announcer,
    entry::{PresenceEntry, Withdrawal},
    error::{AnnounceError, Party, PresenceError},
    exchange_key::{ExchangeKey, ExchangeKeyError},
    key::{PresenceKey, PresenceKeyError},
    limits::PresenceLimits,
    message::SIGNATURE_DOMAIN,
    record::{PresenceRecord, make_put_record},
};
