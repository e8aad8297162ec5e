//! Human-readable form of nodes: `{"name": "lobby", "at": connectivity(; "address"="/ip4/…")}`. As
//! in plain JSON, `[…]` is a List and `{…}` a Dict. A Set is `set[…]`. Lifetimes are left out. This
//! form cannot be parsed; use the encoding, JSON or IPLD for that.
//!
//! **Invariants.** Untrusted text is quoted and escaped as Rust does it. So a document cannot send
//! control sequences to a terminal, and [`printable`](crate::printable) leaves the form as it is.

use std::fmt::{Display, Formatter, Result};

use super::{Dict, Kind, Node, Predicate};

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.kind.fmt(f)
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Bool(v) => v.fmt(f),
            Self::Int(v) => v.fmt(f),
            Self::Float(v) => write!(f, "{v:?}"),
            Self::String(v) => write!(f, "{v:?}"),
            Self::Bytes(v) => hex(f, "0x", v),
            Self::Link(v) => v.fmt(f),
            Self::Set(v) => {
                f.write_str("set[")?;
                separated(f, v)?;
                f.write_str("]")
            }
            Self::List(v) => {
                f.write_str("[")?;
                separated(f, v)?;
                f.write_str("]")
            }
            Self::Dict(v) => v.fmt(f),
            Self::Predicate(v) => v.fmt(f),
            Self::Opaque(v) => hex(f, "opaque:0x", v.as_bytes()),
        }
    }
}

impl Display for Dict {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("{")?;
        for (i, (key, value)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{key}: {value}")?;
        }
        f.write_str("}")
    }
}

impl Display for Predicate {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        // A tag is untrusted: anything but a plain word is quoted and escaped.
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        if !self.tag.is_empty() && self.tag.chars().all(plain) {
            write!(f, "{}(", self.tag)?;
        } else {
            write!(f, "{:?}(", self.tag)?;
        }
        separated(f, &self.positional)?;
        for (i, (name, value)) in self.named.iter().enumerate() {
            let mark = if i == 0 { "; " } else { ", " };
            write!(f, "{mark}{name}={value}")?;
        }
        f.write_str(")")
    }
}

fn separated<'a>(f: &mut Formatter<'_>, nodes: impl IntoIterator<Item = &'a Node>) -> Result {
    for (i, node) in nodes.into_iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        write!(f, "{comma}{node}")?;
    }
    Ok(())
}

fn hex(f: &mut Formatter<'_>, prefix: &str, bytes: &[u8]) -> Result {
    f.write_str(prefix)?;
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::{List, Set, ValidationError, printable};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Empty {}

    #[test]
    fn case_4_a_document_and_its_errors_are_shown_without_control_or_bidi_characters() {
        let hostile = "\u{1b}]0;evil\u{7}\t0\n\u{9b}31m\u{202e}\u{2066}";
        let mut document = Dict::new();
        let predicate = Predicate::new(hostile).with(hostile).with_named(hostile, hostile);
        document.insert(hostile, List::from_iter([Node::from(hostile)]));
        document.insert("set", Set::from([Node::from(predicate.clone()), Node::from(hostile)]));
        document.insert("bytes", hostile.as_bytes().to_vec());
        let errors: [&dyn std::fmt::Display; 4] = [
            &document.deserialize::<Empty>().unwrap_err(),
            &hostile.parse::<Dict>().unwrap_err(),
            &ValidationError::Invalid(hostile.to_owned()),
            &crate::Malformed::other(hostile),
        ];
        for shown in [&document as &dyn std::fmt::Display, &predicate].iter().chain(&errors) {
            let shown = shown.to_string();
            assert_eq!(printable(&shown).to_string(), shown);
        }
    }
}
