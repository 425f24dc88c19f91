//! The end of a copy that `membershipd export --stream` wrote: whether all of it is there, and what is said about it.
//!
//! The form is membershipd's (`membershipd/src/transfer/stream.rs`): sixteen bytes, then frames, each with the lengths of its head and
//! its body, four bytes each, most significant first. The head of the last frame has the SHA-256 of all that came before. What frames
//! hold is not read here.

use std::io::{BufRead, Read};

use anyhow::{Context, Result, bail, ensure};
use ring::digest::{self, SHA256};
use serde::Deserialize;
use serde_json::Value;

use data_encoding::HEXLOWER;

/// How every copy begins.
pub const MAGIC: &[u8; 16] = b"unibus backup 1\n";
/// Bytes of a head or a body, at most.
const MOST: u32 = 16 << 20;
/// How the head of the last frame begins; no other does.
const END: &[u8] = b"{\"is\":\"end\",";

#[derive(Deserialize)]
struct End {
    sha256: String,
    answer: Value,
}

/// Reads a copy to its end, which must be there and be that of all that came before; says what `membershipd export` says about it,
/// and how many bytes the copy has.
pub fn verify(mut from: impl BufRead) -> Result<(Value, u64)> {
    let mut hash = digest::Context::new(&SHA256);
    let mut bytes = u64::try_from(MAGIC.len())?;
    let mut magic = [0; MAGIC.len()];
    from.read_exact(&mut magic).context("it is cut off")?;
    ensure!(magic == *MAGIC, "it does not begin as a copy does");
    hash.update(&magic);
    let mut buffer = Vec::new();
    loop {
        let mut lengths = [0; 8];
        from.read_exact(&mut lengths).context("it is cut off")?;
        let [h0, h1, h2, h3, b0, b1, b2, b3] = lengths;
        let [head, body] = [[h0, h1, h2, h3], [b0, b1, b2, b3]].map(u32::from_be_bytes);
        ensure!(head <= MOST && body <= MOST, "a frame is too long");
        bytes = bytes.saturating_add(8).saturating_add(u64::from(head)).saturating_add(u64::from(body));
        read(&mut from, head, &mut buffer)?;
        if buffer.starts_with(END) {
            let End { sha256, answer } = crate::answer::read(&buffer).context("its end is not understood")?;
            ensure!(sha256 == HEXLOWER.encode(hash.finish().as_ref()), "its hash is another one");
            ensure!(body == 0 && from.fill_buf().context("reading on")?.is_empty(), "something comes after its end");
            return Ok((answer, bytes));
        }
        hash.update(&lengths);
        hash.update(&buffer);
        read(&mut from, body, &mut buffer)?;
        hash.update(&buffer);
    }
}

/// Reads so many bytes in the place of what is in `to`. Memory grows with what comes, not with what was announced.
fn read(from: &mut impl Read, length: u32, to: &mut Vec<u8>) -> Result<()> {
    to.clear();
    let count = from.take(length.into()).read_to_end(to).context("reading it")?;
    if u32::try_from(count) == Ok(length) { Ok(()) } else { bail!("it is cut off") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    fn frame(head: &str, body: &[u8]) -> Vec<u8> {
        let length = |part: &[u8]| u32::try_from(part.len()).unwrap().to_be_bytes();
        [&length(head.as_bytes())[..], &length(body), head.as_bytes(), body].concat()
    }

    fn stream() -> Vec<u8> {
        let begun = [&MAGIC[..], &frame(r#"{"is":"record","number":1}"#, b"{\"is\":\"end\",")].concat();
        let end = format!(r#"{{"is":"end","sha256":"{}","answer":{{"ok":true}}}}"#, sha256(&begun));
        [&begun[..], &frame(&end, b"")].concat()
    }

    #[test]
    fn whole_copy_says_what_is_said_about_it() {
        let stream = stream();
        let (answer, bytes) = verify(&stream[..]).unwrap();
        assert_eq!((answer["ok"].as_bool(), bytes), (Some(true), stream.len() as u64));
    }

    #[test]
    fn copy_that_was_cut_off_changed_or_continued_is_refused() {
        let whole = stream();
        for end in 0..whole.len() {
            verify(&whole[..end]).unwrap_err();
        }
        let answer = whole.len() - r#"{"ok":true}}"#.len();
        for at in 0..answer {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(verify(&changed[..]).is_err(), "byte {at}");
        }
        verify(&[&whole[..], b"x"].concat()[..]).unwrap_err();
        verify(&b"SQLite format 3\0"[..]).unwrap_err();
    }
}
