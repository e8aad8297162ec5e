//! The names of the rules that a refusal can break, as `docs/wire.md` lists them.

use smart_record_core::{
    Fault, Limit, Malformed, NodeError, PolicyRefusal, UpdateError, ValidationError, WriterError,
};
use smart_record_formats::{
    iprs::{DatetimeRange, IprsError},
    presence::{PresenceError, PresenceLimits},
    signed::{SignedRecordError, SignedRecordLimits},
};

/// The name of a rule. For an error without a type of its own, the text decides.
pub fn reason(error: &ValidationError) -> &'static str {
    match error {
        ValidationError::Malformed(error) => match error {
            Malformed::Empty => "empty",
            Malformed::Container(_) => "protobuf",
            Malformed::Writer(error) => writer(error),
            Malformed::Update { error, .. } => update(error),
            other => panic!("{other}"),
        },
        ValidationError::LimitExceeded(exceeded) => limit(exceeded.limit),
        ValidationError::RefusedByPolicy(PolicyRefusal::NotOwner { .. }) => "not-owner",
        ValidationError::RefusedByPolicy(PolicyRefusal::NoOwner) => "no-owner",
        ValidationError::RefusedByPolicy(PolicyRefusal::TooLittleWork { .. }) => "too-little-work",
        ValidationError::Invalid(_) => "signature",
        ValidationError::Expired { .. } => "expired",
        ValidationError::Stale => "stale",
        ValidationError::Unsupported(text) if text.contains("namespace") => "namespace",
        ValidationError::Unsupported(text) if text.contains("kind of update") => "update-kind",
        ValidationError::Unsupported(text) if text.contains("public key of type") => "key-type",
        ValidationError::Unsupported(text) if text.contains("of the scheme") => "unknown-scheme",
        ValidationError::Unsupported(text) if text.contains("of the beacon") => "future-round",
        other => panic!("{other}"),
    }
}

pub fn writer(error: &WriterError) -> &'static str {
    match error {
        WriterError::Limit(exceeded) => limit(exceeded.limit),
        WriterError::Unsupported(_) => "key-type",
        _ => "public-key",
    }
}

fn update(error: &UpdateError) -> &'static str {
    match error {
        UpdateError::Protobuf(_) => "protobuf",
        UpdateError::NotCanonical => "not-canonical",
        UpdateError::RetainedTooBriefly { .. } => "retention",
        UpdateError::Document(error) => document(error),
        UpdateError::Limit(exceeded) => limit(exceeded.limit),
        other => panic!("{other}"),
    }
}

pub fn document(error: &NodeError) -> &'static str {
    match error {
        NodeError::Protobuf(_) => "protobuf",
        NodeError::MissingKind => "missing-kind",
        NodeError::NotANumber => "not-a-number",
        NodeError::InvalidLink => "link",
        NodeError::NotCanonical => "not-canonical",
        NodeError::TooDeep { .. } => "document-depth",
        NodeError::TooManyNodes { .. } => "document-nodes",
        other => panic!("{other}"),
    }
}

/// The fault of a document's error, which is also that of its update.
pub fn document_fault(error: &NodeError) -> Fault {
    match error {
        NodeError::TooDeep { .. } | NodeError::TooManyNodes { .. } => Fault::LimitExceeded,
        _ => Fault::Malformed,
    }
}

pub fn iprs(error: &IprsError) -> &'static str {
    match error {
        IprsError::Limit(exceeded) => limit(exceeded.limit),
        IprsError::Cbor(_) => "cbor",
        IprsError::NotCanonical => "not-canonical",
        IprsError::Expected(_) => "field",
        IprsError::UnexpectedField(_) => "unknown-field",
        IprsError::Contradiction(_) => "contradiction",
        IprsError::OtherScheme(_) => "unknown-scheme",
        IprsError::Author(error) => writer(error),
        IprsError::Signature(_) => "signature",
        other => panic!("{other}"),
    }
}

pub fn presence(error: &PresenceError) -> &'static str {
    match error {
        PresenceError::Limit(exceeded) => limit(exceeded.limit),
        PresenceError::Key(_) => "key",
        PresenceError::Protobuf(_) => "protobuf",
        PresenceError::NotCanonical => "not-canonical",
        PresenceError::Empty => "empty",
        PresenceError::Disagrees { .. } => "disagrees",
        PresenceError::Identity { error, .. } => writer(error),
        PresenceError::OtherParty { .. } => "other-party",
        PresenceError::SameParty => "same-party",
        PresenceError::Fingerprint => "fingerprint",
        PresenceError::ExchangeKey { .. } => "exchange-key",
        PresenceError::UnknownKind(_) => "announcement-kind",
        PresenceError::Kind => "mixture",
        PresenceError::Dates => "dates",
        PresenceError::MissingSignature { .. } => "half-signed",
        PresenceError::SurplusSignature { .. } => "surplus-signature",
        PresenceError::Signature { .. } => "signature",
        PresenceError::Expired { .. } => "expired",
        other => panic!("{other}"),
    }
}

pub fn signed(error: &SignedRecordError) -> &'static str {
    match error {
        SignedRecordError::Limit(exceeded) => limit(exceeded.limit),
        SignedRecordError::Protobuf(_) => "protobuf",
        SignedRecordError::NotCanonical => "not-canonical",
        SignedRecordError::PayloadType => "payload-type",
        SignedRecordError::Author(error) => writer(error),
        SignedRecordError::Signature(_) => "signature",
        other => panic!("{other}"),
    }
}

fn limit(limit: Limit) -> &'static str {
    [
        (Limit::KEY_BYTES, "key-bytes"),
        (Limit::VALUE_BYTES, "value-bytes"),
        (Limit::PUBLIC_KEY_BYTES, "public-key-bytes"),
        (Limit::SIGNATURE_BYTES, "signature-bytes"),
        (Limit::TTL, "ttl"),
        (Limit::CLOCK_SKEW, "clock-skew"),
        (DatetimeRange::NOT_YET_VALID, "not-yet"),
        (Limit::BAD_SIGNATURES, "bad-signatures"),
        (Limit::UPDATE_BYTES, "update-bytes"),
        (Limit::EXTENSION_BYTES, "extension-bytes"),
        (Limit::DOCUMENT_DEPTH, "document-depth"),
        (Limit::DOCUMENT_NODES, "document-nodes"),
        (Limit::SPACES_PER_RECORD, "spaces"),
        (Limit::WITHDRAWN_PER_RECORD, "withdrawn-spaces"),
        (PresenceLimits::ANNOUNCEMENT_BYTES, "announcement-bytes"),
        (PresenceLimits::NODES_PER_CLIENT, "nodes"),
        (SignedRecordLimits::CONTENT_BYTES, "content-bytes"),
    ]
    .into_iter()
    .find_map(|(known, name)| (known == limit).then_some(name))
    .unwrap_or_else(|| panic!("{limit}"))
}
