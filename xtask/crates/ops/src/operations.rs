//! The log of operations, merged over the nodes that keep it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::plan::{Note, read_notes};
use crate::target::Target;
use crate::ui::{Cell, Style, Table};

use std::thread;
use std::time::Duration;

/// A file of a MiB at most.
const WITHIN: Duration = Duration::from_secs(30);

/// A run, as the nodes that noted it say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// What is noted of it, its end included if any node has that.
    #[serde(flatten)]
    pub note: Note,
    /// What came of it: done, failed, or unknown, as long as no end is noted.
    pub result: &'static str,
    /// The nodes that have noted it.
    pub nodes: Vec<String>,
}

/// Asks every node; what happened last comes last. Second: the nodes that could not be read, and why.
pub fn read(target: &Target) -> (Vec<Operation>, Vec<(String, String)>) {
    let argv = read_notes(&target.operations_log());
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let (argv, transport) = (argv.as_slice(), target.transport.as_ref());
    let asked: Vec<(String, Result<String, String>)> = thread::scope(|scope| {
        let asking = target.nodes().iter().map(|node| {
            scope.spawn(move || {
                let said = match transport.run(node, argv, b"", WITHIN) {
                    Ok(output) if output.ok() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
                    Ok(output) => Err(output.reason()),
                    Err(failure) => Err(failure.why()),
                };
                (node.clone(), said)
            })
        });
        let asking: Vec<_> = asking.collect();
        asking.into_iter().filter_map(|one| one.join().ok()).collect()
    });
    let (mut logs, mut silent) = (Vec::new(), Vec::new());
    for (node, said) in asked {
        match said {
            Ok(log) => logs.push((node, log)),
            Err(why) => silent.push((node, why)),
        }
    }
    (merged(&logs), silent)
}

/// Each run once, by when it began.
fn merged(logs: &[(String, String)]) -> Vec<Operation> {
    let mut runs: BTreeMap<(String, String), Operation> = BTreeMap::new();
    for (node, log) in logs {
        for note in log.lines().filter_map(Note::read) {
            let key = (note.since.clone(), note.token.clone());
            let run = runs.entry(key).or_insert_with(|| Operation {
                note: note.clone(),
                result: "unknown",
                nodes: Vec::new(),
            });
            if !run.nodes.contains(node) {
                run.nodes.push(node.clone());
            }
            if note.end.is_some() {
                run.note = note;
            }
        }
    }
    let result = |note: &Note| match &note.end {
        None => "unknown",
        Some(end) if end.done => "done",
        Some(_) => "failed",
    };
    runs.into_values().map(|run| Operation { result: result(&run.note), ..run }).collect()
}

/// For people.
pub fn table(operations: &[Operation], style: Style) -> String {
    let mut table = Table::new(&["began (UTC)", "by", "what", "result", "commit", "noted by"]);
    for Operation { note, result, nodes } in operations {
        let what = match &note.part_of {
            Some(part_of) => format!("{} (of {part_of})", note.verb),
            None => note.verb.clone(),
        };
        let told = match &note.end {
            None => "unknown: it goes on, or was killed".to_owned(),
            Some(end) => match &end.why {
                Some(why) => format!("failed at {}: {why}", end.until),
                None => format!("done at {}, {} changed", end.until, end.changed),
            },
        };
        table.row(vec![
            note.since.as_str().into(),
            note.holder.as_str().into(),
            what.into(),
            Cell::judged(*result == "done", told),
            note.commit.as_deref().unwrap_or("-").into(),
            nodes.join(" ").into(),
        ]);
    }
    table.render(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(token: &str, since: &str, end: &str) -> String {
        format!(
            r#"{{"schema":1,"token":"{token}","holder":"anna@laptop","pid":7,"verb":"roll","clone":null,"commit":"abc","since":"{since}"{end}}}"#
        )
    }

    #[test]
    fn run_is_known_by_whichever_node_noted_most_of_it() {
        let end = r#","end":{"until":"2026-11-30T00:02:00Z","done":true,"changed":3}"#;
        let failed = r#","end":{"until":"2026-11-30T00:09:00Z","done":false,"changed":0,"why":"a: restart: no"}"#;
        let (early, late) = ("2026-11-30T00:01:00Z", "2026-11-30T00:05:00Z");
        let a = [line("one", early, ""), line("two", late, "")].join("\n");
        let b = [line("one", early, ""), "garbage".to_owned(), line("one", early, end), line("three", late, failed)];
        let runs = merged(&[("a".to_owned(), a), ("b".to_owned(), b.join("\n"))]);
        let short: Vec<_> = runs.iter().map(|run| (run.note.token.as_str(), run.result, run.nodes.join(" "))).collect();
        let wanted = [("one", "done", "a b"), ("three", "failed", "b"), ("two", "unknown", "a")];
        assert_eq!(short, wanted.map(|(token, result, nodes)| (token, result, nodes.to_owned())));
        let shown = table(&runs, Style::plain());
        assert!(
            shown.contains("3 changed") && shown.contains("a: restart: no") && shown.contains("was killed"),
            "{shown}"
        );
    }
}
