//! Locks on files and directories, which keep one process out of the way of another.

use std::fs::{File, TryLockError};
use std::io;

/// A lock on a file, until the value is dropped or the process ends.
///
/// It is given back rather than left to the close of the file: a program that another thread is just starting has a copy
/// of all that is open until it runs (open(2), `O_CLOEXEC`), and would keep what was only closed locked for that long.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock, or nothing while another holds it.
    pub fn try_take(file: File) -> io::Result<Option<Self>> {
        Ok(got(file.try_lock())?.then_some(Self(file)))
    }

    /// Takes the lock, and calls `waiting` first where another holds it.
    pub fn take(file: File, waiting: impl FnOnce()) -> io::Result<Self> {
        if !got(file.try_lock())? {
            waiting();
            file.lock()?;
        }
        Ok(Self(file))
    }

    /// Takes a lock that others may have at the same time, and waits while one has it alone.
    pub fn share(file: File) -> io::Result<Self> {
        file.lock_shared()?;
        Ok(Self(file))
    }

    /// What is locked, to be read and written.
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // What cannot be given back goes with the file.
        let _ = self.0.unlock();
    }
}

/// Whether a lock is held. It is shared for that moment, so two that ask at once do not take each other for its holder.
pub fn is_held(file: File) -> io::Result<bool> {
    let free = got(file.try_lock_shared())?;
    drop(free.then_some(Lock(file)));
    Ok(!free)
}

fn got(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn what_was_dropped_is_free_whatever_is_being_started_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::create(dir.path().join("lock")).unwrap();
        let stop = AtomicBool::new(false);
        let mut held = 0;
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        assert!(Command::new("true").status().unwrap().success());
                    }
                });
            }
            for _ in 0..500 {
                drop(Lock::try_take(open()).unwrap());
                held += usize::from(is_held(open()).unwrap());
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(held, 0);
    }

    #[test]
    fn a_lock_has_one_holder_and_who_asks_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::create(dir.path().join("lock")).unwrap();
        let asking = open();
        asking.lock_shared().unwrap();
        assert!(!is_held(open()).unwrap(), "another one asks");
        drop(asking);
        let lock = Lock::take(open(), || panic!("it was free")).unwrap();
        assert!(is_held(open()).unwrap());
        assert!(Lock::try_take(open()).unwrap().is_none());
        drop(lock);
        assert!(!is_held(open()).unwrap());
    }
}
