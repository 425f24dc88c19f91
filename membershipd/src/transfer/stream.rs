//! A copy as a stream: written as it is read, so that nothing holds all of it, and unpacked into a file of the sqlite store where
//! one is needed.
//!
//! The stream begins with [`MAGIC`]; then come frames. A frame is the length of its head and that of its body, four bytes each, most
//! significant first, its head, which is JSON, and its body, which is what the head is about, as it is. A later frame of an entry
//! takes the place of an earlier one, as the copy is read in rounds. The last frame has the SHA-256 of all bytes before it, so a
//! stream that was cut off is never taken for a copy, and what `membershipd export --json` says. `cargo xtask backup` reads heads and
//! lengths alone (`xtask/crates/ops/src/backup_stream.rs`).

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::blobs::Kept;
use super::error::TransferError;
use crate::blobs::{BlobId, BlobName};
use unibus_api_types::control::Part;
use unibus_core::domain::{Handle, RoomId};
use unibus_core::private_file;
use unibus_store::{Key, Message, NewFile, Records, Revision};

/// How every stream begins.
const MAGIC: &[u8; 16] = b"unibus backup 1\n";
/// Bytes of a head: names and numbers. That of the end names what is missing.
const MOST_HEAD: usize = 16 << 20;
/// Bytes of a body: more than the largest entry, message or piece of an attachment has.
const MOST_BODY: usize = 16 << 20;

/// Where a copy is written, in the order in which it is read.
pub(super) trait CopyTarget: Send {
    /// Adds an entry, or puts a later revision in the place of an earlier one.
    fn entry(&mut self, bucket: Records, key: &Key, revision: Revision, value: &[u8]) -> Result<(), TransferError>;
    /// Adds a record to the audit log.
    fn record(&mut self, number: Revision, record: &[u8]) -> Result<(), TransferError>;
    /// Adds a message of a room.
    fn message(&mut self, room: &RoomId, message: &Message) -> Result<(), TransferError>;
    /// Takes the messages of a room out again.
    fn without_messages(&mut self, room: &RoomId) -> Result<(), TransferError>;
    /// Adds an attachment, whose pieces follow.
    fn blob(&mut self, kept: &Kept) -> Result<(), TransferError>;
    /// Adds piece `number` of an attachment, from 0.
    fn blob_piece(&mut self, name: &BlobName, number: u64, piece: &[u8]) -> Result<(), TransferError>;
    /// Takes an attachment out again.
    fn forget_blob(&mut self, name: &BlobName) -> Result<(), TransferError>;
}

impl CopyTarget for NewFile {
    fn entry(&mut self, bucket: Records, key: &Key, revision: Revision, value: &[u8]) -> Result<(), TransferError> {
        Ok(NewFile::entry(self, bucket, key, revision, value)?)
    }

    fn record(&mut self, number: Revision, record: &[u8]) -> Result<(), TransferError> {
        Ok(NewFile::record(self, number, record)?)
    }

    fn message(&mut self, room: &RoomId, message: &Message) -> Result<(), TransferError> {
        Ok(NewFile::message(self, room.as_str(), message)?)
    }

    fn without_messages(&mut self, room: &RoomId) -> Result<(), TransferError> {
        Ok(NewFile::without_messages(self, room.as_str())?)
    }

    fn blob(&mut self, Kept { name, by, at_ms, bytes }: &Kept) -> Result<(), TransferError> {
        Ok(NewFile::blob(self, &name.room, &name.id.to_string(), by, *at_ms, *bytes)?)
    }

    fn blob_piece(&mut self, name: &BlobName, number: u64, piece: &[u8]) -> Result<(), TransferError> {
        Ok(NewFile::blob_piece(self, &name.room, &name.id.to_string(), number, piece)?)
    }

    fn forget_blob(&mut self, name: &BlobName) -> Result<(), TransferError> {
        Ok(NewFile::forget_blob(self, &name.room, &name.id.to_string())?)
    }
}

/// What a body is, by the head of its frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
enum Head {
    Entry {
        part: Part,
        key: String,
        revision: u64,
    },
    Record {
        number: u64,
    },
    Message {
        room: RoomId,
        sequence: u64,
        at_ms: i64,
        subject: String,
    },
    WithoutMessages {
        room: RoomId,
    },
    Blob {
        room: RoomId,
        sha256: BlobId,
        by: Handle,
        at_ms: i64,
        bytes: u64,
    },
    BlobPiece {
        room: RoomId,
        sha256: BlobId,
        number: u64,
    },
    ForgetBlob {
        room: RoomId,
        sha256: BlobId,
    },
    /// The last one.
    End {
        sha256: String,
        answer: Value,
    },
}

/// A stream that is being written.
pub struct StreamWriter<W: Write> {
    to: W,
    hash: Sha256,
}

impl<W: Write + Send> StreamWriter<W> {
    /// Begins a stream.
    pub fn begin(to: W) -> Result<Self, TransferError> {
        let mut stream = Self { to, hash: Sha256::new() };
        stream.put(MAGIC)?;
        Ok(stream)
    }

    /// Ends it with what is to be said about it.
    pub fn finish(mut self, answer: Value) -> Result<(), TransferError> {
        let sha256 = HEXLOWER.encode(&std::mem::take(&mut self.hash).finalize());
        self.frame(&Head::End { sha256, answer }, &[])?;
        self.to.flush().map_err(unwritten)
    }

    fn frame(&mut self, head: &Head, body: &[u8]) -> Result<(), TransferError> {
        let head = serde_json::to_vec(head).map_err(|error| TransferError::NotUnderstood(error.to_string()))?;
        for part in [&head, body] {
            let length = u32::try_from(part.len()).ok().filter(|_| part.len() <= MOST_BODY);
            let length = length.ok_or_else(|| TransferError::NotUnderstood("an item is too long for a copy".into()))?;
            self.put(&length.to_be_bytes())?;
        }
        self.put(&head)?;
        self.put(body)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.hash.update(bytes);
        self.to.write_all(bytes).map_err(unwritten)
    }
}

fn unwritten(error: io::Error) -> TransferError {
    TransferError::Stream(format!("writing the copy: {error}"))
}

impl<W: Write + Send> CopyTarget for StreamWriter<W> {
    fn entry(&mut self, bucket: Records, key: &Key, revision: Revision, value: &[u8]) -> Result<(), TransferError> {
        let part = Part::Records(bucket);
        self.frame(&Head::Entry { part, key: key.to_string(), revision: revision.get() }, value)
    }

    fn record(&mut self, number: Revision, record: &[u8]) -> Result<(), TransferError> {
        self.frame(&Head::Record { number: number.get() }, record)
    }

    fn message(&mut self, room: &RoomId, message: &Message) -> Result<(), TransferError> {
        let Message { sequence, at_ms, subject, frame } = message;
        let head = Head::Message { room: room.clone(), sequence: *sequence, at_ms: *at_ms, subject: subject.clone() };
        self.frame(&head, frame)
    }

    fn without_messages(&mut self, room: &RoomId) -> Result<(), TransferError> {
        self.frame(&Head::WithoutMessages { room: room.clone() }, &[])
    }

    fn blob(&mut self, Kept { name, by, at_ms, bytes }: &Kept) -> Result<(), TransferError> {
        let BlobName { room, id } = name.clone();
        self.frame(&Head::Blob { room, sha256: id, by: by.clone(), at_ms: *at_ms, bytes: *bytes }, &[])
    }

    fn blob_piece(&mut self, name: &BlobName, number: u64, piece: &[u8]) -> Result<(), TransferError> {
        let BlobName { room, id } = name.clone();
        self.frame(&Head::BlobPiece { room, sha256: id, number }, piece)
    }

    fn forget_blob(&mut self, name: &BlobName) -> Result<(), TransferError> {
        let BlobName { room, id } = name.clone();
        self.frame(&Head::ForgetBlob { room, sha256: id }, &[])
    }
}

/// The file of the sqlite store that a stream was unpacked into, beside it; removed when it is dropped.
#[derive(Debug)]
pub struct Unpacked {
    /// Where it is.
    pub path: PathBuf,
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Unpacks `path` where it is a stream; none: it is something else, or not there.
pub fn unpack_stream(path: &Path) -> Result<Option<Unpacked>, TransferError> {
    let mut begins = [0; MAGIC.len()];
    match File::open(path).and_then(|mut file| file.read_exact(&mut begins)) {
        Ok(()) if begins == *MAGIC => {}
        // Whatever else it is, and that it cannot be read, is for the store to say.
        _ => return Ok(None),
    }
    let from = private_file::open(path).map_err(|error| TransferError::NewFile(error.into()))?;
    let unpacked = Unpacked { path: private_file::sibling(path, "unpacked") };
    // What an earlier run left when it was killed.
    let _ = fs::remove_file(&unpacked.path);
    let mut to = NewFile::create(&unpacked.path)?;
    read_stream(BufReader::new(from), &mut to)?;
    to.finish()?;
    Ok(Some(unpacked))
}

/// Puts a file of the sqlite store in the place of a stream at `path`, for a node that is started with a copy.
pub fn unpack_in_place(path: &Path) -> Result<(), TransferError> {
    let Some(unpacked) = unpack_stream(path)? else { return Ok(()) };
    fs::rename(&unpacked.path, path)
        .map_err(|error| TransferError::Stream(format!("putting {} in place: {error}", path.display())))?;
    private_file::sync_directory(path).map_err(|error| TransferError::NewFile(error.into()))?;
    tracing::info!(file = %path.display(), "the copy was unpacked into a store");
    Ok(())
}

/// Reads a stream to its end, whose hash must be that of all that came before.
fn read_stream(from: impl BufRead, to: &mut dyn CopyTarget) -> Result<(), TransferError> {
    let mut from = Hashed { from, hash: Sha256::new() };
    let mut magic = [0; MAGIC.len()];
    from.fill(&mut magic)?;
    if magic != *MAGIC {
        return Err(damaged("it does not begin as a copy does"));
    }
    loop {
        let so_far = from.hash.clone();
        let [head, body] = [from.length(MOST_HEAD)?, from.length(MOST_BODY)?];
        let (mut head_bytes, mut body_bytes) = (vec![0; head], vec![0; body]);
        from.fill(&mut head_bytes)?;
        from.fill(&mut body_bytes)?;
        let head: Head = serde_json::from_slice(&head_bytes)
            .map_err(|error| TransferError::NotUnderstood(format!("a frame of the copy: {error}")))?;
        if let Head::End { sha256, .. } = &head {
            let whole = *sha256 == HEXLOWER.encode(&so_far.finalize());
            let over = from.from.fill_buf().map_err(|error| damaged(&error.to_string()))?.is_empty();
            return if whole && over { Ok(()) } else { Err(damaged("its hash is another one")) };
        }
        take(head, &body_bytes, to)?;
    }
}

fn take(head: Head, body: &[u8], to: &mut dyn CopyTarget) -> Result<(), TransferError> {
    let revision = |number| Revision::new(number).ok_or_else(|| damaged("it has a revision 0"));
    match head {
        Head::Entry { part: Part::Records(bucket), key, revision: number } => {
            let key =
                key.parse().map_err(|error| TransferError::NotUnderstood(format!("a key of the copy: {error}")))?;
            to.entry(bucket, &key, revision(number)?, body)
        }
        Head::Entry { part, .. } => Err(TransferError::nameless(part)),
        Head::Record { number } => to.record(revision(number)?, body),
        Head::Message { room, sequence, at_ms, subject } => {
            let frame = body.to_vec().into();
            to.message(&room, &Message { sequence, at_ms, subject, frame })
        }
        Head::WithoutMessages { room } => to.without_messages(&room),
        Head::Blob { room, sha256: id, by, at_ms, bytes } => {
            to.blob(&Kept { name: BlobName { room, id }, by, at_ms, bytes })
        }
        Head::BlobPiece { room, sha256: id, number } => to.blob_piece(&BlobName { room, id }, number, body),
        Head::ForgetBlob { room, sha256: id } => to.forget_blob(&BlobName { room, id }),
        Head::End { .. } => Ok(()),
    }
}

fn damaged(why: &str) -> TransferError {
    TransferError::Stream(format!("the copy is damaged or cut off: {why}"))
}

struct Hashed<R> {
    from: R,
    hash: Sha256,
}

impl<R: Read> Hashed<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), TransferError> {
        self.from.read_exact(bytes).map_err(|error| damaged(&error.to_string()))?;
        self.hash.update(&*bytes);
        Ok(())
    }

    fn length(&mut self, most: usize) -> Result<usize, TransferError> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= most);
        length.ok_or_else(|| damaged("a frame is too long"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Notes what it is told.
    #[derive(Default)]
    struct Noted(Vec<String>);

    impl Noted {
        fn note(&mut self, text: String) -> Result<(), TransferError> {
            self.0.push(text);
            Ok(())
        }
    }

    impl CopyTarget for Noted {
        fn entry(&mut self, bucket: Records, key: &Key, revision: Revision, value: &[u8]) -> Result<(), TransferError> {
            self.note(format!("entry {bucket:?} {key} {revision} {value:?}"))
        }
        fn record(&mut self, number: Revision, record: &[u8]) -> Result<(), TransferError> {
            self.note(format!("record {number} {record:?}"))
        }
        fn message(&mut self, room: &RoomId, message: &Message) -> Result<(), TransferError> {
            self.note(format!("message {room} {message:?}"))
        }
        fn without_messages(&mut self, room: &RoomId) -> Result<(), TransferError> {
            self.note(format!("without {room}"))
        }
        fn blob(&mut self, kept: &Kept) -> Result<(), TransferError> {
            self.note(format!("{kept:?}"))
        }
        fn blob_piece(&mut self, name: &BlobName, number: u64, piece: &[u8]) -> Result<(), TransferError> {
            self.note(format!("piece {number} of {} {piece:?}", name.object()))
        }
        fn forget_blob(&mut self, name: &BlobName) -> Result<(), TransferError> {
            self.note(format!("forget {}", name.object()))
        }
    }

    fn all_kinds(to: &mut dyn CopyTarget) {
        let number = |number| Revision::new(number).unwrap();
        let room: RoomId = "hall".parse().unwrap();
        let name = BlobName { room: room.clone(), id: BlobId::of(b"xy") };
        let kept = Kept { name: name.clone(), by: "bob".parse().unwrap(), at_ms: -3, bytes: 2 };
        let message = Message { sequence: 7, at_ms: 5, subject: "room.hall.bob".into(), frame: vec![0, 255].into() };
        to.entry(Records::Users, &"user.bob".parse().unwrap(), number(4), b"{}").unwrap();
        to.record(number(9), b"").unwrap();
        to.message(&room, &message).unwrap();
        to.without_messages(&room).unwrap();
        to.blob(&kept).unwrap();
        to.blob_piece(&name, 0, b"xy").unwrap();
        to.forget_blob(&name).unwrap();
    }

    fn stream() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut to = StreamWriter::begin(&mut bytes).unwrap();
        all_kinds(&mut to);
        to.finish(json!({ "ok": true })).unwrap();
        bytes
    }

    #[test]
    fn everything_that_a_copy_has_comes_out_of_a_stream_as_it_went_in() {
        let (mut wanted, mut read) = (Noted::default(), Noted::default());
        all_kinds(&mut wanted);
        read_stream(&stream()[..], &mut read).unwrap();
        assert_eq!(read.0, wanted.0);
    }

    #[test]
    fn stream_that_was_cut_off_changed_or_continued_is_refused() {
        let whole = stream();
        for end in 0..whole.len() {
            read_stream(&whole[..end], &mut Noted::default()).unwrap_err();
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            // In what is said of the copy no byte counts for what is unpacked.
            let in_the_answer = at >= whole.len() - 14;
            assert!(in_the_answer || read_stream(&changed[..], &mut Noted::default()).is_err(), "byte {at}");
        }
        read_stream(&[&whole[..], b"x"].concat()[..], &mut Noted::default()).unwrap_err();
    }

    #[test]
    fn stream_becomes_a_store_and_another_file_stays_as_it_is() {
        let dir = std::env::temp_dir().join(format!("unibus-stream-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("backup.db");
        private_file::create(&path, &stream()).unwrap();
        unpack_in_place(&path).unwrap();
        let store = fs::read(&path).unwrap();
        assert!(store.starts_with(b"SQLite format 3\0"));
        unpack_in_place(&path).unwrap();
        assert!(unpack_stream(&path).unwrap().is_none() && unpack_stream(&dir.join("none")).unwrap().is_none());
        assert_eq!(fs::read(&path).unwrap(), store);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(&dir).unwrap();
    }
}
