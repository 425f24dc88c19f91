//! One line of a node's log, and when it was written.

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use unibus_names::printable::one_line_of;

/// Characters of a line that are shown.
const MOST: usize = 16 << 10;

/// A line, harmless for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Microseconds since 1970.
    pub(super) at: i64,
    pub(super) text: String,
}

/// A line of a daemon's own log. One that has no time, as the rest of a message of several lines, belongs to the line before.
pub(super) fn of_file(line: &[u8], before: i64) -> Line {
    of_text(&String::from_utf8_lossy(line), before)
}

fn of_text(text: &str, otherwise: i64) -> Line {
    let text = text.trim_end_matches(['\r', '\n']);
    let own = text.split_once([' ', '\t']).and_then(|(time, rest)| Some((micros(time)?, rest.trim_start())));
    let (at, text) = own.unwrap_or((otherwise, text));
    Line { at, text: one_line_of(text, MOST).into_owned() }
}

/// An entry as `journalctl --output json` has it.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at: String,
    #[serde(rename = "MESSAGE", default)]
    message: Value,
}

/// An entry of a journal; none where the line is none.
pub(super) fn of_journal(line: &[u8]) -> Option<Line> {
    let entry: Entry = serde_json::from_slice(line).ok()?;
    let message = match &entry.message {
        Value::String(text) => text.clone(),
        // What is no text comes as its bytes.
        Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => String::new(),
    };
    // The daemon says its own time, which is a moment before the journal's.
    Some(of_text(&message, entry.at.parse().ok()?))
}

fn micros(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-30T00:14:07.123456Z.
    const AT: i64 = 1_795_997_647_123_456;

    #[test]
    fn a_daemon_says_when() {
        let line = of_file(b"2026-11-30T00:14:07.123456Z  INFO membershipd: ready\n", 7);
        assert_eq!(line, Line { at: AT, text: "INFO membershipd: ready".to_owned() });
        assert_eq!(of_file(b"   0: core::panicking\n", 7), Line { at: 7, text: "   0: core::panicking".to_owned() });
        assert_eq!(of_file(b"", 7), Line { at: 7, text: String::new() });
    }

    #[test]
    fn an_entry_of_a_journal_has_the_daemon_s_time_or_its_own() {
        let line = of_journal(
            br#"{"__REALTIME_TIMESTAMP":"1795997647200000","MESSAGE":"2026-11-30T00:14:07.123456Z  WARN x: y"}"#,
        );
        assert_eq!(line.unwrap(), Line { at: AT, text: "WARN x: y".to_owned() });
        let line = of_journal(br#"{"__REALTIME_TIMESTAMP":"1795997647200000","MESSAGE":"Started unibus."}"#);
        assert_eq!(line.unwrap(), Line { at: 1_795_997_647_200_000, text: "Started unibus.".to_owned() });
        let line = of_journal(br#"{"__REALTIME_TIMESTAMP":"5","MESSAGE":[104,105,255]}"#);
        assert_eq!(line.unwrap(), Line { at: 5, text: "hi\u{fffd}".to_owned() });
        assert_eq!(of_journal(br#"{"__REALTIME_TIMESTAMP":"5","MESSAGE":null}"#).unwrap().text, "");
        assert_eq!(of_journal(b"Welcome to this server"), None);
    }

    #[test]
    fn what_a_node_writes_cannot_act_on_the_terminal() {
        let line = of_file(b"2026-11-30T00:14:07Z a\x1b[2J\xe2\x80\xaeb\rc\n", 0);
        assert_eq!(line.text, "a\\u001b[2J\\u202eb\\rc");
        let line = of_journal(br#"{"__REALTIME_TIMESTAMP":"5","MESSAGE":"one\ntwo\u001b[2J"}"#).unwrap();
        assert_eq!(line.text, "one\\ntwo\\u001b[2J");
        assert!(of_file(&[b'x'; 40_000], 0).text.ends_with("(23616 bytes more)"));
    }
}
