//! Presence: the laws of joins, the announcer, and messages that client or node refuse to sign.

mod announcing;
mod forms;
mod laws;
mod parties;
mod replays;
mod signers;
mod sizes;

use libp2p_identity::Keypair;
use smart_record_core::*;
use smart_record_formats::presence::{
    AnnounceError, Announcement, AnnouncementOffer, Announcer, ClientSignedAnnouncement,
    ExchangeKey, Party, PresenceEntry, PresenceError, PresenceKey, PresenceLimits, PresenceRecord,
    PresenceValidator, make_put_record,
};
use smart_record_testing::presence::*;

fn exchange_key(n: u8) -> ExchangeKey {
    [n; 32].try_into().unwrap()
}

fn key_of(client: &Keypair) -> PresenceKey {
    PresenceKey::of(id(client))
}

fn validator() -> PresenceValidator {
    PresenceValidator::default()
}
