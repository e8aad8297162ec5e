//! Opening stores in files.
//!
//! **Invariants.** A new file is there as a whole or not at all, also if the process is killed
//! while it creates the file. A file that is not opened stays as it is. Errors name the file.
//!
//! **Spec.** `docs/design.md`, section "On disk".

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use ::redb::{Builder, backends::FileBackend};
use libp2p_identity::PeerId;

use super::{
    RedbStorage,
    config::RedbConfig,
    disk::Opener,
    draft::{self, Writes},
    fault::{failed, not_opened},
    format::REDB_FORMAT,
};
use crate::{
    clock::SystemClock,
    files::{self, Access, Existing},
    store::{
        SmartRecordStore, StoreConfig,
        storage::{OtherPeer, StorageError},
    },
};
use smart_record_core::Registry;

/// Error of opening a store's file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store {path:?} could not be opened")]
#[non_exhaustive]
pub struct OpenError {
    /// The path of the file.
    pub path: PathBuf,
    /// The cause.
    pub source: StorageError,
}

impl SmartRecordStore {
    /// Opens a store in a file for smart records under `/sr/…`, with all defaults; see
    /// [`Durability::default`](super::Durability). The file is created if it does not exist. It
    /// belongs to `local`, so keep the key of that peer as well.
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
    /// All records that have not expired, also those of other writers, and the provider records of
    /// this node. Opening does not extend any lifetime:
    ///
    /// * an update of a smart record ends at its own expiry, at most 48 hours after it was signed
    ///   ([`Limits::max_ttl`](smart_record_core::Limits::max_ttl));
    /// * any other value ends at its own expiry, and by default at the latest 48 hours after it was
    ///   last received or written ([`StoreConfig::max_age`]). This also holds for values that are
    ///   valid for longer, and for those that this node wrote. [`presence`](crate#where-to-look)
    ///   records, whose lifetime is bounded by their own rules, live until their expiry, and values
    ///   under [`AcceptAny`](smart_record_core::AcceptAny) as long as Kademlia says.
    ///
    /// So a durable store bridges a restart, but it is not an archive: the owner of a record keeps
    /// it alive by writing it again. [`StoreConfig::with_max_age`] makes this node keep values for
    /// longer; other replicas have their own settings.
    ///
    /// # Opening it again
    ///
    /// A file is open until its store is dropped, and with a behaviour that is until its swarm is
    /// dropped. Until then opening it again fails as [`Locked`](StorageError::Locked): let the task
    /// of the old swarm end first.
    ///
    /// # Errors
    /// As [`RedbStorage::open`].
    pub fn open(path: impl AsRef<Path>, local: PeerId) -> Result<Self, OpenError> {
        OpenOptions::default().open(path, local)
    }
}

/// How a store in a file is opened: see [`SmartRecordStore::open`].
///
/// ```
/// use libp2p_smart_record::{
///     AcceptAny, Registry,
///     store::{Durability, OpenOptions, RedbConfig},
/// };
///
/// let directory = tempfile::tempdir()?;
/// let store = OpenOptions::default()
///     .with_registry(Registry::default().with("notes", AcceptAny::default())?)
///     .with_file(RedbConfig::default().with_durability(Durability::Immediate))
///     .open(directory.path().join("records"), libp2p_identity::PeerId::random())?;
/// # drop(store);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    registry: Registry,
    config: StoreConfig,
    file: RedbConfig,
}

impl OpenOptions {
    /// Sets the namespaces of the records. Defaults to smart records under `/sr/…`.
    #[must_use]
    pub fn with_registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Sets the settings of the store.
    #[must_use]
    pub fn with_config(mut self, config: StoreConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the settings of the file.
    #[must_use]
    pub fn with_file(mut self, file: RedbConfig) -> Self {
        self.file = file;
        self
    }

    /// Opens the store of the peer `local` in a file, which is created if it does not exist.
    ///
    /// # Errors
    /// As [`RedbStorage::open`].
    pub fn open(
        self,
        path: impl AsRef<Path>,
        local: PeerId,
    ) -> Result<SmartRecordStore, OpenError> {
        let path = path.as_ref();
        let storage = RedbStorage::open(path, local, &self.file)?;
        SmartRecordStore::with_storage(local, self.registry, self.config, storage, SystemClock)
            .map_err(|error: OtherPeer| OpenError { path: path.to_owned(), source: error.into() })
    }
}

/// An opener of the file at `path`, which has to exist: a store whose disk is away for a while does
/// not begin another one in its place.
pub(super) fn opener(path: PathBuf) -> Opener {
    Box::new(move |builder, writes| {
        let file = File::options().read(true).write(true).open(&path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(StorageError::ForeignFile);
        }
        // Ours is never empty. This may be what is left of one.
        if metadata.len() == 0 {
            return Err(StorageError::EmptyFile);
        }
        check_version(&file)?;
        let backend = FileBackend::new(file).map_err(not_opened)?;
        draft::open(builder, backend, writes).map_err(not_opened)
    })
}

/// Creates the file if it does not exist, at the target if the path is a link. If another process
/// has created the file in the meantime, that one is used.
pub(super) fn create(path: &Path) -> Result<(), StorageError> {
    if path.exists() {
        return Ok(());
    }
    let target = files::target_of(path)?;
    let made = files::write_with(&target, Existing::Stays, Access::Umask, |temporary| {
        let backend = FileBackend::new(temporary.reopen()?).map_err(not_opened)?;
        let db = draft::open(&Builder::new(), backend, Writes::Kept).map_err(not_opened)?;
        db.close().map_err(failed)
    });
    match made {
        Err(_) if path.exists() => Ok(()),
        made => made,
    }
}

/// Refuses the files of later versions of redb, which redb takes for damaged.
fn check_version(file: &File) -> Result<(), StorageError> {
    const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
    /// Places of the version, in either slot of the header.
    const VERSIONS: [usize; 2] = [64, 192];
    let mut header = Vec::new();
    file.take(320).read_to_end(&mut header)?;
    let versions = VERSIONS.map(|at| header.get(at).copied());
    match versions {
        // One that differs is damaged.
        [Some(found), Some(other)]
            if found == other && found != REDB_FORMAT && header.starts_with(MAGIC) =>
        {
            Err(StorageError::OtherDatabase { found, known: REDB_FORMAT })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::disk::Disk, *};

    fn open(path: &Path, local: PeerId) -> Result<Disk, StorageError> {
        Disk::open(opener(path.to_owned()), 1 << 20, local)
    }

    #[test]
    fn a_file_that_is_away_when_it_is_opened_again_is_not_created() {
        let folder = tempfile::tempdir().unwrap();
        let (path, away, local) =
            (folder.path().join("store"), folder.path().join("away"), PeerId::random());
        assert!(open(&path, local).is_err() && !path.exists());
        create(&path).unwrap();
        let mut disk = open(&path, local).unwrap();
        disk.close();
        std::fs::rename(&path, &away).unwrap();
        assert!(disk.view().is_err());
        assert!(!path.exists(), "another store");
        std::fs::rename(&away, &path).unwrap();
        disk.end_pause();
        disk.view().unwrap();
        // One that is there is left alone.
        let before = std::fs::read(&path).unwrap();
        create(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_no_file_yet_leads_to_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        std::os::unix::fs::symlink("target", &link).unwrap();
        let local = PeerId::random();
        for _ in 0..2 {
            RedbStorage::open(&link, local, &RedbConfig::default()).unwrap();
            assert!(target.is_file() && std::fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        std::os::unix::fs::symlink("none/target", folder.path().join("lost")).unwrap();
        let lost = RedbStorage::open(folder.path().join("lost"), local, &RedbConfig::default());
        assert!(matches!(lost.unwrap_err().source, StorageError::Io(_)));
    }
}
