//! What a client asks of a behaviour.
//!
//! **Invariants.** Whoever dropped the other end has lost interest; that is no error.

use std::{fmt, sync::Arc};

use futures::channel::oneshot;
use prost::bytes::Bytes;

use super::{
    config::ReadPolicy,
    outcome::{Reading, Snapshot},
    own::Write,
};
use crate::{
    client::{ClientError, Publication, latest},
    key::RecordKey,
};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, ClientError>>;

/// What a client asks of a behaviour.
pub(crate) enum Command {
    Write { key: RecordKey, write: Write, reply: Reply<Publication> },
    Put { key: RecordKey, value: Bytes, reply: Reply<Publication> },
    Read { key: RecordKey, policy: Option<ReadPolicy>, reply: Reply<Reading> },
    Watch { key: RecordKey, sender: latest::Sender<Arc<Snapshot>> },
}

impl Command {
    /// Whether whoever has given it has lost interest.
    pub(super) fn is_canceled(&self) -> bool {
        match self {
            Self::Write { reply, .. } | Self::Put { reply, .. } => reply.is_canceled(),
            Self::Read { reply, .. } => reply.is_canceled(),
            Self::Watch { sender, .. } => sender.is_closed(),
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, key) = match self {
            Self::Write { key, .. } => ("write", key),
            Self::Put { key, .. } => ("put", key),
            Self::Read { key, .. } => ("read", key),
            Self::Watch { key, .. } => ("watch", key),
        };
        f.debug_struct("Command").field("to", &name).field("key", key).finish()
    }
}

/// Answers whoever asked, who may have lost interest.
pub(super) fn answer<T>(reply: Reply<T>, result: Result<T, ClientError>) {
    let _ = reply.send(result);
}
