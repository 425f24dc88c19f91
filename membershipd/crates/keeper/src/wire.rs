//! The engine's protocol as a connection sees it that takes no headers, taken apart (nats-server `server/parser.go`).
//!
//! The library's connections always take headers, and end at a block of them that is malformed: any member could end them. The engine
//! strips headers for a connection that takes none.

use std::str;

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

/// Longest line of the protocol; the engine's own description is the longest there is.
const LINE: usize = 64 << 10;
/// Longest payload; more than the engine takes from any client.
const PAYLOAD: usize = 2 << 20;

/// What the engine says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// About itself, JSON.
    Info(Bytes),
    /// A message on a subject.
    Message { subject: String, payload: Bytes },
    /// It wants to hear a PONG.
    Ping,
    /// All that was said before has arrived.
    Pong,
    /// Nothing of interest.
    Ok,
    /// What is wrong with this connection.
    Error(String),
}

/// Why the connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the engine said what is no part of its protocol: {0}")]
    Strange(&'static str),
}

/// Takes the protocol apart. State: the message whose payload is still to come.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    awaited: Option<(String, usize)>,
    /// Bytes of the present line that were looked at.
    searched: usize,
}

impl Wire {
    /// The next line, without its end.
    fn line(&mut self, from: &mut BytesMut) -> Result<Option<Bytes>, Broken> {
        let rest = from.get(self.searched..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            self.searched = from.len();
            return if from.len() > LINE { Err(Broken::Strange("a line without an end")) } else { Ok(None) };
        };
        let mut line = from.split_to(self.searched + end + 1).freeze();
        self.searched = 0;
        let text = line.len() - if line.ends_with(b"\r\n") { 2 } else { 1 };
        line.truncate(text);
        Ok(Some(line))
    }

    fn payload(&mut self, from: &mut BytesMut) -> Result<Option<Said>, Broken> {
        let Some((subject, length)) = self.awaited.take() else { return Ok(None) };
        if from.len() < length + 2 {
            from.reserve(length + 2 - from.len());
            self.awaited = Some((subject, length));
            return Ok(None);
        }
        let payload = from.split_to(length).freeze();
        if !from.starts_with(b"\r\n") {
            return Err(Broken::Strange("a payload of another length"));
        }
        from.advance(2);
        Ok(Some(Said::Message { subject, payload }))
    }
}

impl Decoder for Wire {
    type Item = Said;
    type Error = Broken;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<Said>, Broken> {
        if self.awaited.is_none() {
            let Some(line) = self.line(from)? else { return Ok(None) };
            let (verb, rest) = match line.iter().position(|byte| *byte == b' ' || *byte == b'\t') {
                Some(end) => (line.slice(..end), line.slice(end + 1..)),
                None => (line.clone(), Bytes::new()),
            };
            match &*verb {
                b"MSG" => self.awaited = Some(announced(&rest)?),
                b"INFO" => return Ok(Some(Said::Info(rest))),
                b"PING" => return Ok(Some(Said::Ping)),
                b"PONG" => return Ok(Some(Said::Pong)),
                b"+OK" => return Ok(Some(Said::Ok)),
                b"-ERR" => return Ok(Some(Said::Error(String::from_utf8_lossy(&rest).trim_matches('\'').to_owned()))),
                _ => return Err(Broken::Strange("an unknown verb")),
            }
        }
        self.payload(from)
    }
}

/// Subject and length of a message: subject, id of the subscription, perhaps where an answer goes, length.
fn announced(line: &[u8]) -> Result<(String, usize), Broken> {
    let strange = || Broken::Strange("a message that is not announced as one");
    let words: Vec<&str> = str::from_utf8(line).map_err(|_| strange())?.split_ascii_whitespace().collect();
    let ([subject, _, length] | [subject, _, _, length]) = *words else { return Err(strange()) };
    let length = length.parse().ok().filter(|length| *length <= PAYLOAD).ok_or_else(strange)?;
    Ok((subject.to_owned(), length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8], cut: usize) -> Result<Vec<Said>, Broken> {
        let (mut wire, mut buffer, mut said) = (Wire::default(), BytesMut::new(), Vec::new());
        for part in bytes.chunks(cut.max(1)) {
            buffer.extend_from_slice(part);
            while let Some(one) = wire.decode(&mut buffer)? {
                said.push(one);
            }
        }
        Ok(said)
    }

    #[test]
    fn what_the_engine_says_is_understood_however_it_is_cut() {
        let bytes = b"INFO {\"a\": 1}\r\nPING\r\nMSG room.x.bob 1 5\r\na\r\nb\0\r\nMSG room.y 2 reply.to 0\r\n\r\n+OK\r\n-ERR 'Stale Connection'\r\nPONG\r\n";
        let message = |subject: &str, payload: &'static [u8]| Said::Message {
            subject: subject.to_owned(),
            payload: Bytes::from_static(payload),
        };
        let expected = vec![
            Said::Info(Bytes::from_static(b"{\"a\": 1}")),
            Said::Ping,
            message("room.x.bob", b"a\r\nb\0"),
            message("room.y", b""),
            Said::Ok,
            Said::Error("Stale Connection".to_owned()),
            Said::Pong,
        ];
        for cut in [1, 2, 3, 7, 1000] {
            assert_eq!(all(bytes, cut).unwrap(), expected, "in pieces of {cut}");
        }
    }

    #[test]
    fn what_is_no_part_of_the_protocol_ends_the_connection() {
        for bad in ["HMSG a 1 12 12\r\n", "MSG a 1\r\n", "MSG a 1 -1\r\n", "MSG a 1 99999999\r\n", "MSG a 1 1\r\nabc"] {
            assert!(all(bad.as_bytes(), 1000).is_err(), "{bad:?}");
        }
        assert!(all(&vec![b'x'; LINE + 1], 1000).is_err(), "a line that never ends");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 1..50usize) {
            let _ = all(&bytes, cut);
        }

        #[test]
        fn every_payload_arrives_as_it_was(payload in prop::collection::vec(any::<u8>(), 0..300), cut in 1..50usize) {
            let mut bytes = format!("MSG a.b 1 {}\r\n", payload.len()).into_bytes();
            bytes.extend_from_slice(&payload);
            bytes.extend_from_slice(b"\r\n");
            let expected = Said::Message { subject: "a.b".to_owned(), payload: payload.into() };
            prop_assert_eq!(all(&bytes, cut).unwrap(), vec![expected]);
        }
    }
}
