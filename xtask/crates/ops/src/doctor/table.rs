//! Findings for people: what this machine has in one table, the nodes side by side in another, and what to do below.

use std::fmt::Write as _;

use super::{Check, HERE, Level, reach};
use crate::ui::{Cell, Style, Table, Tone};

/// What this machine has, what each thing is for, and what to do about what is not there.
pub fn of_this_machine(checks: &[Check], style: Style) -> String {
    let mut table = Table::new(&["check", "", "for", "is"]);
    let here: Vec<&Check> = checks.iter().filter(|check| check.node == HERE).collect();
    for check in &here {
        table.row(vec![
            check.id.as_str().into(),
            Cell::toned(check.level.tone(), word(check.level)),
            check.want.as_str().into(),
            first_line(&check.got).into(),
        ]);
    }
    let mut out = table.render(style);
    out.push_str(&remedies(&here, style));
    out
}

/// The nodes side by side, and what to do about what is not as it should be.
pub fn of_nodes(checks: &[Check], nodes: &[String], style: Style) -> String {
    let header: Vec<&str> = std::iter::once("check").chain(nodes.iter().map(String::as_str)).collect();
    let mut table = Table::new(&header);
    let remote: Vec<&Check> = checks.iter().filter(|check| check.node != HERE).collect();
    let mut rows: Vec<&str> = Vec::new();
    for check in &remote {
        if !rows.contains(&check.row()) {
            rows.push(check.row());
        }
    }
    for row in rows {
        let mut cells = vec![Cell::from(row)];
        for node in nodes {
            let of_cell: Vec<&Check> =
                remote.iter().copied().filter(|check| check.row() == row && check.node == *node).collect();
            cells.push(cell(&of_cell));
        }
        table.row(cells);
    }
    let mut out = table.render(style);
    out.push_str(&remedies(&remote, style));
    out
}

/// One node's findings in a row: the same said once, else each with the other node's name.
fn cell(checks: &[&Check]) -> Cell {
    let level = checks.iter().map(|check| check.level).max();
    let (Some(level), Some(first)) = (level, checks.first()) else { return "".into() };
    let text = if checks.iter().all(|check| check.got == first.got) {
        first_line(&first.got).to_owned()
    } else {
        let named = |check: &&Check| match check.id.rsplit_once('.') {
            Some((row, other)) if row.starts_with(reach::FAMILY) => format!("{other} {}", first_line(&check.got)),
            _ => first_line(&check.got).to_owned(),
        };
        checks.iter().map(named).collect::<Vec<_>>().join(", ")
    };
    Cell::toned(level.tone(), text)
}

/// What to do, worst last, where the eye ends up. The same remedy of several checks or nodes is said once.
fn remedies(checks: &[&Check], style: Style) -> String {
    let mut out = String::new();
    for level in [Level::Info, Level::Warn, Level::Fail] {
        let mut said: Vec<(&str, &str, &str, Vec<&str>)> = Vec::new();
        for check in checks.iter().filter(|check| check.level == level && !check.remedy.is_empty()) {
            let key = (check.row(), check.got.as_str(), check.remedy.as_str());
            match said.iter_mut().find(|(row, got, remedy, _)| (*row, *got, *remedy) == key) {
                Some((.., nodes)) => nodes.push(&check.node),
                None => said.push((key.0, key.1, key.2, vec![&check.node])),
            }
        }
        for (row, got, remedy, mut nodes) in said {
            nodes.dedup();
            let on = if nodes.iter().all(|node| *node == HERE) {
                String::new()
            } else {
                format!(" on {}", nodes.join(", "))
            };
            let word = match (level, on.is_empty()) {
                (Level::Fail, false) => "FAILED",
                _ => word(level),
            };
            let word = style.paint(level.tone(), word);
            // Writing to a String cannot fail.
            let _ = writeln!(out, "\n{word} {}{on}", style.paint(Tone::Bold, row));
            let _ = writeln!(out, "  got     {}", got.replace('\n', "\n          "));
            let _ = writeln!(out, "  remedy  {}", remedy.replace('\n', "\n          "));
        }
    }
    out
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Info => "note",
        Level::NotAsked => "not asked",
        Level::Warn => "warn",
        Level::Fail => "MISSING",
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, node: &str, level: Level, got: &str) -> Check {
        Check::new(id, node, level, "what it is for", got).remedy(format!("mend {got}"))
    }

    #[test]
    fn nodes_stand_side_by_side_and_remedies_below() {
        let nodes = ["a", "b"].map(str::to_owned);
        let checks = [
            check("rsync", "a", Level::Ok, "3.2.7"),
            check("rsync", "b", Level::Fail, "none"),
            check("reach.route.wg.b", "a", Level::Fail, "filtered"),
            check("reach.route.wg.c", "a", Level::Ok, "open"),
            check("reach.route.wg.a", "b", Level::NotAsked, "not asked"),
            check("reach.route.wg.c", "b", Level::NotAsked, "not asked"),
        ];
        let text = of_nodes(&checks, &nodes, Style::plain());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "check           a                   b");
        assert_eq!(lines[1], "rsync           3.2.7               none");
        assert_eq!(lines[2], "reach.route.wg  b filtered, c open  not asked");
        assert!(text.ends_with("FAILED reach.route.wg on a\n  got     filtered\n  remedy  mend filtered\n"), "{text}");
        assert!(text.contains("FAILED rsync on b"), "{text}");
    }

    #[test]
    fn this_machine_says_what_each_thing_is_for() {
        let checks = [check("zstd", HERE, Level::Warn, "not here"), check("rsync", HERE, Level::Ok, "3.2.7")];
        let text = of_this_machine(&checks, Style::plain());
        assert!(text.contains("zstd   warn  what it is for  not here\n"), "{text}");
        assert!(text.ends_with("\nwarn zstd\n  got     not here\n  remedy  mend not here\n"), "{text}");
    }
}
