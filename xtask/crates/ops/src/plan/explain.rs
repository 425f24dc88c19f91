//! Why a step failed, in the words of the program that it was to start: systemd only says that it did not start.

use serde::Serialize;
use unibus_names::printable::one_line;

use super::Step;
use super::peer::Peer;
use crate::process::with_remedy;

/// What else is asked of a node when a step has failed there; it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Explain {
    /// Prints a program's latest lines.
    pub argv: Vec<String>,
    /// How the line begins with which the program took its leave; what follows it belongs to it.
    pub begins: String,
}

impl Explain {
    /// The last such line with what follows; none where the program said nothing of the kind.
    fn last_words(&self, said: &str) -> Option<String> {
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let at = lines.iter().rposition(|line| line.starts_with(&self.begins))?;
        Some(one_line(&lines.get(at..)?.join("; ")).into_owned())
    }
}

/// What the program said, if the step knows whom to ask and there is an answer; else the reason that is known.
pub(super) fn explained(step: &Step, peer: &mut Peer<'_>, why: &str) -> String {
    let ask = |explain: &Explain| {
        let outputs = peer.ask(std::slice::from_ref(&explain.argv), super::execute::ASK_WITHIN).ok()?;
        explain.last_words(&String::from_utf8_lossy(&outputs.first()?.stdout))
    };
    match step.explain.as_ref().and_then(ask) {
        Some(words) => words,
        None => with_remedy(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_those_of_the_last_attempt() {
        let explain = Explain { argv: Vec::new(), begins: "daemon: ".to_owned() };
        let said = "INFO starting\ndaemon: old\n  remedy: none\nINFO starting\n\ndaemon: cannot listen on x\n  remedy: end y\n";
        assert_eq!(explain.last_words(said).unwrap(), "daemon: cannot listen on x; remedy: end y");
        assert_eq!(explain.last_words("INFO daemon: is well\n"), None);
    }
}
