//! Registries of the namespaces that are built in.
//!
//! ```
//! use libp2p_identity::Keypair;
//! use libp2p_smart_record::{SmartRecordStore, StoreConfig, namespaces};
//!
//! let local = Keypair::generate_ed25519().public().to_peer_id();
//! let store = SmartRecordStore::with_registry(local, namespaces::ipfs(), StoreConfig::default());
//! # let _ = store;
//! ```

use crate::{
    ipns::IpnsName,
    presence::PresenceKey,
    validator::{
        IpnsValidator, IprsValidator, PresenceValidator, PublicKeyValidator, Registry, Validator,
    },
};

/// What a record node of an IPFS-style DHT keeps, beside smart records: public keys under `/pk/…` and IPNS records
/// under `/ipns/…`. Nothing else.
pub fn ipfs() -> Registry {
    let registry = and(Registry::default(), PublicKeyValidator::NAMESPACE, PublicKeyValidator);
    and(registry, IpnsName::NAMESPACE, IpnsValidator)
}

/// Every namespace that is built in, each with the defaults of its validator: `/sr/…`, `/pk/…`, `/ipns/…`, `/iprs/…`
/// (the four schemes that need no beacon) and `/presence/…`.
pub fn built_in() -> Registry {
    let registry = and(ipfs(), IprsValidator::NAMESPACE, IprsValidator::default());
    and(registry, PresenceKey::NAMESPACE, PresenceValidator::default())
}

#[expect(clippy::expect_used, reason = "the names are constants, and a test asks for each")]
fn and(registry: Registry, namespace: &str, validator: impl Validator + 'static) -> Registry {
    registry.with(namespace, validator).expect("a namespace")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        key::RecordKey,
        time::Timestamp,
        validator::{Namespace, ValidationError},
    };

    #[test]
    fn every_namespace_that_is_built_in_is_known() {
        let registry = built_in();
        for namespace in ["sr", "pk", "ipns", "iprs", "presence"] {
            let key = RecordKey::from_parts(namespace, "x").unwrap();
            let refused = registry.validate(&key, b"?", Timestamp::EPOCH).unwrap_err();
            assert!(!matches!(refused, ValidationError::Unsupported(_)), "{namespace}: {refused}");
        }
    }

    #[test]
    fn an_ipfs_style_node_knows_three_namespaces() {
        let registry = ipfs();
        let kind = |key: &str| registry.resolve(&RecordKey::new(key)).ok();
        assert!(matches!(kind("/sr/x"), Some(Namespace::Spaces(_))));
        for key in ["/pk/x", "/ipns/x"] {
            assert!(matches!(kind(key), Some(Namespace::Value(_))));
        }
        for key in ["/iprs/x", "/presence/x", "/x/x", "x"] {
            assert!(kind(key).is_none());
        }
        let public = libp2p_identity::Keypair::generate_ed25519().public();
        let key = PublicKeyValidator::key(&public);
        assert!(registry.validate(&key, &public.encode_protobuf(), Timestamp::EPOCH).is_ok());
        assert!(Registry::default().resolve(&key).is_err());
    }
}
