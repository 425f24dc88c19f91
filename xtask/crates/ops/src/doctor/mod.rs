//! What must be there before a deployment can succeed, on this machine and on every node: looked at, never changed.

mod clock;
mod clone;
mod here;
mod judge;
mod login;
mod nodes;
mod question;
mod reach;
mod table;

use serde::Serialize;

pub use here::this_machine;
pub use nodes::{all_nodes, ask_all};
pub use table::{of_nodes, of_this_machine};

use crate::ui::Tone;

const SCHEMA: u32 = 1;
/// Stands for this machine where a check has a node.
pub const HERE: &str = "here";

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing is wrong.
    Info,
    /// Nobody could be asked: something else failed first.
    NotAsked,
    /// A deployment succeeds without it.
    Warn,
    /// A deployment needs it.
    Fail,
}

impl Level {
    fn tone(self) -> Tone {
        match self {
            Self::Ok => Tone::Good,
            Self::Info => Tone::Plain,
            Self::NotAsked => Tone::Dim,
            Self::Warn => Tone::Warn,
            Self::Fail => Tone::Bad,
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub(crate) id: String,
    /// A node's name, or [`HERE`].
    pub node: String,
    /// Whether nothing has to be done about it.
    pub ok: bool,
    pub(crate) level: Level,
    /// What it should be; on this machine, what it is for.
    pub want: String,
    pub(crate) got: String,
    /// What to do; empty when nothing is to be done.
    pub remedy: String,
}

impl Check {
    fn new(id: impl Into<String>, node: &str, level: Level, want: impl Into<String>, got: impl Into<String>) -> Self {
        let ok = matches!(level, Level::Ok | Level::Info);
        let (id, want, got) = (id.into(), want.into(), got.into());
        Self { id, node: node.to_owned(), ok, level, want, got, remedy: String::new() }
    }

    /// The same with what to do about it, unless it is as it should be.
    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        if self.level != Level::Ok {
            self.remedy = remedy.into();
        }
        self
    }
}

#[derive(Serialize)]
struct Verdict<'a> {
    schema: u32,
    ok: bool,
    checks: &'a [Check],
}

/// Whether nothing is missing that a deployment needs. What nobody could ask is no proof.
pub fn fit(checks: &[Check]) -> bool {
    !checks.is_empty() && checks.iter().all(|check| !matches!(check.level, Level::Fail | Level::NotAsked))
}

/// Everything as JSON, on one line.
pub fn json(checks: &[Check]) -> serde_json::Result<String> {
    serde_json::to_string(&Verdict { schema: SCHEMA, ok: fit(checks), checks })
}

/// What fails, in one line: each check with its nodes.
pub fn summary(checks: &[Check]) -> String {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for check in checks.iter().filter(|check| check.level == Level::Fail) {
        let (row, node) = (check.row(), check.node.as_str());
        match found.iter_mut().find(|(known, _)| *known == row) {
            Some((_, nodes)) if nodes.contains(&node) => {}
            Some((_, nodes)) => nodes.push(node),
            None => found.push((row, vec![node])),
        }
    }
    found.iter().map(|(row, nodes)| format!("{row} ({})", nodes.join(", "))).collect::<Vec<_>>().join(", ")
}

impl Check {
    /// The table's row that this check belongs to: those from one node to each other share theirs.
    fn row(&self) -> &str {
        if self.id.starts_with(reach::FAMILY) {
            self.id.rsplit_once('.').map_or(&self.id, |(row, _)| row)
        } else {
            &self.id
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(level: Level) -> Check {
        Check::new("reach.route.wg.homer", "magnus", level, "open", "filtered").remedy("do")
    }

    #[test]
    fn warnings_do_not_stop_a_deployment_and_the_unknown_does() {
        assert!(fit(&[check(Level::Ok), check(Level::Info), check(Level::Warn)]));
        assert!(!fit(&[check(Level::Ok), check(Level::Fail)]));
        assert!(!fit(&[check(Level::NotAsked)]));
        assert!(!fit(&[]), "no checks prove nothing");
    }

    #[test]
    fn what_is_well_needs_no_remedy() {
        assert_eq!(check(Level::Ok).remedy, "");
        assert_eq!(check(Level::Fail).remedy, "do");
        assert_eq!(summary(&[check(Level::Fail), check(Level::Fail), check(Level::Warn)]), "reach.route.wg (magnus)");
    }

    #[test]
    fn the_json_is_the_contract() {
        let said: serde_json::Value = serde_json::from_str(&json(&[check(Level::NotAsked)]).unwrap()).unwrap();
        let wanted = serde_json::json!({ "schema": 1, "ok": false, "checks": [{
            "id": "reach.route.wg.homer", "node": "magnus", "ok": false, "level": "not_asked", "want": "open",
            "got": "filtered", "remedy": "do" }] });
        assert_eq!(said, wanted);
    }
}
