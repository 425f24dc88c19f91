//! Which files may hold a secret: what both programs ask of a key, an identity or a password before they use it. Pure: who owns what,
//! and with which mode, is told.

/// What the system says of a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Its owner's number.
    pub owner: u32,
    /// Its group's number.
    pub group: u32,
    /// Its permission bits, the sticky one among them.
    pub mode: u32,
}

/// As whom this process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// The user's number.
    pub user: u32,
    /// The group's number.
    pub group: u32,
}

/// Why a file is not to be trusted with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// It is a pipe, a device or a directory: to read it may never end.
    NoFile,
    /// It belongs to this user, who can read and replace it.
    Foreign(u32),
    /// Its mode lets others read or change it.
    Open(u32),
    /// The mode of its directory lets others put another file in its place.
    Directory(u32),
}

const ROOT: u32 = 0;
const OTHERS: u32 = 0o077;
const STICKY: u32 = 0o1000;

/// Refuses a file, in that directory, that others than its owner, root and the reader can read or replace.
pub fn judge(file: Inode, directory: Inode, reader: Reader) -> Result<(), Exposure> {
    if !file.is_file {
        return Err(Exposure::NoFile);
    }
    if ![ROOT, reader.user].contains(&file.owner) && !shares(file, directory) {
        return Err(Exposure::Foreign(file.owner));
    }
    if lets_others_write(directory, reader) {
        return Err(Exposure::Directory(directory.mode));
    }
    // Last: a caller may know better, by an access control list.
    if file.mode & OTHERS != 0 { Err(Exposure::Open(file.mode)) } else { Ok(()) }
}

/// A directory of root's that is for the file's group alone, such as tls/ of a node: root looks into it, the daemon owns the keys in it.
fn shares(file: Inode, directory: Inode) -> bool {
    directory.owner == ROOT && directory.group == file.group && directory.mode & 0o027 == 0
}

/// Where the sticky bit is set, as on /tmp, others can make files, which are then theirs, and replace none. A group that has no other
/// user than the reader is the reader: one that root has given the directory to, or one with the user's own number, as many systems
/// make for each user.
fn lets_others_write(directory: Inode, reader: Reader) -> bool {
    let own_group = directory.group == reader.group && (directory.owner == ROOT || reader.group == reader.user);
    directory.mode & STICKY == 0 && (directory.mode & 0o002 != 0 || directory.mode & 0o020 != 0 && !own_group)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Reader = Reader { user: 1000, group: 1000 };
    const DAEMON: Reader = Reader { user: 998, group: 997 };
    const SUPERUSER: Reader = Reader { user: 0, group: 0 };

    fn inode(owner: u32, group: u32, mode: u32) -> Inode {
        Inode { is_file: true, owner, group, mode }
    }

    #[test]
    fn secret_is_its_readers_or_roots_and_nobody_elses() {
        let home = inode(1000, 1000, 0o755);
        assert_eq!(judge(inode(1000, 1000, 0o600), home, ALICE), Ok(()));
        assert_eq!(judge(inode(0, 0, 0o400), home, ALICE), Ok(()));
        assert_eq!(judge(inode(1001, 1000, 0o600), home, ALICE), Err(Exposure::Foreign(1001)));
        assert_eq!(judge(inode(1000, 1000, 0o600), home, SUPERUSER), Err(Exposure::Foreign(1000)));
        assert_eq!(judge(inode(1000, 1000, 0o640), home, ALICE), Err(Exposure::Open(0o640)));
        let pipe = Inode { is_file: false, ..inode(1000, 1000, 0o600) };
        assert_eq!(judge(pipe, home, ALICE), Err(Exposure::NoFile));
    }

    #[test]
    fn directory_is_one_in_which_others_replace_nothing() {
        let at = |owner, group, mode, reader| judge(inode(0, 0, 0o600), inode(owner, group, mode), reader);
        for mode in [0o777, 0o757, 0o733] {
            assert_eq!(at(1000, 1000, mode, ALICE), Err(Exposure::Directory(mode)));
        }
        assert_eq!(at(0, 0, 0o1777, ALICE), Ok(()), "/tmp");
        assert_eq!(at(1000, 1000, 0o775, ALICE), Ok(()), "a group of one's own");
        assert_eq!(at(1000, 100, 0o775, ALICE), Err(Exposure::Directory(0o775)), "a group of all users");
        assert_eq!(at(1000, 100, 0o775, Reader { group: 100, ..ALICE }), Err(Exposure::Directory(0o775)));
        assert_eq!(at(0, 997, 0o770, DAEMON), Ok(()), "bootstrap/ of a node");
    }

    #[test]
    fn root_looks_into_the_directory_that_it_shares_with_the_daemon() {
        let key = inode(998, 997, 0o600);
        assert_eq!(judge(key, inode(0, 997, 0o750), SUPERUSER), Ok(()));
        assert_eq!(judge(key, inode(0, 0, 0o755), SUPERUSER), Err(Exposure::Foreign(998)));
        assert_eq!(judge(key, inode(0, 997, 0o755), SUPERUSER), Err(Exposure::Foreign(998)));
    }
}
