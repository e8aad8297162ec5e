//! Atomic writing of files, for stores and for the command `smart-record`.
//!
//! **Invariants.** A file has either its old content or all of the new content, also after a
//! failure, a crash or a loss of power.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// Treatment of a file that exists. Exhaustive, because every kind of writing has to obey it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and writing fails.
    Stays,
    /// It is replaced, and its permissions stay.
    Replaced,
}

/// Permissions of a new file. Exhaustive, as [`Existing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner alone.
    Owner,
    /// All whom the umask permits.
    Umask,
}

/// Writes a file. The content goes to a temporary file in the same folder first, which is removed
/// after a failure. Links are not followed: see [`target_of`].
///
/// # Errors
/// Errors of `fill`, of the disk and of the permissions of the folder, and
/// [`io::ErrorKind::AlreadyExists`].
pub fn write_with<E: From<io::Error>>(
    file: &Path,
    existing: Existing,
    access: Access,
    fill: impl FnOnce(&mut NamedTempFile) -> Result<(), E>,
) -> Result<(), E> {
    let folder = folder_of(file);
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    if access == Access::Umask {
        // Temporary files are for their owner alone otherwise.
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    }
    #[cfg(not(unix))]
    let _ = access;
    let mut temporary = builder.tempfile_in(folder)?;
    if existing == Existing::Replaced
        && let Ok(metadata) = fs::metadata(file)
    {
        temporary.as_file().set_permissions(metadata.permissions())?;
    }
    fill(&mut temporary)?;
    temporary.as_file().sync_all()?;
    let persisted = match existing {
        Existing::Stays => temporary.persist_noclobber(file),
        Existing::Replaced => temporary.persist(file),
    };
    persisted.map_err(|failed| failed.error)?;
    // Its name is there after a loss of power as well. Not every system can do that for a folder.
    let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Follows the links of a path, the last of which may lead to a file that does not exist yet.
///
/// # Errors
/// Errors of the disk, also if the links are a circle.
pub fn target_of(path: &Path) -> io::Result<PathBuf> {
    /// As many as Linux follows.
    const MAX_LINKS: usize = 40;
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_symlink() => {
                let to = fs::read_link(&target)?;
                target = folder_of(&target).join(to);
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(target),
        }
    }
    // Tells that there are too many.
    fs::metadata(path).map(|_| target)
}

fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_a_file_that_may_not_exist_yet() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink(at("second"), at("first")).unwrap();
        symlink("file", at("second")).unwrap();
        for name in ["first", "second", "file"] {
            assert_eq!(target_of(&at(name)).unwrap(), at("file"));
        }
        symlink("loop", at("loop")).unwrap();
        assert!(target_of(&at("loop")).is_err());
    }
}
