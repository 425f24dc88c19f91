//! One node as the executor sees it: a connection that is opened when it is needed, and again when it was lost.

use std::time::Duration;

use crate::process::{Failure, Output};
use crate::transport::{Call, Session, Transport};

/// A node, and the way there.
pub(super) struct Peer<'a> {
    node: String,
    transport: &'a dyn Transport,
    session: Option<Box<dyn Session + 'a>>,
}

impl<'a> Peer<'a> {
    /// A node that nobody has talked to yet.
    pub(super) fn new(node: &str, transport: &'a dyn Transport) -> Self {
        Self { node: node.to_owned(), transport, session: None }
    }

    /// Puts all questions in one go. They change nothing, so they are put again where the connection was lost.
    pub(super) fn ask(&mut self, questions: &[Vec<String>], within: Duration) -> Result<Vec<Output>, Failure> {
        let had_one = self.session.is_some();
        match self.ask_once(questions, within) {
            Err(Failure::Unknown(_)) if had_one => self.ask_once(questions, within),
            answers => answers,
        }
    }

    fn ask_once(&mut self, questions: &[Vec<String>], within: Duration) -> Result<Vec<Output>, Failure> {
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        match self.session()? {
            Some(session) => {
                let answers = session.ask(questions, within);
                self.forget_if(answers.is_err());
                answers
            }
            None => {
                let one = |argv: &Vec<String>| self.transport.call(&self.node, &Call::Run(argv.clone()), within);
                questions.iter().map(one).collect()
            }
        }
    }

    /// Does one thing. Files have a command of their own.
    pub(super) fn call(&mut self, call: &Call, within: Duration) -> Result<Output, Failure> {
        if let Call::Sync(_) = call {
            return self.transport.call(&self.node, call, within);
        }
        match self.session()? {
            Some(session) => {
                let output = session.call(call, within);
                self.forget_if(output.is_err());
                output
            }
            None => self.transport.call(&self.node, call, within),
        }
    }

    fn session(&mut self) -> Result<Option<&mut Box<dyn Session + 'a>>, Failure> {
        if self.session.is_none() {
            self.session = self.transport.open(&self.node)?;
        }
        Ok(self.session.as_mut())
    }

    fn forget_if(&mut self, lost: bool) {
        if lost {
            self.session = None;
        }
    }
}
