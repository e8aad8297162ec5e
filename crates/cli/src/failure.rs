//! How commands fail: the error, a hint, and the exit code, which the help lists for scripts.
//!
//! **Invariants.** Each kind has one exit code.

use std::{fmt, io, net::SocketAddr, process::ExitCode};

use libp2p_smart_record::{
    Limit, SignError, UpdateError, ValidationError,
    client::ClientError,
    printable,
    store::{OpenError, StorageError, WriteError},
};
use serde_json::json;
use smart_record_host::HostError;

use crate::{
    key_file::KeyFormatError,
    output::{json_line, say},
};

/// Text below the help.
pub const HELP: &str = "\
Exit codes:
  0    done
  1    failed: a file, the disk or the system
  2    wrong arguments
  3    nothing found under the key
  4    no peer reached, or none answered or acknowledged
  5    refused: the rules of records do not allow it
  130  the demo was interrupted (143: terminated)

With --json a failure is one object on standard error: {\"kind\", \"message\", \"hint\", \"exit_code\"}.
With RUST_LOG=libp2p_smart_record=debug a log goes to standard error.";

/// Kind of a failure, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    Failed,
    Arguments,
    NotFound,
    Unreachable,
    Refused,
}

impl FailureKind {
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

impl fmt::Display for FailureKind {
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

/// A failure of a command itself.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("nothing found under {0}")]
    NotFound(String),
    #[error("no peer could be reached")]
    Unreachable,
    #[error("peers were reached, but none answered")]
    NoAnswer,
    #[error("peers were reached, but none acknowledged the record")]
    NotTaken,
    #[error("no node to connect to")]
    NoAddress,
    #[error("the key of the space is missing")]
    NoKey,
    #[error("the namespace of {0} is unknown")]
    UnknownKey(String),
    #[error("documents go into smart records, under /sr/…, not under {key}")]
    NotSmart { key: String },
    #[error("{message}")]
    Arguments { message: String, hint: &'static str },
    #[error("failed to read the key file {file}")]
    KeyFile { file: String, source: io::Error },
    #[error("the file {file} contains no key: {reason}")]
    NotAKeyFile { file: String, reason: KeyFormatError },
    #[error("failed to create the key file {file}")]
    NewKeyFile { file: String, source: io::Error },
    #[error("failed to {verb} {file}")]
    File { file: String, verb: &'static str, source: io::Error },
    #[error("failed to serve metrics at {address}")]
    Metrics { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Store(OpenError),
    #[error("{file} is not a valid record under {key}")]
    BadRecord { file: String, key: String, source: Box<ValidationError> },
    #[error("stopped before the withdrawal was done")]
    StoppedTwice,
}

impl Failure {
    const fn kind(&self) -> FailureKind {
        match self {
            Self::NotFound(_) => FailureKind::NotFound,
            Self::Unreachable | Self::NoAnswer | Self::NotTaken => FailureKind::Unreachable,
            Self::NoAddress
            | Self::NoKey
            | Self::UnknownKey(_)
            | Self::NotSmart { .. }
            | Self::Arguments { .. } => FailureKind::Arguments,
            Self::BadRecord { .. } => FailureKind::Refused,
            Self::KeyFile { .. }
            | Self::NotAKeyFile { .. }
            | Self::NewKeyFile { .. }
            | Self::File { .. }
            | Self::Metrics { .. }
            | Self::Store(_)
            | Self::StoppedTwice => FailureKind::Failed,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::NotFound(_) => "check the key; the record may have expired".to_owned(),
            Self::Unreachable => {
                "check the address of --connect, and that its node is running".to_owned()
            }
            Self::NoAnswer | Self::NotTaken => {
                "check that --protocol is that of the nodes".to_owned()
            }
            Self::NoAddress => {
                "give --connect the address that `smart-record node` prints".to_owned()
            }
            Self::NoKey => {
                "give --key the file of the key that the space was written with".to_owned()
            }
            Self::UnknownKey(_) => "keys begin with /sr/, /pk/, /ipns/, /iprs/ or /presence/; \
                                    give a file's key with --under"
                .to_owned(),
            Self::NotSmart { .. } => {
                "send a signed record with `put`, and announce presence with `presence announce`"
                    .to_owned()
            }
            Self::Arguments { hint, .. } => (*hint).to_owned(),
            Self::KeyFile { file, source } if source.kind() == io::ErrorKind::NotFound => {
                format!("make a key with `smart-record key generate {file}`")
            }
            Self::NotAKeyFile { file, reason } => reason.hint(file),
            Self::KeyFile { source, .. }
            | Self::NewKeyFile { source, .. }
            | Self::File { source, .. } => file_hint(source.kind()).to_owned(),
            Self::Metrics { .. } => {
                "give --metrics an address of this machine with a free port".to_owned()
            }
            Self::Store(error) => storage_hint(&error.source).to_owned(),
            Self::BadRecord { .. } => {
                "check that --under is the key it was signed for, and that it has not expired"
                    .to_owned()
            }
            Self::StoppedTwice => "the announcement can be found until it expires".to_owned(),
        }
    }
}

const FREE_SPACE: &str = "free space on the disk, or raise its quota or `ulimit -f`";

const fn file_hint(error: io::ErrorKind) -> &'static str {
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

const fn storage_hint(error: &StorageError) -> &'static str {
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

/// Whether the reader of standard output has closed it.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A failure as it is printed.
#[derive(Debug)]
pub struct FailureReport {
    kind: FailureKind,
    message: String,
    hint: Option<String>,
    /// The reader of standard output has closed it, which is no failure.
    is_broken_pipe: bool,
}

impl FailureReport {
    pub fn of(error: &anyhow::Error) -> Self {
        let message = format!("{error:#}");
        let is_broken_pipe = is_broken_pipe(error);
        let (kind, hint) = if let Some(failure) = error.downcast_ref::<Failure>() {
            (failure.kind(), Some(failure.hint()))
        } else if let Some(error) = error.downcast_ref::<ClientError>() {
            of_client(error)
        } else if let Some(error) = error.downcast_ref::<HostError>() {
            of_host(error)
        } else {
            (FailureKind::Failed, None)
        };
        Self { kind, message, hint, is_broken_pipe }
    }

    /// Prints the failure and returns the exit code.
    pub fn print(&self, json: bool) -> ExitCode {
        if self.is_broken_pipe {
            return ExitCode::SUCCESS;
        }
        let Self { kind, message, hint, .. } = self;
        let code = kind.code();
        if json {
            let kind = kind.to_string();
            let failure =
                json!({ "kind": kind, "message": message, "hint": hint, "exit_code": code });
            say(&json_line(&failure));
        } else {
            say(&format!("error: {}", printable(message)));
            if let Some(hint) = hint {
                say(&format!("hint: {}", printable(hint)));
            }
        }
        ExitCode::from(code)
    }
}

fn of_client(error: &ClientError) -> (FailureKind, Option<String>) {
    let (kind, hint) = match error {
        ClientError::TimedOut | ClientError::Unreachable | ClientError::NotAcknowledged(_) => (
            FailureKind::Unreachable,
            "check the address of --connect, and that its node is running",
        ),
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
        ClientError::Refused(WriteError::Refused(error)) => match error {
            ValidationError::Stale => {
                (FailureKind::Refused, "a newer record exists; `smart-record get` shows it")
            }
            _ => (
                FailureKind::Refused,
                "check the key it was signed for, and that it has not expired",
            ),
        },
        ClientError::Refused(_) | ClientError::Storage(_) => {
            (FailureKind::Failed, "the local store has no room, or its disk has failed")
        }
        _ => return (FailureKind::Failed, None),
    };
    (kind, Some(hint.to_owned()))
}

fn of_host(error: &HostError) -> (FailureKind, Option<String>) {
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

/// Reports wrong arguments, or prints help.
pub fn arguments(error: &clap::Error) -> ExitCode {
    // The arguments could not be parsed, so --json is looked for in the raw ones.
    let json = std::env::args_os().any(|argument| argument == "--json");
    if !error.use_stderr() || !json {
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
    }
    let text = error.render().to_string();
    let message = text.trim().trim_start_matches("error: ").to_owned();
    let hint = Some("see `smart-record help`".to_owned());
    FailureReport { kind: FailureKind::Arguments, message, hint, is_broken_pipe: false }.print(true)
}

/// Prints a warning; the command goes on.
pub fn warn(json: bool, message: &str) {
    note(json, "warning", message);
}

/// Prints a message of this kind that is no result; the command goes on.
pub fn note(json: bool, kind: &str, message: &str) {
    if json {
        say(&json_line(&json!({ "kind": kind, "message": message })));
    } else {
        say(&format!("{kind}: {}", printable(message)));
    }
}
