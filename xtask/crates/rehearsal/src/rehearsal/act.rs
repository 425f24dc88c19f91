//! What a rehearsal consists of, as data: chapters of commands, and what each must answer.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};

/// No command of the runbook takes longer, but for those that say so.
const WITHIN: Duration = Duration::from_secs(180);

/// A part of the runbook.
#[derive(Clone, Debug)]
pub(super) struct Chapter {
    pub(super) name: &'static str,
    pub(super) acts: Vec<Act>,
}

/// Whose command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// This xtask, on the scratch clone.
    Xtask,
    /// A program at the operator's place.
    Tool,
}

/// One command, and what is expected of it.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) who: Who,
    /// Its words; `{name}` stands for what an earlier command has taught.
    words: Vec<String>,
    /// None where it is killed.
    pub(super) code: Option<i32>,
    pub(super) says: Vec<&'static str>,
    /// Names, and where in the command's JSON their values are (RFC 6901).
    pub(super) learns: Vec<(&'static str, &'static str)>,
    /// Its JSON is a verdict of chaos, for the report.
    pub(super) judges: bool,
    pub(super) within: Duration,
    /// What happens while it runs, in this order: each when the words are in a line of what it says of its progress.
    pub(super) meanwhile: Vec<(&'static str, Meanwhile)>,
}

/// What happens while a command runs.
#[derive(Clone, Debug)]
pub(super) enum Meanwhile {
    /// It is killed.
    Killed,
    /// Somebody gives another command, while the first goes on.
    Beside(Act),
}

/// What the words of a command may stand for.
pub(super) type Known = BTreeMap<String, String>;

impl Act {
    /// A verb of xtask, as the runbook has it after `cargo xtask`.
    pub(super) fn xtask(line: &str) -> Self {
        Self::new(Who::Xtask, line)
    }

    /// Any other program.
    pub(super) fn tool(line: &str) -> Self {
        Self::new(Who::Tool, line)
    }

    fn new(who: Who, line: &str) -> Self {
        let words = line.split_whitespace().map(str::to_owned).collect();
        Self {
            who,
            words,
            code: Some(0),
            says: Vec::new(),
            learns: Vec::new(),
            judges: false,
            within: WITHIN,
            meanwhile: Vec::new(),
        }
    }

    /// By another program.
    pub(super) fn with(mut self, program: &str) -> Self {
        if let Some(first) = self.words.first_mut() {
            program.clone_into(first);
        }
        self
    }

    /// It ends with this exit code instead of 0.
    pub(super) fn exits(mut self, code: i32) -> Self {
        self.code = Some(code);
        self
    }

    /// It is killed, as when the laptop dies, once it has said these words.
    pub(super) fn killed_at(mut self, words: &'static str) -> Self {
        self.code = None;
        self.meanwhile.push((words, Meanwhile::Killed));
        self
    }

    /// Once it has said these words another command is given, which ends while this one still runs.
    pub(super) fn beside(mut self, words: &'static str, other: Self) -> Self {
        self.meanwhile.push((words, Meanwhile::Beside(other)));
        self
    }

    /// These words are somewhere in what it says.
    pub(super) fn says(mut self, words: &'static str) -> Self {
        self.says.push(words);
        self
    }

    /// A value in its JSON that later commands use as `{name}`.
    pub(super) fn learns(mut self, name: &'static str, pointer: &'static str) -> Self {
        self.learns.push((name, pointer));
        self
    }

    /// What it prints is a verdict of chaos.
    pub(super) fn judges(mut self) -> Self {
        self.judges = true;
        self
    }

    /// It may take this long, in seconds.
    pub(super) fn within(mut self, seconds: u64) -> Self {
        self.within = Duration::from_secs(seconds);
        self
    }

    /// Its words as they were written, names in braces.
    #[cfg(test)]
    pub(super) fn written(&self) -> String {
        self.words.join(" ")
    }

    /// Its words, with what is known put in.
    pub(super) fn argv(&self, known: &Known) -> Result<Vec<String>> {
        self.words.iter().map(|word| fill(word, known)).collect()
    }

    /// What is wrong with an answer, if anything.
    pub(super) fn judge(&self, code: Option<i32>, said: &str, known: &Known) -> Option<String> {
        if code != self.code {
            let ended =
                |code: Option<i32>| code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
            return Some(format!("it ended with {}, not with {}", ended(code), ended(self.code)));
        }
        let wanted = self.says.iter().map(|words| fill(words, known).unwrap_or_else(|_| (*words).to_owned()));
        let missing: Vec<String> =
            wanted.filter(|words| !said.contains(words.as_str())).map(|words| format!("{words:?}")).collect();
        (!missing.is_empty()).then(|| format!("it did not say {}", missing.join(" nor ")))
    }
}

/// A text with what is known put in for each `{name}`.
pub(super) fn fill(word: &str, known: &Known) -> Result<String> {
    let Some((before, rest)) = word.split_once('{') else { return Ok(word.to_owned()) };
    let Some((name, after)) = rest.split_once('}') else { bail!("{word:?} has a brace that is not closed") };
    match known.get(name) {
        Some(value) => Ok(format!("{before}{value}{}", fill(after, known)?)),
        None => bail!("nothing has taught what {{{name}}} is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_filled_with_what_is_known() {
        let known = Known::from([("clone".to_owned(), "/c".to_owned()), ("key".to_owned(), "ab".to_owned())]);
        let act = Act::xtask("seed-admin --sign-pub {key} --out {clone}/{key}.toml");
        assert_eq!(act.argv(&known).unwrap(), ["seed-admin", "--sign-pub", "ab", "--out", "/c/ab.toml"]);
        Act::xtask("x {unheard}").argv(&known).unwrap_err();
        Act::xtask("x {key").argv(&known).unwrap_err();
    }

    #[test]
    fn an_answer_is_judged_by_code_and_words() {
        let known = Known::from([("b".to_owned(), "homer".to_owned())]);
        let act = Act::xtask("stage --diff").exits(3).says("{b} would change");
        assert_eq!(
            act.judge(Some(3), "2 would change", &known),
            Some("it did not say \"homer would change\"".to_owned())
        );
        assert_eq!(act.judge(Some(3), "homer would change", &known), None);
        assert!(act.judge(Some(0), "homer would change", &known).unwrap().contains("exit code 0"));
        assert!(act.judge(None, "", &known).unwrap().contains("a signal"));
        let killed = Act::xtask("roll --yes").killed_at("restart");
        assert_eq!(killed.judge(None, "", &known), None);
        assert!(killed.judge(Some(0), "", &known).unwrap().contains("exit code 0, not with a signal"));
    }
}
