//! How commands fail: the error, a hint, and the exit code, which the help lists for scripts.
//!
//! **Invariants.** Each kind has one exit code. A cause is told once: an error whose text contains
//! another error has it not as its source. A hint names a way out that is open.

mod hints;

use std::{fmt, io, net::SocketAddr, process::ExitCode};

use libp2p::PeerId;
use libp2p_smart_record::{
    Fault, ValidationError, client::ClientError, ipns::IpnsSignError, iprs::IprsError,
    presence_publisher::PublisherError, printable, query::RefusedAnswers, store::OpenError,
};
use serde_json::{Map, Value, json};
use smart_record_host::HostError;

use self::hints::{
    file_hint, of_answers, of_client, of_host, of_publisher, refusal_hint, signing_hint,
    storage_hint,
};
use crate::{
    key_file::KeyFormatError,
    missing::Missing,
    output::{json_line, say, say_lines},
};

/// Text below the help.
pub const HELP: &str = "\
Exit codes:
  0    done
  1    failed: a file, the disk or the system
  2    wrong arguments, such as a key without the form of its namespace
  3    nothing found under the key: the peers say that there is nothing, or the message says that
       too few of them have shown what they have
  4    no peer reached
  5    refused: what was to be written, by the rules of records or by the peers, because it is older
       than what there is, or because no peer keeps it; or all that the peers answered, because it
       is forged, expired, too large, or from ahead of this clock
  6    peers were reached, and none answered or acknowledged
  130  the demo was interrupted (143: terminated)

With --json a failure is one object on standard error: {\"kind\", \"message\", \"hint\", \"exit_code\"},
for exit code 3 with \"complete\" and \"missing\", as `get` shows them.
With RUST_LOG=libp2p_smart_record=debug a log goes to standard error.";

/// Kind of a failure, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    Failed,
    Arguments,
    NotFound,
    Unreachable,
    Refused,
    /// Refused because of the time of a clock, this one's or that of others.
    Clock,
    Silent,
}

impl FailureKind {
    const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Arguments => 2,
            Self::NotFound => 3,
            Self::Unreachable => 4,
            Self::Refused | Self::Clock => 5,
            Self::Silent => 6,
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
            Self::Clock => "clock",
            Self::Silent => "silent",
        })
    }
}

/// A failure of a command itself.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("nothing found under {key}{}", in_part(.missing))]
    NotFound { key: String, missing: Option<Missing> },
    #[error("no peer could be reached")]
    Unreachable,
    #[error("peers were reached, but none answered")]
    NoAnswer,
    #[error("peers were reached, but none acknowledged the record")]
    NotTaken,
    #[error("nothing valid was found under {key}: {refused}")]
    AnswersRefused { key: String, refused: RefusedAnswers },
    #[error("older than what there is under {key}{}", in_brackets(.current))]
    Older { key: String, current: Option<String> },
    #[error("no peer keeps the record under {key}, although {acknowledged} acknowledged it")]
    NotKept { key: String, acknowledged: usize },
    #[error("the record under {key} was refused by the peers that were sent it, {refused} in all")]
    NotAccepted { key: String, refused: usize },
    #[error("what there is under {key} is not known: not enough of the closest peers answered")]
    UnknownContent { key: String },
    #[error("{key} is not a key of {owner}, whose key is to sign")]
    NotOwner { key: String, owner: PeerId },
    #[error("the record of {name} points to {value}, which is no content path")]
    NoPath { name: String, value: String },
    #[error("more than {max} names point to each other")]
    TooManyNames { max: usize },
    #[error("no node to connect to")]
    NoAddress,
    #[error("the key to sign with is missing")]
    NoKey,
    #[error("the namespace of {0} is unknown")]
    UnknownKey(String),
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
    #[error(transparent)]
    Ipns(Box<IpnsSignError>),
    #[error(transparent)]
    Iprs(Box<IprsError>),
    #[error("stopped before the withdrawal was done")]
    StoppedTwice,
}

impl Failure {
    fn kind(&self) -> FailureKind {
        match self {
            Self::NotFound { .. } => FailureKind::NotFound,
            Self::Unreachable => FailureKind::Unreachable,
            Self::NoAnswer | Self::NotTaken | Self::UnknownContent { .. } => FailureKind::Silent,
            Self::AnswersRefused { refused, .. } => of_answers(refused).0,
            Self::Ipns(error) if matches!(**error, IpnsSignError::Value(_)) => {
                FailureKind::Arguments
            }
            Self::Older { .. }
            | Self::NotKept { .. }
            | Self::NotAccepted { .. }
            | Self::NoPath { .. }
            | Self::Ipns(_)
            | Self::Iprs(_)
            | Self::TooManyNames { .. }
            | Self::BadRecord { .. } => FailureKind::Refused,
            Self::NoAddress
            | Self::NoKey
            | Self::UnknownKey(_)
            | Self::NotOwner { .. }
            | Self::Arguments { .. } => FailureKind::Arguments,
            Self::KeyFile { .. }
            | Self::NotAKeyFile { .. }
            | Self::NewKeyFile { .. }
            | Self::File { .. }
            | Self::Metrics { .. }
            | Self::Store(_)
            | Self::StoppedTwice => FailureKind::Failed,
        }
    }

    /// Further fields of the failure as JSON.
    fn details(&self) -> Map<String, Value> {
        let Self::NotFound { missing, .. } = self else { return Map::new() };
        let share = missing.map_or(0.0, |missing| missing.0);
        [("complete", missing.is_none().into()), ("missing", share.into())]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
    }

    fn hint(&self) -> String {
        match self {
            Self::NotFound { missing: None, .. } => {
                "check the key; the record may have expired".to_owned()
            }
            Self::NotFound { .. } => "try again, or give --connect more nodes".to_owned(),
            Self::Unreachable => {
                "check the address of --connect, and that its node is running".to_owned()
            }
            Self::NoAnswer | Self::NotTaken => {
                "check that --protocol is that of the nodes, or try again".to_owned()
            }
            Self::AnswersRefused { refused, .. } => of_answers(refused).1.to_owned(),
            Self::Older { key, .. } => {
                format!(
                    "`smart-record get {key}` with the same --connect shows it; sign a newer one"
                )
            }
            Self::NotKept { key, .. } if key.starts_with("/sr/") => {
                "the nodes demand work (`publish` and `withdraw` have --work), or allow other \
                 writers, sizes or keys than this command; ask who runs them"
                    .to_owned()
            }
            Self::NotKept { .. } => "the nodes allow other writers, sizes or keys than this \
                                     command; ask who runs them"
                .to_owned(),
            Self::NotAccepted { .. } => {
                "the nodes know another namespace or other rules; give --connect other nodes"
                    .to_owned()
            }
            Self::UnknownContent { .. } => {
                "try again; or give --sequence (for /iprs/ also --version) a number that is higher \
                 than all before"
                    .to_owned()
            }
            Self::NotOwner { .. } => {
                "give --key the file of the key that the name is made of, or write `self` in place \
                 of the name"
                    .to_owned()
            }
            Self::NoPath { name, .. } => format!(
                "`smart-record get /ipns/{name}` with the same --connect shows the whole record"
            ),
            Self::TooManyNames { .. } => {
                "`smart-record resolve --recursive=false` with the same --connect follows one name \
                 at a time"
                    .to_owned()
            }
            Self::NoAddress => {
                "give --connect the address that `smart-record node` prints".to_owned()
            }
            Self::NoKey => "give --key the file of the key; for what was written before, the same \
                            as then; `smart-record key generate FILE` makes a new one"
                .to_owned(),
            Self::UnknownKey(_) => "keys begin with /sr/, /pk/, /ipns/, /iprs/ or /presence/; \
                                    give a file's key with --under"
                .to_owned(),
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
            Self::Ipns(error) => signing_hint(error).to_owned(),
            Self::Iprs(_) => {
                "`smart-record publish --help` lists the options of each scheme".to_owned()
            }
            Self::BadRecord { source, .. } => match source.fault() {
                Fault::Malformed | Fault::Invalid => {
                    "check that --under is the key it was signed for"
                }
                _ => refusal_hint(source),
            }
            .to_owned(),
            Self::StoppedTwice => "the announcement can be found until it expires".to_owned(),
        }
    }
}

/// What is missing from the reading in which nothing was found, with a space before it.
fn in_part(missing: &Option<Missing>) -> String {
    missing.map(|missing| format!(" in a reading that is {missing}")).unwrap_or_default()
}

/// The text in brackets, with a space before it; nothing if there is none.
fn in_brackets(text: &Option<String>) -> String {
    text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
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
    /// Further fields of the JSON.
    details: Map<String, Value>,
    /// The reader of standard output has closed it, which is no failure.
    is_broken_pipe: bool,
}

impl FailureReport {
    pub fn of(error: &anyhow::Error) -> Self {
        let message = format!("{error:#}");
        let is_broken_pipe = is_broken_pipe(error);
        let details = error.downcast_ref().map(Failure::details).unwrap_or_default();
        let (kind, hint) = if let Some(failure) = error.downcast_ref::<Failure>() {
            (failure.kind(), Some(failure.hint()))
        } else if let Some(error) = error.downcast_ref::<ClientError>() {
            of_client(error)
        } else if let Some(error) = error.downcast_ref::<PublisherError>() {
            of_publisher(error)
        } else if let Some(error) = error.downcast_ref::<HostError>() {
            of_host(error)
        } else {
            (FailureKind::Failed, None)
        };
        Self { kind, message, hint, details, is_broken_pipe }
    }

    /// Prints the failure and returns the exit code.
    pub fn print(&self, json: bool) -> ExitCode {
        if self.is_broken_pipe {
            return ExitCode::SUCCESS;
        }
        self.lines(json).iter().for_each(|line| say(line));
        ExitCode::from(self.kind.code())
    }

    fn lines(&self, json: bool) -> Vec<String> {
        let Self { kind, message, hint, details, .. } = self;
        if json {
            let (kind, code) = (kind.to_string(), kind.code());
            let mut failure =
                json!({ "kind": kind, "message": message, "hint": hint, "exit_code": code });
            if let Some(fields) = failure.as_object_mut() {
                fields.extend(details.clone());
            }
            return vec![json_line(&failure)];
        }
        let error = format!("error: {}", printable(message));
        let hint = hint.iter().map(|hint| format!("hint: {}", printable(hint)));
        [error].into_iter().chain(hint).collect()
    }
}

/// Reports wrong arguments, or prints help.
pub fn arguments(error: &clap::Error) -> ExitCode {
    // The arguments could not be parsed, so --json is looked for in the raw ones.
    let json = std::env::args_os().any(|argument| argument == "--json");
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
    if !error.use_stderr() {
        // The help, in which nothing is from outside.
        let _ = error.print();
        return code;
    }
    // An argument may be of several lines.
    let mut text = error.render().to_string();
    for argument in std::env::args_os() {
        let argument = argument.to_string_lossy();
        let shown = printable(&*argument).to_string();
        if shown != argument {
            text = text.replace(&*argument, &shown);
        }
    }
    if !json {
        say_lines(&text);
        return code;
    }
    let message = text.trim().trim_start_matches("error: ").to_owned();
    let hint = Some("see `smart-record help`".to_owned());
    let (kind, details) = (FailureKind::Arguments, Map::new());
    FailureReport { kind, message, hint, details, is_broken_pipe: false }.print(true)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::{collections::BTreeSet, error::Error, path::PathBuf};

    use libp2p::kad;
    use libp2p_smart_record::{
        Clock, Dict, JsonError, Limit, LimitExceeded, Malformed, PolicyRefusal, RecordKey,
        Registry, SignError, SystemClock, Timestamp, UpdateError, Validator, Validity,
        ipns::{ContentPath, Eol, IpnsError, IpnsName},
        iprs::IprsError,
        parse_peer_id,
        presence::{AnnounceError, PresenceError},
        query::RecordReader,
        signed::SignedRecordError,
        store::{SmartRecordStore, StorageError, WriteError},
    };

    use super::*;

    /// Characters of each kind that a terminal acts upon or does not show.
    const HOSTILE: &str =
        "a\u{9b}31m\u{202e}c\u{7f}\u{1b}]0;d\u{7}\t0\n1\u{85}\u{2028}\u{200b}\u{2066}\0";

    fn limit() -> LimitExceeded {
        LimitExceeded::new(Limit::VALUE_BYTES, 2, 1)
    }

    fn validation_errors() -> Vec<ValidationError> {
        vec![
            Malformed::other(HOSTILE).into(),
            Malformed::Empty.into(),
            ValidationError::Invalid(HOSTILE.to_owned()),
            ValidationError::Unsupported(HOSTILE.to_owned()),
            ValidationError::Stale,
            ValidationError::NoValue,
            limit().into(),
            PolicyRefusal::Other(HOSTILE.to_owned()).into(),
        ]
    }

    /// Refuses all values.
    struct Refuses;

    impl Validator for Refuses {
        fn validate(
            &self,
            _: &RecordKey,
            _: &[u8],
            _: Timestamp,
        ) -> Result<Validity, ValidationError> {
            Err(ValidationError::Invalid(HOSTILE.to_owned()))
        }

        fn select(&self, _: &RecordKey, _: &[&[u8]]) -> Result<usize, ValidationError> {
            Ok(0)
        }

        fn wrapped(&self) -> Option<&dyn Validator> {
            None
        }
    }

    fn answers_refused() -> RefusedAnswers {
        let registry = Registry::empty().with("own", Refuses).unwrap();
        let mut reader = RecordReader::new(&registry, "/own/a").unwrap();
        let record = kad::Record::new(kad::RecordKey::new(&"/own/a"), b"x".to_vec());
        let found = kad::PeerRecord { peer: Some(PeerId::random()), record };
        reader.on_progress(&Ok(kad::GetRecordOk::FoundRecord(found)), true, SystemClock.now());
        reader.into_reading(SystemClock.now()).refusals().unwrap()
    }

    /// A number for each kind of failure. A new kind does not compile without one, and then
    /// [`errors`] has to have it.
    fn number(failure: &Failure) -> usize {
        match failure {
            Failure::NotFound { .. } => 0,
            Failure::Unreachable => 1,
            Failure::NoAnswer => 2,
            Failure::NotTaken => 3,
            Failure::AnswersRefused { .. } => 4,
            Failure::Older { .. } => 5,
            Failure::NotKept { .. } => 6,
            Failure::NotAccepted { .. } => 7,
            Failure::UnknownContent { .. } => 8,
            Failure::NotOwner { .. } => 9,
            Failure::NoPath { .. } => 10,
            Failure::TooManyNames { .. } => 11,
            Failure::NoAddress => 12,
            Failure::NoKey => 13,
            Failure::UnknownKey(_) => 14,
            Failure::Arguments { .. } => 15,
            Failure::KeyFile { .. } => 16,
            Failure::NotAKeyFile { .. } => 17,
            Failure::NewKeyFile { .. } => 18,
            Failure::File { .. } => 19,
            Failure::Metrics { .. } => 20,
            Failure::Store(_) => 21,
            Failure::BadRecord { .. } => 22,
            Failure::Ipns(_) => 23,
            Failure::Iprs(_) => 24,
            Failure::StoppedTwice => 25,
        }
    }
    const NUMBERS: usize = 26;

    #[test]
    fn each_kind_of_failure_is_among_the_errors() {
        let errors = errors();
        let failures = errors.iter().filter_map(|error| error.downcast_ref::<Failure>());
        let numbers: BTreeSet<_> = failures.map(number).collect();
        assert_eq!(numbers, (0..NUMBERS).collect());
    }

    /// Errors of each kind that a command can fail with, and others of the libraries, with hostile
    /// text wherever text is from outside.
    fn errors() -> Vec<anyhow::Error> {
        let mut errors: Vec<anyhow::Error> = Vec::new();
        let hostile = || HOSTILE.to_owned();
        let io = || io::Error::other(HOSTILE);
        let peer = PeerId::random();
        for reason in validation_errors() {
            let refused = WriteError::Refused(reason.clone());
            errors.push(ClientError::from(refused.clone()).into());
            errors.push(anyhow::Error::from(ClientError::from(refused)).context(hostile()));
            errors.push(PublisherError::from(ClientError::from(reason.clone())).into());
            let (file, key) = (hostile(), hostile());
            errors.push(Failure::BadRecord { file, key, source: Box::new(reason.clone()) }.into());
            errors.push(reason.into());
        }
        for source in [
            StorageError::Locked,
            StorageError::Full,
            StorageError::ForeignFile,
            StorageError::Damaged { what: hostile() },
            StorageError::OtherFormat { found: 2, known: 1 },
            StorageError::Io(io::ErrorKind::PermissionDenied),
        ] {
            errors.push(ClientError::from(source.clone()).into());
            errors.push(WriteError::from(source).into());
        }
        // As it is met: a folder is no store.
        let folder = PathBuf::from(format!("/{HOSTILE}"));
        let opened = SmartRecordStore::open(folder.join("none"), peer);
        errors.push(Failure::Store(opened.unwrap_err()).into());
        let key = || hostile();
        errors.extend(
            [
                Failure::NotFound { key: key(), missing: None },
                Failure::NotFound { key: key(), missing: Some(Missing(0.5)) },
                Failure::Unreachable,
                Failure::NoAnswer,
                Failure::NotTaken,
                Failure::AnswersRefused { key: key(), refused: answers_refused() },
                Failure::Older { key: key(), current: Some(hostile()) },
                Failure::NotKept { key: key(), acknowledged: 1 },
                Failure::NotKept { key: format!("/sr/{HOSTILE}"), acknowledged: 1 },
                Failure::NotAccepted { key: key(), refused: 1 },
                Failure::UnknownContent { key: key() },
                Failure::NotOwner { key: key(), owner: peer },
                Failure::NoPath { name: hostile(), value: hostile() },
                Failure::TooManyNames { max: 1 },
                Failure::NoAddress,
                Failure::NoKey,
                Failure::UnknownKey(key()),
                Failure::Arguments { message: hostile(), hint: "look" },
                Failure::KeyFile { file: hostile(), source: io() },
                Failure::NotAKeyFile { file: hostile(), reason: KeyFormatError::Label(hostile()) },
                Failure::NewKeyFile { file: hostile(), source: io() },
                Failure::File { file: hostile(), verb: "read", source: io() },
                Failure::Metrics { address: ([127, 0, 0, 1], 1).into(), source: io() },
                Failure::Ipns(Box::new(IpnsSignError::DagCbor(hostile()))),
                Failure::Ipns(Box::new(HOSTILE.parse::<ContentPath>().unwrap_err().into())),
                Failure::Iprs(Box::new(IprsError::Cbor(hostile()))),
                Failure::StoppedTwice,
            ]
            .map(anyhow::Error::from),
        );
        errors.push(HOSTILE.parse::<Dict>().unwrap_err().into());
        errors.push(JsonError::UnknownEscape(hostile()).into());
        errors.push(format!("\\{HOSTILE}").parse::<RecordKey>().unwrap_err().into());
        errors.push(HOSTILE.parse::<IpnsName>().unwrap_err().into());
        errors.push(HOSTILE.parse::<Eol>().unwrap_err().into());
        errors.push(IpnsError::DagCbor(hostile()).into());
        errors.push(IpnsError::from(limit()).into());
        errors.push(PresenceError::from(limit()).into());
        errors.push(PublisherError::from(AnnounceError::from(PresenceError::from(limit()))).into());
        errors.push(SignedRecordError::from(limit()).into());
        errors.push(ClientError::from(SignError::from(UpdateError::from(limit()))).into());
        errors.extend(
            [
                ClientError::Stopped,
                ClientError::NotPolled,
                ClientError::NotSmart(RecordKey::new(HOSTILE)),
                ClientError::TimedOut,
                ClientError::Unreachable,
                ClientError::AnswersRefused(answers_refused()),
                ClientError::NotKept,
            ]
            .map(anyhow::Error::from),
        );
        let address = format!("/dns4/{HOSTILE}/tcp/1").parse().unwrap();
        errors.extend(
            [
                HostError::Transport(hostile()),
                HostError::NoPeer(address),
                HostError::NoRuntime,
                HostError::Stopped,
            ]
            .map(anyhow::Error::from),
        );
        assert!(parse_peer_id(HOSTILE).is_none());
        errors
    }

    #[test]
    fn case_4_each_failure_is_shown_without_control_or_bidi_characters() {
        for error in errors() {
            let report = FailureReport::of(&error);
            for line in [report.lines(true), report.lines(false)].concat() {
                assert_eq!(printable(&line).to_string(), line);
            }
            // An argument that was given as a cause of wrong ones.
            assert!(report.lines(false)[0].starts_with("error: "));
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let is_told_again = |told: &str, cause: &str| cause.len() > 3 && told.contains(cause);
        for error in errors() {
            let chain: Vec<_> = error.chain().map(ToString::to_string).collect();
            for (n, cause) in chain.iter().enumerate() {
                let before = chain[..n].iter().find(|told| is_told_again(told, cause));
                // The text that is hostile stands for different things.
                let is_hostile = cause == HOSTILE;
                assert!(before.is_none() || is_hostile, "{before:?} has its cause: {chain:?}");
            }
            let mut source: Option<&dyn Error> = error.source();
            while let Some(cause) = source {
                assert!(!cause.to_string().is_empty());
                source = cause.source();
            }
        }
    }

    #[test]
    fn hints_name_commands_and_options_that_there_are() {
        use clap::CommandFactory;

        let command = crate::Arguments::command();
        let mut options: Vec<String> = Vec::new();
        let mut commands = vec![&command];
        while let Some(command) = commands.pop() {
            options.extend(command.get_opts().filter_map(|arg| arg.get_long().map(str::to_owned)));
            commands.extend(command.get_subcommands());
        }
        for error in errors() {
            let Some(hint) = FailureReport::of(&error).hint else { continue };
            for word in hint.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
                let option = word.strip_prefix("--").filter(|option| !option.is_empty());
                let is_known =
                    |option: &str| option == "help" || options.iter().any(|it| it == option);
                assert!(option.is_none_or(is_known), "{option:?} in {hint}");
            }
            for named in hint.split("`smart-record ").skip(1) {
                let named = named.split('`').next().unwrap();
                let mut words = named.split(' ');
                let first = words.next().unwrap();
                let Some(command) = command.find_subcommand(first) else {
                    assert_eq!(first, "help", "{hint}");
                    continue;
                };
                // Without nodes it would fail with a hint to give some.
                let joins =
                    first != "node" && command.get_opts().any(|arg| arg.get_id() == "connect");
                let is_open =
                    !joins || words.any(|it| it == "--help") || hint.contains("--connect");
                assert!(is_open, "{hint}");
                assert!(first != "key" || named.split(' ').count() > 2, "{hint}");
            }
        }
    }
}
