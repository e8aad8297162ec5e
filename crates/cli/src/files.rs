//! Reading of files, up to a limit, and writing of files, whole or not at all.
//!
//! **Invariants.** A file has either what it had or all of the new content, also after a failure, a
//! crash or a full disk. What is not a file, such as `/dev/null` or a pipe, is written to as it is.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

pub use libp2p_smart_record::files::Existing;
use libp2p_smart_record::files::{Access, target_of, write_with};

/// Most bytes that are read of a file: more than any record has.
const MAX_BYTES: u64 = 64 * 1_024 * 1_024;

/// Reads a file, a pipe or a device.
///
/// # Errors
/// Errors of the disk, and [`io::ErrorKind::InvalidData`] if it is longer than any record.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(file)?.take(MAX_BYTES.saturating_add(1)).read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|len| len <= MAX_BYTES) {
        return Ok(content);
    }
    let message = format!("longer than {} MiB", MAX_BYTES >> 20);
    Err(io::Error::new(io::ErrorKind::InvalidData, message))
}

/// Writes a file. The content goes to a temporary file in the same folder first, which is removed
/// after a failure. A file that has to be new is for its owner alone. Of a link, the target is
/// replaced, or made if it does not exist.
///
/// # Errors
/// Errors of the disk and of the permissions of the folder, and [`io::ErrorKind::AlreadyExists`].
pub fn write(file: &Path, content: &[u8], existing: Existing) -> io::Result<()> {
    let fill = |temporary: &mut tempfile::NamedTempFile| temporary.write_all(content);
    match existing {
        Existing::Stays => write_with(file, existing, Access::Owner, fill),
        Existing::Replaced if fs::metadata(file).is_ok_and(|it| !it.is_file()) => {
            fs::write(file, content)
        }
        Existing::Replaced => write_with(&target_of(file)?, existing, Access::Umask, fill),
    }
}

/// Makes a write beyond the limit of file sizes (`ulimit -f`) an error. By default it ends the
/// process, without a message and with its temporary files left behind.
///
/// # Errors
/// Errors of the system, when it takes no handler of a signal.
#[cfg(unix)]
pub fn report_size_limit() -> io::Result<()> {
    let signal = tokio::signal::unix::SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    // The handler stays, without anybody who listens.
    tokio::signal::unix::signal(signal).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn case_10_a_file_is_written_as_a_whole_and_a_new_one_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        write(&file, b"new", Existing::Stays).unwrap();
        let error = write(&file, b"other", Existing::Stays).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"new");
        write(&file, b"replaced", Existing::Replaced).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"replaced");
        assert!(write(&folder.path().join("none/b"), b"", Existing::Stays).is_err());
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_replaced_file_keeps_its_permissions_and_its_links_and_a_device_stays_one() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["a", "link"].map(|name| folder.path().join(name));
        fs::write(&file, b"old").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        symlink(&file, &link).unwrap();
        write(&link, b"new", Existing::Replaced).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        fs::remove_file(&file).unwrap();
        write(&link, b"newer", Existing::Replaced).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"newer");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "a link to no file stays one");
        write(Path::new("/dev/null"), b"x", Existing::Replaced).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        // A pipe behind a link, as `/dev/stdout` is one.
        let (mut reader, writer) = io::pipe().unwrap();
        let pipe = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
        if Path::new(&pipe).exists() {
            write(Path::new(&pipe), b"x", Existing::Replaced).unwrap();
            drop(writer);
            assert_eq!(io::read_to_string(&mut reader).unwrap(), "x");
        }
    }
}
