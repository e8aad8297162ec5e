//! What to do about a failure.
//!
//! **Invariants.** A hint names a way out that is open: a command that it names does not fail with
//! a hint back.

use std::io;

use libp2p_smart_record::{
    Fault, Limit, SignError, UpdateError, ValidationError,
    client::ClientError,
    ipns::IpnsSignError,
    presence_publisher::PublisherError,
    query::RefusedAnswers,
    store::{StorageError, WriteError},
};
use smart_record_host::HostError;

use super::FailureKind;

/// What to look into after answers were refused.
pub(super) fn of_answers(refused: &RefusedAnswers) -> (FailureKind, &'static str) {
    if refused.is_ahead_of_clock() {
        return (FailureKind::Clock, CLOCK_HINT);
    }
    let hint = match refused.fault() {
        _ if refused.have_expired() => {
            "the record has expired; its owner has to publish it again. If it should not have, is \
             the clock of this machine right?"
        }
        Some(Fault::Unsupported) => "a newer version of this command may know it",
        _ => "the peers of --connect hold no valid record; give other nodes",
    };
    (FailureKind::Refused, hint)
}

const CLOCK_HINT: &str =
    "is the clock of this machine right? `date -u` shows it; if it is, that of the signer is not";

/// What to do about an IPNS record that cannot be signed.
pub(super) const fn signing_hint(error: &IpnsSignError) -> &'static str {
    match error {
        IpnsSignError::TtlBeyondEol { .. } => "make --ttl shorter, or --lifetime longer",
        IpnsSignError::TooGreat { .. } => "give a smaller --sequence or a shorter --ttl",
        IpnsSignError::Expired { .. } => "give --lifetime a duration, or a date in the future",
        IpnsSignError::Value(_) => "a CID alone is written /ipfs/CID, a name alone /ipns/NAME",
        IpnsSignError::Limit(_) => "make the path shorter",
        _ => "give --key another key",
    }
}

/// What to do about a record that is refused.
pub(super) fn refusal_hint(reason: &ValidationError) -> &'static str {
    match reason {
        reason if reason.is_ahead_of_clock() => CLOCK_HINT,
        ValidationError::LimitExceeded(exceeded) if exceeded.limit == Limit::TTL => {
            "make its lifetime shorter"
        }
        _ => match reason.fault() {
            Fault::Stale => "`smart-record get` with the same --connect shows the newer one",
            Fault::Expired => "sign it anew with `smart-record publish` and the same --connect",
            Fault::LimitExceeded => "make it smaller",
            Fault::RefusedByPolicy => "sign it with the key of the peer that the key names",
            Fault::Unsupported => "a newer version of this command may know it",
            _ => "check the file, and that the key is the one it was signed for",
        },
    }
}

const FREE_SPACE: &str = "free space on the disk, or raise its quota or `ulimit -f`";

pub(super) const fn file_hint(error: io::ErrorKind) -> &'static str {
    use io::ErrorKind::{
        AlreadyExists, FileTooLarge, InvalidData, IsADirectory, QuotaExceeded, StorageFull,
    };
    match error {
        AlreadyExists => "give another name; keys are never overwritten",
        FileTooLarge | QuotaExceeded | StorageFull => FREE_SPACE,
        InvalidData | IsADirectory => "give the name of another file",
        _ => "check the name and the permissions of the file and its folder",
    }
}

pub(super) const fn storage_hint(error: &StorageError) -> &'static str {
    match error {
        StorageError::Locked => "another process has it open: stop that one, or give another file",
        StorageError::OtherPeer(_) => {
            "give --key the key that the store was made with, or --store another file"
        }
        StorageError::ForeignFile => "give a file that a node has made, or a new name",
        StorageError::EmptyFile => "remove it, restore it from a copy, or give another file",
        StorageError::OtherFormat { .. } | StorageError::OtherDatabase { .. } => {
            "use the version that made it, or give another file"
        }
        StorageError::Full => FREE_SPACE,
        _ => "check the disk and the permissions, give another file, or leave out --store",
    }
}

pub(super) fn of_client(error: &ClientError) -> (FailureKind, Option<String>) {
    let (kind, hint) = match error {
        ClientError::Unreachable => (
            FailureKind::Unreachable,
            "check the address of --connect, and that its node is running",
        ),
        ClientError::TimedOut | ClientError::NotAcknowledged(_) => {
            (FailureKind::Silent, "check that --protocol is that of the nodes, or try again")
        }
        ClientError::AnswersRefused(refused) => of_answers(refused),
        ClientError::Sign(SignError::Update(UpdateError::Limit(exceeded)))
            if exceeded.limit == Limit::CLOCK_SKEW =>
        {
            (FailureKind::Clock, CLOCK_HINT)
        }
        ClientError::Sign(SignError::Update(UpdateError::Limit(exceeded)))
            if exceeded.limit == Limit::SPACE_BYTES =>
        {
            (FailureKind::Refused, "the space is full; give --replace, or `withdraw` it first")
        }
        ClientError::Sign(_) => {
            (FailureKind::Refused, "make the document smaller or --ttl shorter (at most 48h)")
        }
        ClientError::NotSmart(_) => {
            (FailureKind::Arguments, "keys of smart records begin with /sr/")
        }
        ClientError::Refused(WriteError::Refused(error)) if error.is_ahead_of_clock() => {
            (FailureKind::Clock, CLOCK_HINT)
        }
        ClientError::Refused(WriteError::Refused(error)) => {
            (FailureKind::Refused, refusal_hint(error))
        }
        ClientError::Refused(_) | ClientError::Storage(_) => {
            (FailureKind::Failed, "the local store has no room, or its disk has failed")
        }
        _ => return (FailureKind::Failed, None),
    };
    (kind, Some(hint.to_owned()))
}

pub(super) fn of_publisher(error: &PublisherError) -> (FailureKind, Option<String>) {
    match error {
        PublisherError::Client(error) => of_client(error),
        PublisherError::Announce(_) => {
            (FailureKind::Refused, Some("make --ttl shorter (at most 48h)".to_owned()))
        }
        _ => (FailureKind::Failed, None),
    }
}

pub(super) fn of_host(error: &HostError) -> (FailureKind, Option<String>) {
    match error {
        HostError::NoPeer(_) => (
            FailureKind::Arguments,
            Some(
                "give --connect and --relay the whole address that `smart-record node` prints"
                    .to_owned(),
            ),
        ),
        HostError::Transport(_) => (
            FailureKind::Failed,
            Some(
                "check --listen: it takes a TCP or QUIC address of this machine with a free port, \
                 and with --network-key TCP alone"
                    .to_owned(),
            ),
        ),
        _ => (FailureKind::Failed, None),
    }
}
