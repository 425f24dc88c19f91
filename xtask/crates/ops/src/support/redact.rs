//! What of a node's words may leave the operator's machine: only what is on a list here. What a later release adds stays out until
//! it is put on one.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::posture::Posture;
use crate::verify::Check;

/// What stands in the place of what is left out.
pub(super) const LEFT_OUT: &str = "…";

/// Settings of a node whose values are shown: numbers, addresses and places of files, none of which is a secret.
const SETTINGS: &[&str] = &[
    "ADVERTISE",
    "API_BODY_BYTES",
    "API_CONNECTIONS",
    "API_DOWNLOADS",
    "API_LISTS",
    "API_PORT",
    "API_RATE",
    "API_READINGS",
    "API_REQUESTS",
    "API_UPLOADS",
    "BIND",
    "BOOTSTRAP",
    "BUS_AUTH",
    "CLEAR_ROOMS",
    "CLIENT_PORT",
    "CLUSTER_NAME",
    "CLUSTER_PASS_FILE",
    "CONNECTIONS_BY_USER",
    "DENIED_RECORDS",
    "ENGINE",
    "ENGINE_MEMORY",
    "ENGINE_SHA256",
    "HISTORY_BYTES",
    "HISTORY_DAYS",
    "KV_REPLICAS",
    "LOGINS_BY_USER",
    "LOG_FORMAT",
    "MONITOR",
    "NATS_STORE",
    "NODE_NAME",
    "PENDING_BY_USER",
    "PERSISTING_ROOMS_BY_USER",
    "REMOVED_ROOMS_BY_USER",
    "ROOMS_BY_USER",
    "ROTATIONS_BY_USER",
    "ROUTES",
    "ROUTE_BIND",
    "ROUTE_PORT",
    "RUNTIME_DIR",
    "SECRETS_DIR",
    "STORE",
    "SUBSCRIPTIONS_BY_CONNECTION",
    "SUBSCRIPTIONS_BY_USER",
    "TLS_CERT",
    "TRUSTED_PROXIES",
];

/// Parts of a posture that are shown. None of them names a user, a room or a key.
const POSTURE: &[&str] = &[
    "schema",
    "node",
    "boot",
    "version",
    "store",
    "bus_auth",
    "clear_rooms",
    "rooms_by_user",
    "persisting_rooms_by_user",
    "removed_rooms_by_user",
    "history_bytes",
    "history_days",
    "acl",
    "tls",
    "engine",
    "cluster",
    "kv_replicas",
    "replicas",
    "lease",
    "level",
    "highest_level",
    "stays_out",
    "admins",
    "clients",
    "certificates",
    "unix_ms",
    "bootstrap_pending",
    "bounds",
    "engine_bounds",
];

/// Fields of a log line whose values are shown.
const FIELDS: &[&str] = &[
    "after",
    "before",
    "bucket",
    "bytes",
    "certificate",
    "count",
    "items",
    "level",
    "messages",
    "node",
    "pid",
    "puts",
    "revision",
    "sequence",
    "state",
    "status",
    "store",
    "took",
    "version",
    "waited_ms",
];

/// A cluster.env: comments are dropped, and so is the value of what is not on the list.
pub(super) fn settings(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let shown = lines.map(|line| match line.split_once('=') {
        Some((name, value)) if name.strip_prefix("UNIBUS_").is_some_and(|name| SETTINGS.contains(&name)) => {
            format!("{name}={value}\n")
        }
        Some((name, _)) => format!("{name}={LEFT_OUT}\n"),
        None => format!("{LEFT_OUT}\n"),
    });
    shown.collect()
}

/// A posture: rooms whose history is damaged are counted, not named.
pub(super) fn posture(posture: &Posture) -> Value {
    let Ok(Value::Object(all)) = serde_json::to_value(posture) else { return Value::Null };
    let mut shown: Map<String, Value> = all.into_iter().filter(|(name, _)| POSTURE.contains(&name.as_str())).collect();
    let more = posture.damaged_more.map_or(0, std::num::NonZeroUsize::get);
    shown.insert("damaged_rooms".to_owned(), (posture.damaged.len().saturating_add(more)).into());
    Value::Object(shown)
}

/// A check of `verify`. What it says of rooms names them.
pub(super) fn check(check: &Check) -> Value {
    let got = if check.id == "history" { LEFT_OUT } else { check.got.as_str() };
    json!({ "id": check.id, "node": check.node, "ok": check.ok, "got": got })
}

/// A line of a daemon's log: when, how grave, which part of it, and of what it says the words. `names` are those of all users; where
/// they are not known no word is shown.
pub(super) fn log_line(line: &str, names: Option<&BTreeSet<String>>) -> String {
    let mut words = line.split_whitespace();
    let (Some(time), Some(level), Some(target)) = (words.next(), words.next(), words.next()) else {
        return LEFT_OUT.to_owned();
    };
    let is_time = time.len() <= 40 && time.chars().all(|c| c.is_ascii_digit() || "T:.+-Z".contains(c));
    let is_level = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level);
    let is_target = target.ends_with(':') && target.chars().all(|c| c.is_ascii_lowercase() || "_:".contains(c));
    if !(is_time && is_level && is_target) {
        return LEFT_OUT.to_owned();
    }
    let mut shown = format!("{time} {level} {target}");
    let Some(names) = names else { return format!("{shown} {LEFT_OUT}") };
    let mut quoted = false;
    let mut left_out = false;
    for word in words {
        let begins = word.starts_with(['\'', '"', '`', '(', '[', '{', '‘', '“']);
        let opens = begins || (word.contains("=\"") && !is_field(word));
        let inside = quoted || opens;
        if inside {
            let end = word.trim_end_matches(['.', ',', ';', ':']);
            quoted = !(end.ends_with(['\'', '"', '`', ')', ']', '}', '’', '”']) && (end.chars().count() > 1 || quoted));
        }
        let keeps = !inside && (is_plain(word, names) || is_field(word));
        if keeps {
            shown.push(' ');
            shown.push_str(word);
        } else if !left_out {
            shown.push(' ');
            shown.push_str(LEFT_OUT);
        }
        left_out = !keeps;
    }
    shown
}

/// A word of a language, which is no user's name.
fn is_plain(word: &str, names: &BTreeSet<String>) -> bool {
    let word = word.trim_end_matches(['.', ',', ';', ':']);
    let letters = word.chars().all(|c| c.is_ascii_alphabetic() || "'-".contains(c));
    (letters || word.parse::<u32>().is_ok()) && word.len() <= 24 && !names.contains(word)
}

/// A field that is on the list, with a value that is a number, a duration or a bucket.
fn is_field(word: &str) -> bool {
    let Some((name, value)) = word.split_once('=') else { return false };
    let value = value.trim_matches('"');
    let is_number = value.starts_with(|c: char| c.is_ascii_digit()) && value.len() <= 20;
    let is_bucket = value.starts_with("UNIBUS_") && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    FIELDS.contains(&name) && (is_number || is_bucket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::fixture::healthy;

    #[test]
    fn settings_that_are_not_on_the_list_keep_their_name_alone() {
        let text = "# from me\nUNIBUS_BIND=127.0.0.11\nUNIBUS_NEW_SECRET=SUAB\nPASSWORD=x\nodd\n";
        assert_eq!(settings(text), "UNIBUS_BIND=127.0.0.11\nUNIBUS_NEW_SECRET=…\nPASSWORD=…\n…\n");
    }

    #[test]
    fn posture_has_what_is_on_the_list_and_counts_rooms() {
        let mut full = healthy("a", &["a", "b", "c"]);
        full.more.insert("last_user".to_owned(), "alice".into());
        full.damaged = vec![serde_json::from_value(json!({ "room": "kitchen", "why": "alice" })).unwrap()];
        let shown = posture(&full).to_string();
        assert!(!shown.contains("alice") && !shown.contains("kitchen"), "{shown}");
        assert!(shown.contains("\"damaged_rooms\":1") && shown.contains("\"lease\""), "{shown}");
    }

    #[test]
    fn log_line_keeps_words_and_nothing_that_names_anybody() {
        let names = BTreeSet::from(["alice".to_owned()]);
        let line =
            |text: &str| log_line(&format!("2026-11-29T20:00:00.1Z  WARN membershipd::gate: {text}"), Some(&names));
        let begins = "2026-11-29T20:00:00.1Z WARN membershipd::gate:";
        for (text, shown) in [
            ("the lease ended waited_ms=1200 room=hall", "the lease ended waited_ms=1200 …"),
            ("alice has as much of the bus as one may user=alice", "… has as much of the bus as one may …"),
            ("cannot read 'the kitchen of bob' now", "cannot read … now"),
            ("a key SUABCDEF0123 at 192.0.2.7:4250 of UXYZ0", "a key … at … of …"),
            ("no (reason given by eve) at all bucket=\"UNIBUS_users\"", "no … at all bucket=\"UNIBUS_users\""),
            ("count=bob", "…"),
            ("why=\"bob said so\" then", "… then"),
        ] {
            assert_eq!(line(text), format!("{begins} {shown}"));
        }
        for odd in ["", "hello there alice", "2026 LOUD x: y", "2026-11-29T20:00:00Z INFO Alice: x"] {
            assert_eq!(log_line(odd, Some(&names)), LEFT_OUT, "{odd}");
        }
        assert_eq!(log_line("2026-11-29T20:00:00Z INFO serve: up", None), "2026-11-29T20:00:00Z INFO serve: …");
    }
}
