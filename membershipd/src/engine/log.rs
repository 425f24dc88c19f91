//! The engine's log lines, structured into the daemon's log, without subjects.

use std::io::{BufRead, BufReader, Read};

use unibus_core::bus::ACCOUNT_CALLOUT_PREFIX;

/// Copies the engine's log into ours until it ends.
pub(super) fn forward(stream: impl Read) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let (level, text) = parse(&line);
        let text = without_subject(text);
        // The banner.
        if !text.contains(|c: char| c.is_alphanumeric()) {
            continue;
        }
        match level {
            _ if expected(&text) => tracing::debug!(target: "engine", "{text}"),
            "ERR" | "FTL" => tracing::error!(target: "engine", "{text}"),
            "WRN" => tracing::warn!(target: "engine", "{text}"),
            "INF" => tracing::info!(target: "engine", "{text}"),
            _ => tracing::debug!(target: "engine", "{text}"),
        }
    }
}

// "[1234] 2026/11/22 20:38:01.123456 [INF] Server is ready"
fn parse(line: &str) -> (&str, &str) {
    line.split_once("] ")
        .filter(|_| line.starts_with('['))
        .and_then(|(_, rest)| rest.split_once(" ["))
        .and_then(|(_, rest)| rest.split_once("] "))
        .unwrap_or(("ERR", line))
}

// Every node has a callout account of its own, which the engines of the others do not know and complain about whenever a
// daemon subscribes in it. And the unit does not let the engine ask the kernel which addresses the machine has (netlink):
// it would only tell them to clients, which is not wanted.
fn expected(text: &str) -> bool {
    text.contains(&format!("Unknown account \"{ACCOUNT_CALLOUT_PREFIX}"))
        || text.ends_with("can not be resolved properly")
}

// Subjects name rooms and people; the journal is read by others than their members. The engine writes them at the end of
// its violation messages.
fn without_subject(text: &str) -> String {
    match text.to_ascii_lowercase().find("subject") {
        Some(at) => format!("{}[subject withheld]", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_level_and_text() {
        assert_eq!(parse("[12] 2026/11/22 20:38:01.123456 [WRN] slow"), ("WRN", "slow"));
        assert_eq!(parse("panic: something"), ("ERR", "panic: something"));
    }

    #[test]
    fn subjects_never_reach_the_log() {
        let line = "127.0.0.1:1 - cid:5 - Publish Violation - Nkey \"U..\", Subject \"room.board.salaries\"";
        assert!(!without_subject(line).contains("salaries"));
        assert!(without_subject(line).contains("Publish Violation"));
    }
}
