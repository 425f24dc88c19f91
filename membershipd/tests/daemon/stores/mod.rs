//! The two stores as the suite sees them: started, crashed and started again.

#![allow(unreachable_pub, reason = "what is shared within a test program is public in its module")]

pub mod cases;
pub mod engines;

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use unibus_core::clock;
use unibus_store::{SqliteStore, Store};

use crate::common::Dir;

/// A store under test.
pub trait Subject: Send {
    /// What the suite works on.
    fn store(&self) -> Arc<dyn Store>;

    /// Everything is killed without a warning, and started again on what it left. Ends when the store works again.
    fn crash(&mut self) -> BoxFuture<'_, ()>;
}

/// A store in a file.
pub struct Sqlite {
    dir: Dir,
    lives: u32,
    store: Arc<SqliteStore>,
}

impl Sqlite {
    pub fn new() -> Self {
        let dir = Dir::new();
        let store = open(dir.path().join("0.db"));
        Self { dir, lives: 0, store }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(format!("{}.db", self.lives))
    }
}

fn open(path: PathBuf) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(&path, Arc::new(clock::unix_ms)).unwrap())
}

impl Subject for Sqlite {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    // What a killed process leaves is what the kernel has of its files: nothing was written back, nothing closed.
    fn crash(&mut self) -> BoxFuture<'_, ()> {
        async move {
            let before = self.path();
            self.lives += 1;
            for ending in ["", "-wal"] {
                let of = |path: &PathBuf| format!("{}{ending}", path.display());
                std::fs::copy(of(&before), of(&self.path())).unwrap();
            }
            self.store = open(self.path());
        }
        .boxed()
    }
}
