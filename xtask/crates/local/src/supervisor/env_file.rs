//! Reads a cluster.env as systemd's EnvironmentFile= would, and refuses what the two could read differently.

use std::path::Path;

use anyhow::{Context, Result};

use unibus_ops::exit::BadInput;
use unibus_ops::fsx;
use unibus_ops::paths::Paths;

/// The variables of a cluster.env.
pub(crate) fn read(file: &Path) -> Result<Vec<(String, String)>> {
    let shown = Paths::shown(file);
    let bytes = fsx::read(file)?.with_context(|| format!("{shown} is not there"))?;
    let text = String::from_utf8(bytes).map_err(|_| BadInput::new(format!("{shown} is not UTF-8")))?;
    parse(&text).map_err(|(line, why)| BadInput::new(format!("{shown}:{line}: {why}")))
}

fn parse(text: &str) -> Result<Vec<(String, String)>, (usize, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        let Some((name, value)) = content.split_once('=') else {
            return Err((line, format!("'{content}' is not NAME=VALUE")));
        };
        let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err((line, format!("'{name}' is no name of a variable")));
        }
        if value.contains(['"', '\'', '\\', '$', '`']) {
            return Err((line, format!("the value of {name} has a quote, backslash, dollar or backtick")));
        }
        if found.iter().any(|(known, _)| known == name) {
            return Err((line, format!("{name} is set twice")));
        }
        found.push((name.to_owned(), value.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_stand() {
        let read =
            parse("# made\n\nUNIBUS_ROUTES=nats-route://127.0.0.12:6250,x\nUNIBUS_TLS_CERT=tls/server.crt\n").unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let want = [pair("UNIBUS_ROUTES", "nats-route://127.0.0.12:6250,x"), pair("UNIBUS_TLS_CERT", "tls/server.crt")];
        assert_eq!(read, want);
    }

    #[test]
    fn what_systemd_reads_differently_is_refused_with_its_line() {
        for (text, line, word) in [
            ("A=1\nnonsense", 2, "nonsense"),
            ("=x", 1, "no name"),
            ("a b=x", 1, "no name"),
            ("9A=x", 1, "no name"),
            ("A=\"x\"", 1, "quote"),
            ("A=x\\", 1, "backslash"),
            ("A=1\n\nA=2", 3, "twice"),
        ] {
            let (at, why) = parse(text).unwrap_err();
            assert_eq!(at, line, "{text}");
            assert!(why.contains(word), "{why}");
        }
    }
}
