//! How commands fail: what went wrong, what to do about it, and the exit code, which is in the help for scripts.
//!
//! **Invariants.** A kind has one exit code.

use std::{fmt, io, process::ExitCode};

use libp2p_smart_record::{
    ValidationError,
    client::ClientError,
    store::{OpenError, StorageError, WriteError},
};
use serde_json::json;
use smart_record_host::HostError;

use crate::output::say;

/// What stands under the help.
pub const HELP: &str = "\
Exit codes:
  0    done
  1    failed: a file, a disk, the machine
  2    wrong arguments
  3    nothing found
  4    nobody reached, or nobody answered
  5    refused: the rules of records do not allow it
  130  the demo was interrupted (143: terminated)

With --json a failure is one object on standard error: {\"kind\", \"message\", \"hint\", \"exit_code\"}.
With RUST_LOG=libp2p_smart_record=debug standard error has a log.";

/// What scripts tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Failed,
    Arguments,
    NotFound,
    Unreachable,
    Refused,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Arguments => 2,
            Self::NotFound => 3,
            Self::Unreachable => 4,
            Self::Refused => 5,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "failed",
            Self::Arguments => "arguments",
            Self::NotFound => "not-found",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        })
    }
}

/// What a command itself finds wrong.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("there is nothing under {0}")]
    NotFound(String),
    #[error("no peer could be reached")]
    Unreachable,
    #[error("peers were reached, but none of them answered")]
    NoAnswer,
    #[error("peers were reached, but none of them took it")]
    NotTaken,
    #[error("nobody to talk to")]
    NoAddress,
    #[error("whose space?")]
    NoKey,
    #[error("{0} has no rules of records that this command knows")]
    UnknownKey(String),
    #[error("{key} takes no documents: they go into smart records, under /sr/…")]
    NotSmart { key: String },
    #[error("{message}")]
    Arguments { message: String, hint: &'static str },
    #[error("{file} could not be read: {source}")]
    KeyFile { file: String, source: io::Error },
    #[error("{0} has no key in it that could be read")]
    NotAKeyFile(String),
    #[error("{file} could not be made: {source}")]
    NewKeyFile { file: String, source: io::Error },
    #[error("{file} could not be {verb}: {source}")]
    File { file: String, verb: &'static str, source: io::Error },
    #[error(transparent)]
    Store(OpenError),
    #[error("{file} is no good record under {key}: {source}")]
    BadRecord { file: String, key: String, source: Box<ValidationError> },
    #[error("it was not withdrawn: told to stop again")]
    StoppedTwice,
}

impl Failure {
    const fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Unreachable | Self::NoAnswer | Self::NotTaken => Kind::Unreachable,
            Self::NoAddress
            | Self::NoKey
            | Self::UnknownKey(_)
            | Self::NotSmart { .. }
            | Self::Arguments { .. } => Kind::Arguments,
            Self::BadRecord { .. } => Kind::Refused,
            Self::KeyFile { .. }
            | Self::NotAKeyFile(_)
            | Self::NewKeyFile { .. }
            | Self::File { .. }
            | Self::Store(_)
            | Self::StoppedTwice => Kind::Failed,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::NotFound(_) => "check the key, or whether it has expired".to_owned(),
            Self::Unreachable => {
                "check the address of --connect, and whether its node runs".to_owned()
            }
            Self::NoAnswer | Self::NotTaken => {
                "check whether their --protocol is this one's".to_owned()
            }
            Self::NoAddress => {
                "give --connect the address that `smart-record node` prints".to_owned()
            }
            Self::NoKey => "give --key the file of the key that it was written with".to_owned(),
            Self::UnknownKey(_) => "keys begin with /sr/, /pk/, /ipns/, /iprs/ or /presence/; \
                                    give a file's key with --under"
                .to_owned(),
            Self::NotSmart { .. } => {
                "what is signed already is put with --value FILE; presence with `presence announce`"
                    .to_owned()
            }
            Self::Arguments { hint, .. } => (*hint).to_owned(),
            Self::KeyFile { file, .. } | Self::NotAKeyFile(file) => {
                format!("`smart-record key generate {file}` makes one")
            }
            Self::NewKeyFile { .. } => "give another name: keys are never overwritten".to_owned(),
            Self::File { .. } => "check the name, and who may use it".to_owned(),
            Self::Store(error) => storage_hint(&error.source).to_owned(),
            Self::BadRecord { .. } => {
                "check whether --under is the key that it was signed for; it may have expired, too"
                    .to_owned()
            }
            Self::StoppedTwice => "it is found until it expires".to_owned(),
        }
    }
}

const fn storage_hint(error: &StorageError) -> &'static str {
    match error {
        StorageError::Locked => "another process has it open: stop that one, or give another file",
        StorageError::OtherPeer(_) => {
            "give --key the key that it was made with, or another file with --store"
        }
        StorageError::NotAStorage => "give a file that a node has made, or one that is not there",
        StorageError::OtherFormat { .. } => {
            "use the version that has made it, or give another file"
        }
        StorageError::Full => "make room on the disk",
        _ => {
            "check the disk and who may use the file; a node can do without --store, or with another file"
        }
    }
}

/// Whether it is that nobody reads our standard output any more.
pub fn is_unread(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// What is told of a failure.
#[derive(Debug)]
pub struct Report {
    kind: Kind,
    message: String,
    hint: Option<String>,
    /// Whoever read standard output does not any more, which is no failure of ours.
    is_unread: bool,
}

impl Report {
    pub fn of(error: &anyhow::Error) -> Self {
        let message = format!("{error:#}");
        let is_unread = is_unread(error);
        let (kind, hint) = if let Some(failure) = error.downcast_ref::<Failure>() {
            (failure.kind(), Some(failure.hint()))
        } else if let Some(error) = error.downcast_ref::<ClientError>() {
            of_client(error)
        } else if let Some(error) = error.downcast_ref::<HostError>() {
            of_host(error)
        } else {
            (Kind::Failed, None)
        };
        Self { kind, message, hint, is_unread }
    }

    /// Prints it, and returns the exit code.
    pub fn print(&self, json: bool) -> ExitCode {
        if self.is_unread {
            return ExitCode::SUCCESS;
        }
        let Self { kind, message, hint, .. } = self;
        let code = kind.code();
        if json {
            let kind = kind.to_string();
            let failure =
                json!({ "kind": kind, "message": message, "hint": hint, "exit_code": code });
            say(&failure.to_string());
        } else {
            say(&format!("error: {message}"));
            if let Some(hint) = hint {
                say(&format!("hint: {hint}"));
            }
        }
        ExitCode::from(code)
    }
}

fn of_client(error: &ClientError) -> (Kind, Option<String>) {
    let (kind, hint) = match error {
        ClientError::TimedOut | ClientError::Unreachable => {
            (Kind::Unreachable, "check the address of --connect, and whether its node runs")
        }
        ClientError::Sign(_) => {
            (Kind::Refused, "make the document smaller, or its --ttl shorter (at most 48h)")
        }
        ClientError::Unregistered(_) => (Kind::Arguments, "smart records have keys under /sr/…"),
        ClientError::Refused(WriteError::Refused(error)) => match error {
            ValidationError::Stale => {
                (Kind::Refused, "there is a newer one: `smart-record get` shows it")
            }
            _ => {
                (Kind::Refused, "check the key that it was signed for, and whether it has expired")
            }
        },
        ClientError::Refused(_) | ClientError::Storage(_) => {
            (Kind::Failed, "this process has no room for it, or its disk has failed")
        }
        _ => return (Kind::Failed, None),
    };
    (kind, Some(hint.to_owned()))
}

fn of_host(error: &HostError) -> (Kind, Option<String>) {
    match error {
        HostError::NoPeer(_) => (
            Kind::Arguments,
            Some("give --connect the whole address that `smart-record node` prints".to_owned()),
        ),
        HostError::Transport(_) => (
            Kind::Failed,
            Some(
                "check --listen: an address of this machine, TCP or QUIC, whose port is free"
                    .to_owned(),
            ),
        ),
        _ => (Kind::Failed, None),
    }
}

/// Wrong arguments, or help that was asked for.
pub fn arguments(error: &clap::Error) -> ExitCode {
    // Whether there is a --json cannot be asked of what could not be read.
    let json = std::env::args_os().any(|argument| argument == "--json");
    if !error.use_stderr() || !json {
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
    }
    let text = error.render().to_string();
    let message = text.trim().trim_start_matches("error: ").to_owned();
    let hint = Some("`smart-record help` says what there is".to_owned());
    Report { kind: Kind::Arguments, message, hint, is_unread: false }.print(true)
}

/// Tells what went wrong without an end: it is tried again.
pub fn warn(json: bool, message: &str) {
    if json {
        say(&json!({ "kind": "warning", "message": message }).to_string());
    } else {
        say(&format!("warning: {message}"));
    }
}
