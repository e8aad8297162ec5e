//! Canonical DAG-CBOR and its CIDs.
//!
//! **Invariants.** [`encode`] reproduces the input of [`decode`] byte for byte.
//!
//! **Spec.** [DAG-CBOR, strictness](https://ipld.io/specs/codecs/dag-cbor/spec/#strictness).

use std::collections::BTreeMap;

use cid::{Cid, multihash::Multihash};
use ipld_core::ipld::Ipld;
use sha2::{Digest, Sha256};

use super::error::IprsError;
use smart_record_core::dag_cbor;

/// The multicodec of DAG-CBOR.
const DAG_CBOR: u64 = 0x71;
/// The multihash of SHA-256, and its length in bytes.
const SHA2_256: u64 = 0x12;
const SHA2_256_BYTES: u8 = 32;

pub(super) fn encode(data: &Ipld) -> Result<Vec<u8>, IprsError> {
    serde_ipld_dagcbor::to_vec(data).map_err(|e| IprsError::Cbor(e.to_string()))
}

/// Maximum nesting depth of lists and maps. The codec's own limit depends on the innermost value.
const MAX_DEPTH: usize = 127;

/// Decodes canonical DAG-CBOR that is nested at most [`MAX_DEPTH`] deep.
pub(super) fn decode(bytes: &[u8]) -> Result<Ipld, IprsError> {
    let data = dag_cbor::from_slice(bytes).map_err(|e| IprsError::Cbor(e.to_string()))?;
    if depth(&data) > MAX_DEPTH {
        return Err(IprsError::Cbor(format!("nested more than {MAX_DEPTH} deep")));
    }
    // The codec is strict, except that it accepts other forms of CIDs. This check also keeps
    // replicas in agreement if another version of it is less strict.
    if encode(&data)? != bytes {
        return Err(IprsError::Cbor("not the canonical encoding".to_owned()));
    }
    Ok(data)
}

fn depth(data: &Ipld) -> usize {
    let inner = match data {
        Ipld::List(list) => list.iter().map(depth).max(),
        Ipld::Map(map) => map.values().map(depth).max(),
        _ => return 0,
    };
    inner.unwrap_or(0).saturating_add(1)
}

/// The CID of a DAG-CBOR block: version 1, SHA-256.
pub(super) fn cid_of(block: &[u8]) -> Cid {
    #[expect(
        clippy::expect_used,
        reason = "a SHA-256 digest has 32 bytes, a multihash room for 64"
    )]
    let hash = Multihash::wrap(SHA2_256, &Sha256::digest(block)).expect("a multihash");
    Cid::new_v1(DAG_CBOR, hash)
}

/// Whether the CID has the form of those from [`cid_of`].
pub(super) fn is_block_cid(cid: &Cid) -> bool {
    cid.codec() == DAG_CBOR && cid.hash().code() == SHA2_256 && cid.hash().size() == SHA2_256_BYTES
}

pub(super) fn map<const N: usize>(fields: [(&str, Ipld); N]) -> Ipld {
    Ipld::Map(fields.into_iter().map(|(name, data)| (name.to_owned(), data)).collect())
}

/// The fields of a map, removed one by one. [`Fields::finish`] checks that none is left.
pub(super) struct Fields(BTreeMap<String, Ipld>);

impl Fields {
    pub(super) fn of(data: Ipld, expected: &'static str) -> Result<Self, IprsError> {
        match data {
            Ipld::Map(fields) => Ok(Self(fields)),
            _ => Err(IprsError::Expected(expected)),
        }
    }

    pub(super) fn any(&mut self, name: &'static str) -> Result<Ipld, IprsError> {
        self.0.remove(name).ok_or(IprsError::Expected(name))
    }

    pub(super) fn bytes(&mut self, name: &'static str) -> Result<Vec<u8>, IprsError> {
        match self.any(name)? {
            Ipld::Bytes(bytes) => Ok(bytes),
            _ => Err(IprsError::Expected(name)),
        }
    }

    pub(super) fn integer(&mut self, name: &'static str) -> Result<u64, IprsError> {
        self.optional_integer(name)?.ok_or(IprsError::Expected(name))
    }

    pub(super) fn optional_integer(
        &mut self,
        name: &'static str,
    ) -> Result<Option<u64>, IprsError> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Ipld::Integer(n)) => {
                u64::try_from(n).map(Some).map_err(|_| IprsError::Expected(name))
            }
            Some(_) => Err(IprsError::Expected(name)),
        }
    }

    pub(super) fn link(&mut self, name: &'static str) -> Result<Cid, IprsError> {
        self.optional_link(name)?.ok_or(IprsError::Expected(name))
    }

    pub(super) fn optional_link(&mut self, name: &'static str) -> Result<Option<Cid>, IprsError> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Ipld::Link(cid)) => Ok(Some(cid)),
            Some(_) => Err(IprsError::Expected(name)),
        }
    }

    pub(super) fn finish(self) -> Result<(), IprsError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(IprsError::UnexpectedField(name)),
        }
    }
}
