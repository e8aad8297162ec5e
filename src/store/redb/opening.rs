//! Stores in files.
//!
//! **Invariants.** A process that is killed while it makes a file leaves none, or a whole one. An
//! error names the file.
//!
//! **Spec.** `docs/design.md`, section "On disk".

use std::path::{Path, PathBuf};

use ::redb::{Builder, DatabaseError};
use libp2p_identity::PeerId;

use super::{RedbStorage, config::RedbConfig, disk::Opener};
use crate::{
    clock::SystemClock,
    store::{
        SmartRecordStore, StoreConfig,
        storage::{OtherPeer, StorageError},
    },
};
use smart_record_core::Registry;

/// A store's file could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store {path:?} could not be opened")]
#[non_exhaustive]
pub struct OpenError {
    /// The file.
    pub path: PathBuf,
    /// What went wrong.
    pub source: StorageError,
}

impl SmartRecordStore {
    /// A store in a file for smart records under `/sr/…`, with all defaults: see
    /// [`Durability::default`](super::Durability). The file is made if it is not there; it belongs
    /// to `local`, so keep that peer's key as well.
    ///
    /// ```
    /// use libp2p_identity::Keypair;
    /// use libp2p_smart_record::{
    ///     Clock, Dict, Limits, RecordKey, SpaceSigner, SystemClock, store::SmartRecordStore,
    /// };
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("records");
    /// let keypair = Keypair::generate_ed25519();
    /// let local_peer = keypair.public().to_peer_id();
    /// let key = RecordKey::new("/sr/lobby");
    ///
    /// let mut store = SmartRecordStore::open(&path, local_peer)?;
    /// let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
    /// let now = SystemClock.now();
    /// signer.merge(r#"{"name": "ada"}"#.parse::<Dict>()?, now, std::time::Duration::from_secs(600))?;
    /// store.write(&key, &signer.record(now).encode())?;
    /// drop(store);
    ///
    /// let store = SmartRecordStore::open(&path, local_peer)?;
    /// assert_eq!(store.view(&key)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # What is there after a restart
    ///
    /// Every record that has not expired, this node's and others', and the provider records of this
    /// node. Opening does not prolong any lifetime:
    ///
    /// * an update of a smart record is gone after its own expiry, which is 48 hours off at most
    ///   ([`Limits::max_ttl`](smart_record_core::Limits::max_ttl));
    /// * a value, of a namespace of one's own or of a built-in one, is gone after its own expiry,
    ///   and by default at the latest 48 hours after it was last received or written
    ///   ([`StoreConfig::max_age`]), also if it says that it is valid for longer and also if this
    ///   node wrote it. [`presence`](crate#where-to-look) records, whose lifetime has a bound of
    ///   its own, live until their expiry, and values under
    ///   [`AcceptAny`](smart_record_core::AcceptAny) for as long as Kademlia says.
    ///
    /// So a durable store bridges a restart. It is no archive: whoever owns a record keeps it alive
    /// by writing it again. [`StoreConfig::with_max_age`] lets this node keep values for longer;
    /// other replicas go by their own.
    ///
    /// # Errors
    /// As [`RedbStorage::open`].
    pub fn open(path: impl AsRef<Path>, local: PeerId) -> Result<Self, OpenError> {
        let (registry, config) = (Registry::default(), StoreConfig::default());
        Self::open_with(path, local, registry, config, &RedbConfig::default())
    }

    /// As [`open`](Self::open), for the records of these namespaces.
    ///
    /// # Errors
    /// As [`RedbStorage::open`].
    pub fn open_with(
        path: impl AsRef<Path>,
        local: PeerId,
        registry: Registry,
        config: StoreConfig,
        file: &RedbConfig,
    ) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let storage = RedbStorage::open(path, local, file)?;
        Self::with_storage(local, registry, config, storage, SystemClock)
            .map_err(|error: OtherPeer| OpenError { path: path.to_owned(), source: error.into() })
    }
}

/// Opens the file, which is made if it is not there.
pub(super) fn opener(path: PathBuf) -> Opener {
    Box::new(move |builder| {
        if !path.exists() {
            make_file(builder, &path)?;
        }
        builder.create(&path)
    })
}

/// Makes the file beside its place and puts it there when it is whole: a process that is killed
/// while it makes one must not leave half a file. Whoever else has made it meanwhile was first.
fn make_file(builder: &Builder, path: &Path) -> Result<(), DatabaseError> {
    let io = |error: std::io::Error| ::redb::StorageError::Io(error);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    // Half a file of an earlier process, if there is any.
    let _ = std::fs::remove_file(&beside);
    drop(builder.create(&beside)?);
    match std::fs::hard_link(&beside, path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(_) => return Ok(std::fs::rename(&beside, path).map_err(io)?),
        Ok(()) => {}
    }
    let _ = std::fs::remove_file(&beside);
    Ok(())
}
