//! Files that only their owner may read.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use secrecy::SecretString;
use unibus_names::private::{self, Exposure, Inode, Reader};
use zeroize::Zeroizing;

/// Why a private file was refused or could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The system refused.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is a pipe, a device or a directory.
    #[error("{path} is no regular file, so it is not read; name the file itself, not a pipe or a device")]
    NoFile {
        /// What it is called.
        path: PathBuf,
    },
    /// It belongs to another user.
    #[error("{path} belongs to user {owner}, who can read and replace it; if it is yours, run: chown {own} {path}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// As whom this process runs.
        own: u32,
    },
    /// Others can write in its directory.
    #[error(
        "{directory} has mode {mode:04o}: others can put another file in the place of {path}; run: chmod go-w {directory}"
    )]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read or change it.
    #[error("{path} has mode {mode:04o}: others can read or change it; run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Reads a file that only its owner, root and this process may read. The text is zeroed when it is dropped.
pub fn read(path: &Path) -> Result<SecretString, PrivateFileError> {
    let fail = |source| PrivateFileError::Io { doing: "cannot read", path: path.to_owned(), source };
    let mut file = open(path)?;
    // As long as the file, so that it does not grow, which would leave copies behind.
    let length = file.metadata().map_err(fail)?.len();
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(length).unwrap_or_default().saturating_add(1)));
    file.read_to_string(&mut text).map_err(fail)?;
    Ok(text.as_str().into())
}

/// Opens a file for reading; refuses one that others than its owner, root and we may read or replace, and what is no file.
pub fn open(path: &Path) -> Result<File, PrivateFileError> {
    let fail = |source| PrivateFileError::Io { doing: "cannot read", path: path.to_owned(), source };
    // A pipe without a writer would be waited for.
    let at_once = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(at_once).open(path).map_err(fail)?;
    let directory = directory_of(path);
    let around = directory.metadata().map_err(|source| PrivateFileError::Io {
        doing: "cannot look at",
        path: directory.to_owned(),
        source,
    })?;
    let own = rustix::process::geteuid().as_raw();
    let reader = Reader { user: own, group: rustix::process::getegid().as_raw() };
    // Asked of the open file: the name might meanwhile be another one's.
    let judged = private::judge(inode(&file.metadata().map_err(fail)?), inode(&around), reader);
    let path = path.to_owned();
    match judged {
        Ok(()) => Ok(file),
        Err(Exposure::NoFile) => Err(PrivateFileError::NoFile { path }),
        Err(Exposure::Foreign(owner)) => Err(PrivateFileError::Foreign { path, owner, own }),
        Err(Exposure::Directory(mode)) => {
            Err(PrivateFileError::Directory { directory: directory.to_owned(), mode, path })
        }
        Err(Exposure::Open(_)) if ours_by_acl(&file).map_err(fail)? => Ok(file),
        Err(Exposure::Open(mode)) => Err(PrivateFileError::Exposed { path, mode }),
    }
}

fn inode(of: &Metadata) -> Inode {
    Inode { is_file: of.is_file(), owner: of.uid(), group: of.gid(), mode: of.mode() & 0o7777 }
}

/// The directory in which a file lies.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a file with group or other bits is private all the same: root's or our own, and open, for reading, to us alone by
/// an access control list. The bits of the group then show the list's mask, not what any group may (acl(5)).
///
/// That is how systemd hands a service its credentials: root owns the copy in `$CREDENTIALS_DIRECTORY`, mode 0400, and the
/// service's user is added to its list. Only where the file system knows no lists, as the ramfs of systemd 252, does the
/// user own the copy (systemd.exec(5), `LoadCredential=`; systemd `src/core/exec-credential.c`, write_credential).
fn ours_by_acl(file: &File) -> io::Result<bool> {
    let (metadata, own) = (file.metadata()?, rustix::process::geteuid().as_raw());
    if ![0, own].contains(&metadata.uid()) {
        return Ok(false);
    }
    let mut list = [0; ACL_BYTES];
    match rustix::fs::fgetxattr(file, "system.posix_acl_access", &mut list[..]) {
        Ok(size) => Ok(list.get(..size).is_some_and(|list| only_for(own, list))),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => Ok(false),
        // More entries than ours: for others.
        Err(rustix::io::Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The list that is read at most: the version and eight entries.
const ACL_BYTES: usize = 4 + 8 * 8;

/// Whether an access control list, as the kernel tells it (`linux/posix_acl_xattr.h`), lets nobody but the owner and the
/// user `own` do anything, and `own` no more than read.
fn only_for(own: u32, list: &[u8]) -> bool {
    const VERSION: [u8; 4] = [2, 0, 0, 0];
    const READ: u16 = 4;
    let Some((version, entries)) = list.split_first_chunk() else { return false };
    let (entries, rest) = entries.as_chunks();
    *version == VERSION
        && rest.is_empty()
        && entries.iter().all(|[t0, t1, p0, p1, id @ ..]: &[u8; 8]| {
            let (tag, rights, id) = (u16::from_le_bytes([*t0, *t1]), u16::from_le_bytes([*p0, *p1]), *id);
            match tag {
                0x01 => true,                                                           // the owner
                0x02 => rights == 0 || u32::from_le_bytes(id) == own && rights <= READ, // a user
                0x10 => rights <= READ,                                                 // the mask of users and groups
                _ => rights == 0,                                                       // the group, a group, others
            }
        })
}

/// Writes a file with mode 0600 from the first byte; `path` either keeps its old content or has all of the new.
pub fn write(path: &Path, content: &[u8]) -> Result<(), PrivateFileError> {
    let temporary = sibling(path, "tmp");
    // A leftover of an earlier crash; never somebody else's file, since the directory is ours.
    let _ = std::fs::remove_file(&temporary);
    let written = create(&temporary, content)
        .and_then(|()| {
            std::fs::rename(&temporary, path).map_err(|source| PrivateFileError::Io {
                doing: "cannot put in place",
                path: path.to_owned(),
                source,
            })
        })
        .and_then(|()| sync_directory(path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Makes a file with mode 0600 from the first byte; fails where `path` exists.
pub fn create(path: &Path, content: &[u8]) -> Result<(), PrivateFileError> {
    let fail = |source| PrivateFileError::Io { doing: "cannot write", path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|e| {
        let _ = std::fs::remove_file(path);
        fail(e)
    })
}

/// Syncs the directory of `path`, so that the name survives a power failure too.
pub fn sync_directory(path: &Path) -> Result<(), PrivateFileError> {
    let directory = directory_of(path);
    File::open(directory).and_then(|d| d.sync_all()).map_err(|source| PrivateFileError::Io {
        doing: "cannot sync",
        path: directory.to_owned(),
        source,
    })
}

/// `path` with `.suffix` appended to its file name.
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entry = |(tag, rights, id): &(u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        [vec![2, 0, 0, 0], entries.iter().flat_map(entry).collect()].concat()
    }

    const NOBODY: u32 = u32::MAX;
    const OWN: u32 = 999;

    /// What systemd makes for a service's user: `user::r--,user:<own>:r--,group::---,mask::r--,other::---`.
    fn credential(own: u32) -> [(u16, u16, u32); 5] {
        [(0x01, 4, NOBODY), (0x02, 4, own), (0x04, 0, NOBODY), (0x10, 4, NOBODY), (0x20, 0, NOBODY)]
    }

    #[test]
    fn a_list_that_names_anybody_else_is_not_private() {
        assert!(only_for(OWN, &list(&credential(OWN))));
        assert!(!only_for(OWN + 1, &list(&credential(OWN))), "for another user");
        let wider: [(usize, (u16, u16, u32)); 5] = [
            (1, (0x02, 6, OWN)),
            (2, (0x04, 4, NOBODY)),
            (2, (0x08, 4, 5)),
            (3, (0x10, 6, NOBODY)),
            (4, (0x20, 4, NOBODY)),
        ];
        for (place, entry) in wider {
            let mut entries = credential(OWN);
            entries[place] = entry;
            assert!(!only_for(OWN, &list(&entries)), "{entry:?}");
        }
        let whole = list(&credential(OWN));
        assert!(!only_for(OWN, &whole[..whole.len() - 1]), "cut off");
        assert!(!only_for(OWN, &[]) && !only_for(OWN, &[1, 0, 0, 0]));
    }

    #[test]
    fn what_systemd_hands_over_is_read_and_what_a_group_may_read_is_not() {
        let path = std::env::temp_dir().join(format!("unibus-credential-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        create(&path, b"secret").unwrap();
        let set = |own| {
            let list = list(&credential(own));
            rustix::fs::setxattr(&path, "system.posix_acl_access", &list, rustix::fs::XattrFlags::empty()).unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o440, "the mask shows as the group's bits");
            read(&path)
        };
        let own = rustix::process::geteuid().as_raw();
        let (ours, others) = (set(own), set(own + 1));
        rustix::fs::removexattr(&path, "system.posix_acl_access").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        let group = read(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(secrecy::ExposeSecret::expose_secret(&ours.unwrap()), "secret");
        assert!(matches!(others, Err(PrivateFileError::Exposed { mode: 0o440, .. })), "{others:?}");
        assert!(matches!(group, Err(PrivateFileError::Exposed { mode: 0o440, .. })), "{group:?}");
    }
}
