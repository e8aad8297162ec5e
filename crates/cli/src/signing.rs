//! What `publish` signs beside documents: IPNS and IPRS records, and public keys.
//!
//! **Invariants.** Pure: the current content of the key and the time are arguments. A sequence or
//! version that has to be higher than all before follows from the current content only if that is
//! known; otherwise it has to be given.

use std::time::Duration;

use libp2p::identity::{Keypair, PublicKey};
use libp2p_smart_record::{
    Dict, RecordKey, Timestamp, dag_json,
    ipns::{ContentPath, IpnsBuilder, IpnsRecord},
    iprs::{
        Ancestry, DatetimeRange, Ipld, IprsRecord, IprsValidator, Scheme, SequenceNumber,
        TtlSinceReceipt,
    },
};

use crate::{
    content::{Content, ContentKind},
    failure::Failure,
    keys,
    lifetimes::{self, Lifetime},
};

/// Lifetime of a document.
const DOCUMENT: Duration = Duration::from_secs(60 * 60);
/// Lifetime of an IPNS record, as that of kubo: nodes keep it no longer without being sent it
/// again.
const NAME: Duration = Duration::from_secs(48 * 60 * 60);

/// What is published, and how.
#[derive(clap::Args)]
pub struct Contents {
    /// What is published: for /sr/ a document, a JSON object; for /ipns/ a content path, such as
    /// /ipfs/CID; for /iprs/ a value in DAG-JSON; for /pk/ a public key in hexadecimal, if it is
    /// not that of --key.
    #[arg(value_name = "DOCUMENT|PATH|VALUE")]
    content: Option<String>,
    /// How long it is valid, such as 90s, 2h 30m or 3600, or until when, such as
    /// 2030-01-01T00:00:00Z: of a document (1h by default, at most 48h), of an IPNS record (48h by
    /// default), of an IPRS record (its scheme is then a datetime range, which begins in 1970: a
    /// later begin is for programs). Nodes keep an IPNS or IPRS record for 48h after they were last
    /// sent it, however long it is valid.
    #[arg(long, value_parser = lifetimes::parse)]
    lifetime: Option<Lifetime>,
    /// Of an IPNS record: for how long a resolver may use it before it looks for a newer one (5m by
    /// default). Of an IPRS record: how long it is valid after a node has received it. Of a
    /// document: the same as --lifetime.
    #[arg(long, value_parser = lifetimes::parse)]
    ttl: Option<Lifetime>,
    /// The sequence number of an IPNS or IPRS record. Without it, it is one more than that of what
    /// there is; an IPNS record that points to the same as before keeps its number.
    #[arg(long, value_name = "N")]
    sequence: Option<u64>,
    /// The version of an IPRS record. Without it, it is higher than that of what there is if the
    /// scheme does not tell which of two records is newer.
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// The validity scheme of an IPRS record. Without it, --lifetime and --ttl say which it is, or
    /// what there is. Freshness is neither read nor written here, because it needs a beacon.
    #[arg(long)]
    scheme: Option<SchemeName>,
}

/// The schemes of IPRS that need no beacon, by the names that `get` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SchemeName {
    SequenceNumber,
    DatetimeRange,
    TtlSinceReceipt,
    Ancestry,
}

/// The content of a key before something is published.
pub struct CurrentContent {
    pub content: Option<Content>,
    /// Whether enough peers have answered, so that nothing else is under the key.
    pub is_known: bool,
}

/// The part of a value to be published that does not depend on the current content.
pub enum NewValue {
    Path(ContentPath),
    Value(Ipld),
    PublicKey(PublicKey),
}

fn wrong(message: impl Into<String>, hint: &'static str) -> Failure {
    Failure::Arguments { message: message.into(), hint }
}

impl Contents {
    /// Checks that no option is given that means nothing in this namespace.
    fn allow(&self, namespace: &str, allowed: &[&str]) -> Result<(), Failure> {
        let given = [
            ("--lifetime", self.lifetime.is_some()),
            ("--ttl", self.ttl.is_some()),
            ("--sequence", self.sequence.is_some()),
            ("--version", self.version.is_some()),
            ("--scheme", self.scheme.is_some()),
        ];
        match given.iter().find(|(option, is_given)| *is_given && !allowed.contains(option)) {
            None => Ok(()),
            Some((option, _)) => Err(wrong(
                format!("{option} means nothing for a record under /{namespace}/"),
                "`smart-record publish --help` says which options belong to which records",
            )),
        }
    }

    fn content(&self, what: &str) -> Result<&str, Failure> {
        let missing = || {
            wrong(
                format!("{what} is missing"),
                "`smart-record publish --help` has an example of each",
            )
        };
        self.content.as_deref().ok_or_else(missing)
    }

    /// The document of a smart record, and its lifetime.
    pub fn document(&self) -> Result<(Dict, Duration), Failure> {
        self.allow("sr", &["--lifetime", "--ttl"])?;
        let document = self.content("the DOCUMENT")?.parse::<Dict>().map_err(|error| {
            wrong(
                format!("the DOCUMENT is not valid: {error}"),
                "write a JSON object, such as '{\"name\": \"ada\"}'",
            )
        })?;
        if self.lifetime.is_some() && self.ttl.is_some() {
            return Err(wrong("--ttl and --lifetime are the same for a document", "leave out one"));
        }
        let lifetime = self.lifetime.or(self.ttl).unwrap_or(Lifetime::For(DOCUMENT));
        Ok((document, lifetime.left()?))
    }

    /// The value to be published under a key of another namespace.
    pub fn new_value(
        &self,
        namespace: &str,
        signer: Option<&PublicKey>,
    ) -> Result<NewValue, Failure> {
        match namespace {
            libp2p_smart_record::ipns::NAMESPACE => {
                self.allow(namespace, &["--lifetime", "--ttl", "--sequence"])?;
                let text = self.content("the PATH")?;
                let path = keys::path(text).parse::<ContentPath>();
                Ok(NewValue::Path(path.map_err(|error| Failure::Ipns(Box::new(error.into())))?))
            }
            libp2p_smart_record::iprs::NAMESPACE => {
                self.allow(
                    namespace,
                    &["--lifetime", "--ttl", "--sequence", "--version", "--scheme"],
                )?;
                let value = self.content("the VALUE")?;
                let value = dag_json::from_slice(value.as_bytes()).map_err(|error| {
                    wrong(
                        format!("the VALUE is not DAG-JSON: {error}"),
                        "write a text as '\"hello\"', and bytes as '{\"/\": {\"bytes\": \"…\"}}'",
                    )
                })?;
                Ok(NewValue::Value(value))
            }
            libp2p_smart_record::pk::NAMESPACE => {
                self.allow(namespace, &[])?;
                let Some(text) = &self.content else {
                    return signer.cloned().map(NewValue::PublicKey).ok_or(Failure::NoKey);
                };
                let public_key = keys::unhex(text)
                    .and_then(|bytes| PublicKey::try_decode_protobuf(&bytes).ok())
                    .ok_or_else(|| {
                        wrong(
                            "not a public key in hexadecimal",
                            "write it as `smart-record get` prints it, or give --key instead",
                        )
                    })?;
                Ok(NewValue::PublicKey(public_key))
            }
            _ => Err(wrong(
                format!("nothing is published under /{namespace}/"),
                "announce presence with `smart-record presence announce`",
            )),
        }
    }

    /// Whether the record depends on the current content.
    pub const fn uses_current(&self) -> bool {
        self.sequence.is_none()
    }

    /// Whether it can be signed only if the current content is known.
    pub const fn needs_current(&self) -> bool {
        self.sequence.is_none() && self.version.is_none()
    }

    /// Signs an IPNS record.
    pub fn ipns(
        &self,
        path: &ContentPath,
        keypair: &Keypair,
        current: &CurrentContent,
        now: Timestamp,
    ) -> Result<IpnsRecord, Failure> {
        let eol = self.lifetime.unwrap_or(Lifetime::For(NAME)).end(now);
        let old = match current.content.as_ref().map(|content| &content.kind) {
            Some(ContentKind::Ipns(record)) => Some(record),
            _ => None,
        };
        let sequence = match (self.sequence, old) {
            (Some(sequence), _) => sequence,
            (None, None) => 0,
            // A later expiry is enough.
            (None, Some(old)) if old.path().as_ref() == Ok(path) && old.eol() < eol => {
                old.sequence()
            }
            (None, Some(old)) => old.sequence().saturating_add(1),
        };
        let mut builder = IpnsBuilder::new(path.as_str(), sequence, eol);
        if let Some(ttl) = self.ttl {
            builder = builder.with_ttl(ttl.left()?);
        }
        builder.sign(keypair, now).map_err(|error| Failure::Ipns(Box::new(error)))
    }

    /// Signs an IPRS record, and returns its bytes.
    pub fn iprs(
        &self,
        key: &RecordKey,
        value: Ipld,
        keypair: &Keypair,
        current: &CurrentContent,
        now: Timestamp,
    ) -> Result<Vec<u8>, Failure> {
        let old = match current.content.as_ref().map(|content| &content.kind) {
            Some(ContentKind::Iprs(record, _)) => Some(record),
            _ => None,
        };
        let scheme = self.scheme(old);
        let of_scheme = old.filter(|old| old.scheme() == scheme.cid());
        let failed = |error| Failure::Iprs(Box::new(error));
        let record = match scheme {
            SchemeName::SequenceNumber => {
                let next = of_scheme.and_then(SequenceNumber::of).map(|old| old.saturating_add(1));
                SequenceNumber::record(value, self.sequence.or(next).unwrap_or_default())
            }
            SchemeName::DatetimeRange => {
                let lifetime = self.lifetime.ok_or_else(|| {
                    wrong("a datetime range has an end", "give --lifetime, such as 2h")
                })?;
                let end = lifetime.end(now).expires_at();
                DatetimeRange::record(value, Timestamp::EPOCH, end).map_err(failed)?
            }
            SchemeName::TtlSinceReceipt => {
                let ttl = self.ttl.ok_or_else(|| {
                    wrong("the time since receipt is missing", "give --ttl, such as 2h")
                })?;
                TtlSinceReceipt::record(value, ttl.left()?).map_err(failed)?
            }
            SchemeName::Ancestry => match of_scheme {
                Some(parent) => Ancestry::child(value, parent).map_err(failed)?,
                None => Ancestry::first(value),
            },
        };
        let tells_newer = matches!(scheme, SchemeName::SequenceNumber | SchemeName::Ancestry);
        let next = match (old, of_scheme) {
            (Some(old), Some(_)) if tells_newer => old.version(),
            (Some(old), _) => old.version().saturating_add(1),
            (None, _) => 0,
        };
        let record = record.with_version(self.version.unwrap_or(next));
        let record = record.sign(key, keypair).map_err(failed)?;
        let refused = |error| Failure::BadRecord {
            file: "what was signed".to_owned(),
            key: key.to_string(),
            source: Box::new(error),
        };
        IprsValidator::default().marshal(&record).map_err(refused)
    }

    fn scheme(&self, old: Option<&IprsRecord>) -> SchemeName {
        let of_old = || {
            let old = old?.scheme();
            let same = [SchemeName::SequenceNumber, SchemeName::Ancestry];
            same.into_iter().find(|scheme| scheme.cid() == old)
        };
        match self.scheme {
            Some(scheme) => scheme,
            None if self.sequence.is_some() => SchemeName::SequenceNumber,
            None if self.lifetime.is_some() => SchemeName::DatetimeRange,
            None if self.ttl.is_some() => SchemeName::TtlSinceReceipt,
            None => of_old().unwrap_or(SchemeName::SequenceNumber),
        }
    }
}

impl SchemeName {
    fn cid(self) -> libp2p_smart_record::Cid {
        let scheme: &dyn Scheme = match self {
            Self::SequenceNumber => &SequenceNumber,
            Self::DatetimeRange => &DatetimeRange,
            Self::TtlSinceReceipt => &TtlSinceReceipt,
            Self::Ancestry => &Ancestry,
        };
        scheme.description().cid()
    }
}
