//! What all verbs share that go through the API: who asks, whom, and how a refusal is said.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::marks::Marks;
use super::table::Table;
use super::{Daemon, Output, Problem, block_on, explain};
use crate::control::Failure;
use unibus_client::api::{Changed, Client, ClientError, NodeUrl, Patience, Refused, Request};
use unibus_client::identity::Identity;
use unibus_client::talk::{FrameVersion, Pins, RosterHead, Sender, TalkError};
use unibus_core::domain::RevocationOutcome;
use unibus_names::printable::one_line;

/// Who asks, and whom.
#[derive(Debug, clap::Args)]
pub(super) struct Api {
    /// Identity that signs the requests, as `membershipd identity new` makes it
    #[arg(long, env = "UNIBUS_IDENTITY", value_name = "FILE")]
    identity: Option<PathBuf>,
    /// API of a node; several are tried in turn (in the environment with commas)
    #[arg(
        long = "url",
        env = "UNIBUS_URL",
        value_name = "URL",
        value_delimiter = ',',
        default_values_t = [NodeUrl::here()]
    )]
    urls: Vec<NodeUrl>,
    /// CA that the nodes' certificates are of; needed for https
    #[arg(long, env = "UNIBUS_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    output: Output,
    /// What all steps of a command share: it knows which node answers.
    #[arg(skip)]
    part: OnceCell<Part>,
}

/// How long nodes are waited for.
#[derive(Debug, clap::Args)]
pub(super) struct Wait {
    /// Wait for so long where no node answers, or none can do it now
    #[arg(long, env = "UNIBUS_WAIT", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(0..=3600))]
    wait: u16,
}

impl Wait {
    /// `client`, so patient.
    pub(super) fn apply(&self, client: Client) -> Client {
        let told = |why: &str| eprintln!("membershipd: {}", one_line(why));
        client.patient(Patience { most: Duration::from_secs(self.wait.into()), told })
    }
}

/// Who asks for what root on a node may do, and admins through the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signing {
    /// A user, with an identity.
    User,
    /// Root, over the control socket.
    Root,
}

/// The same problem; where no daemon of this machine answers, with the way that an admin has from anywhere. A command line that names the
/// directory of a daemon means that one.
pub(super) fn or_as_admin(problem: Problem, daemon: &Daemon) -> Problem {
    match problem {
        _ if daemon.is_named() => problem,
        Problem::Daemon { failure, json } if matches!(failure.code.as_str(), "not_running" | "forbidden") => {
            let remedy = format!(
                "as an admin, name your identity file with --identity FILE; as root on a node: {}",
                failure.remedy
            );
            Problem::Daemon { failure: Failure { remedy, ..failure }, json }
        }
        other => other,
    }
}

/// How messages are written. Hidden, since a bus whose members have different releases would have members who read nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Frames {
    /// Version of the frames that are written; without it, the one that the level of the cluster asks for
    #[arg(long, hide = true, value_name = "1|2", value_parser = clap::value_parser!(u8).range(1..=2))]
    frames: Option<u8>,
}

impl Frames {
    /// The sender, writing that version. Which roster it knows is said once there is one.
    pub(super) fn set(&self, sender: Sender) -> Sender {
        match self.frames {
            None => sender,
            Some(1) => sender.writing(FrameVersion::V1),
            Some(_) => sender.writing(FrameVersion::V2 { roster: RosterHead::NONE }),
        }
    }
}

/// A user in a conversation.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Who it is.
    pub(super) identity: Arc<Identity>,
    /// What the user has seen of others.
    pub(super) pins: Pins,
    /// Asks the nodes.
    pub(super) client: Arc<Client>,
}

impl Api {
    /// Whether programs read what is said.
    pub(super) fn json(&self) -> bool {
        self.output.json
    }

    /// Whom, in this order.
    pub(super) fn urls(&self) -> &[NodeUrl] {
        &self.urls
    }

    /// The CA that their certificates are of.
    pub(super) fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Whether a verb that root on a node may carry out as well is carried out as a user: where an identity is named, unless it is the
    /// environment that names it and the command line a daemon of this machine.
    pub(super) fn signing(&self, daemon: &Daemon) -> Signing {
        let usual = || std::env::var_os("UNIBUS_IDENTITY").map(PathBuf::from);
        match &self.identity {
            Some(_) if daemon.is_named() && self.identity == usual() => Signing::Root,
            Some(_) => Signing::User,
            None => Signing::Root,
        }
    }

    /// Who asks.
    pub(super) fn identity(&self) -> anyhow::Result<Identity> {
        let file = self
            .identity
            .as_ref()
            .context("no identity given; remedy: name your identity file with --identity FILE")?;
        Identity::load(file)
    }

    /// What the user has seen of others.
    pub(super) fn pins(&self) -> Pins {
        Pins::beside(self.identity.as_deref().unwrap_or(Path::new("")))
    }

    /// What the user has read.
    pub(super) fn marks(&self) -> Marks {
        Marks::beside(self.identity.as_deref().unwrap_or(Path::new("")))
    }

    /// Who takes part in a conversation, and how.
    pub(super) fn part(&self) -> anyhow::Result<Part> {
        if let Some(part) = self.part.get() {
            return Ok(part.clone());
        }
        let identity = self.identity()?;
        let client = self.wait.apply(Client::new(&identity, self.urls.clone(), self.ca())?);
        let part = Part { identity: Arc::new(identity), pins: self.pins(), client: Arc::new(client) };
        Ok(self.part.get_or_init(|| part).clone())
    }

    /// Has `work` done, whose errors are those of a conversation.
    pub(super) fn talk<T>(&self, work: impl AsyncFnOnce(Part) -> Result<T, TalkError>) -> Result<T, Problem> {
        let part = self.part()?;
        let client = part.client.clone();
        block_on(async {
            match work(part).await {
                Ok(done) => Ok(done),
                Err(error) => Err(self.talk_failed(&client, &error).await),
            }
        })?
    }

    /// A conversation that does not go on, as it is told.
    pub(super) async fn talk_failed(&self, client: &Client, error: &TalkError) -> Problem {
        let failure = Failure::new(error.code(), &error.to_string(), &error.remedy());
        self.failed(client, error.refusal(), failure).await
    }

    /// What was seen of others is in the way.
    pub(super) fn pins_failed(&self, error: &TalkError) -> Problem {
        Problem::Daemon { failure: Failure::new(error.code(), &error.to_string(), &error.remedy()), json: self.json() }
    }

    async fn failed(&self, client: &Client, refused: Option<&Refused>, failure: Failure) -> Problem {
        let message = match refused {
            Some(refused) if refused.is_no_such_room() => explain::refusal(client, refused).await,
            _ => failure.message,
        };
        Problem::Daemon { failure: Failure { message, ..failure }, json: self.json() }
    }

    /// Has `work` done with a client.
    pub(super) fn run<T>(&self, work: impl AsyncFnOnce(&Client) -> Result<T, ClientError>) -> Result<T, Problem> {
        let client = self.part()?.client;
        block_on(async {
            match work(&client).await {
                Ok(done) => Ok(done),
                Err(error) => Err(self.request_failed(&client, &error).await),
            }
        })?
    }

    /// A request that was not answered as hoped, as it is told.
    pub(super) async fn request_failed(&self, client: &Client, error: &ClientError) -> Problem {
        let failure = Failure::new(error.code(), &error.to_string(), &error.remedy());
        let refused = if let ClientError::Refused(refused) = error { Some(&**refused) } else { None };
        self.failed(client, refused, failure).await
    }

    /// Prints a list: as it is, or a table of it; `none` is said of an empty one.
    pub(super) fn print_list<T: DeserializeOwned>(
        &self,
        path: &str,
        field: &str,
        none: &str,
        table: fn(&[T]) -> anyhow::Result<Table>,
    ) -> Result<(), Problem> {
        let entries = self.run(async |client| client.list(path, field).await)?;
        self.print_entries(entries, field, none, table)
    }

    /// Prints a list that was had in another way.
    pub(super) fn print_entries<T: DeserializeOwned>(
        &self,
        entries: Vec<Value>,
        field: &str,
        none: &str,
        table: fn(&[T]) -> anyhow::Result<Table>,
    ) -> Result<(), Problem> {
        if self.json() {
            println!("{}", json!({ field: entries }));
        } else if entries.is_empty() {
            println!("{none}");
        } else {
            let entries: Vec<T> = serde_json::from_value(Value::Array(entries)).map_err(anyhow::Error::from)?;
            print!("{}", table(&entries)?);
        }
        Ok(())
    }

    /// Makes a change, and prints what it came to.
    pub(super) fn change<T: DeserializeOwned>(
        &self,
        request: &Request,
        table: fn(&[T]) -> anyhow::Result<Table>,
    ) -> Result<(), Problem> {
        let answer = self.run(async |client| client.ask(request).await)?;
        Ok(self.print_change(answer, table)?)
    }

    /// Prints what a change came to: the answer as it is, or a table of the record and how it was made safe.
    pub(super) fn print_change<T: DeserializeOwned>(
        &self,
        answer: Value,
        table: fn(&[T]) -> anyhow::Result<Table>,
    ) -> anyhow::Result<()> {
        if self.json() {
            println!("{answer}");
            return Ok(());
        }
        let Changed { record, changed, fence, waited_ms }: Changed<T> = serde_json::from_value(answer)?;
        print!("{}", table(&[record])?);
        if !changed {
            println!("nothing to do: it was so already");
        }
        if let Some(fence) = fence {
            let how = match fence {
                RevocationOutcome::Acknowledged => "every node has said so",
                RevocationOutcome::WaitedOut => "so much time has passed",
            };
            println!("no node honours what was taken away: {how}, after {waited_ms} ms");
        }
        Ok(())
    }
}
