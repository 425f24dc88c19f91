//! `membershipd register`: makes a user of whoever has a link, and the files with which he is that user.

use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use serde_json::json;

use super::api::Wait;
use super::{DONE, Output, Problem, block_on};
use crate::control::Failure;
use crate::posture::SCHEMA;
use unibus_client::api::{Client, ClientError, InviteLink, LINK_BYTES, Request};
use unibus_client::identity::Identity;
use unibus_client::talk::{People, Pins, TalkError};
use unibus_core::random;

/// Arguments of `register`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The link that an admin sent; '-' reads it from standard input, where nobody else on this machine can see it
    link: String,
    /// File to make, with your keys, mode 0600; an existing one is never overwritten. The CA of the nodes goes beside it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    output: Output,
}

/// Where one registers.
const REGISTER: &str = "/v1/register";

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let link = link(&args.link)?;
    let files = Files::of(&args.out, &link);
    let identity = files.make(&link)?;
    let client = Arc::new(args.wait.apply(Client::new(&identity, link.urls.clone(), files.ca.as_deref())?));
    let register = Request::put(REGISTER, Some(json!({ "token": link.token.reveal() })));
    let mut people = People::new(client.clone(), Pins::beside(&files.identity));
    let answer = block_on(async {
        let answer = client.ask(&register).await.map_err(|error| failed(&error, &files, args.output.json))?;
        // With which key others seal for the newcomer: without it no room could give him its messages.
        people.introduce(&identity).await.map_err(|error| unfinished(&error, args.output.json))?;
        Ok::<_, Problem>(answer)
    })??;
    let urls: Vec<String> = link.urls.iter().map(ToString::to_string).collect();
    let urls = urls.join(",");
    if args.output.json {
        let (user, changed) = (answer.get("user"), answer.get("changed"));
        let (identity, ca) = (&files.identity, &files.ca);
        let said =
            json!({ "schema": SCHEMA, "user": user, "changed": changed, "identity": identity, "ca": ca, "urls": urls });
        println!("{said}");
        return Ok(DONE);
    }
    println!(
        "You are {} now. Your keys are in {}: keep a copy, and show them to nobody.\n",
        identity.handle,
        files.identity.display()
    );
    println!("For the commands of membershipd, in this shell and in the file that your shell reads at its start:\n");
    println!("    export UNIBUS_IDENTITY={}", quoted(&files.identity));
    if let Some(ca) = &files.ca {
        println!("    export UNIBUS_CA={}", quoted(ca));
    }
    println!("    export UNIBUS_URL={urls}\n\nThen:\n");
    println!("    membershipd room list                               the rooms you are in or invited to");
    println!("    membershipd member accept ROOM                      accepts an invitation");
    println!("    membershipd room create ROOM --subject room.ROOM    makes a room of your own");
    println!("    membershipd tail ROOM                               shows what is said in a room");
    println!("    membershipd say ROOM                                says the lines that you type in it");
    Ok(DONE)
}

/// The link that was given, or that is told on standard input.
fn link(given: &str) -> anyhow::Result<InviteLink> {
    if given != "-" {
        return Ok(given.parse()?);
    }
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprint!("Paste the link, then press Enter and Ctrl-D: ");
        std::io::stderr().flush()?;
    }
    let mut text = String::new();
    // Line breaks come on top.
    let most = u64::try_from(2 * LINK_BYTES)?;
    stdin.by_ref().take(most).read_to_string(&mut text).context("cannot read the link from standard input")?;
    Ok(text.parse()?)
}

/// What somebody is on his machine.
struct Files {
    identity: PathBuf,
    /// None: the nodes are on this machine, without TLS.
    ca: Option<PathBuf>,
}

impl Files {
    fn of(out: &Path, link: &InviteLink) -> Self {
        let ca = (!link.ca.is_empty()).then(|| out.with_extension("ca.crt"));
        Self { identity: out.to_owned(), ca }
    }

    /// Makes what is missing, the CA first: an identity beside the very CA of the link is one that was made for this bus, by a
    /// run that did not get to its end, and that this one goes on with. Any other is in the way.
    fn make(&self, link: &InviteLink) -> anyhow::Result<Identity> {
        let (pem, out) = (link.ca_pem(), self.identity.display());
        let there = match &self.ca {
            Some(ca) => match std::fs::read_to_string(ca) {
                Ok(there) => Some(there),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", ca.display())),
            },
            None => Some(pem.clone()),
        };
        if self.identity.exists() {
            let ours = there.as_ref() == Some(&pem);
            ensure!(ours, "{out} exists: an identity is never overwritten; choose another --out or move the file away");
            let identity = Identity::load(&self.identity)?;
            if identity.handle != link.handle {
                bail!(
                    "{out} is the identity of {}, and the link is for {}; choose another --out",
                    identity.handle,
                    link.handle
                );
            }
            eprintln!("going on with the identity in {out}");
            return Ok(identity);
        }
        match (&self.ca, there) {
            (Some(ca), None) => {
                let mut file =
                    std::fs::File::create_new(ca).with_context(|| format!("cannot make {}", ca.display()))?;
                // It is no secret, and what reads it may be another user's program.
                file.write_all(pem.as_bytes())
                    .and_then(|()| file.set_permissions(std::fs::Permissions::from_mode(0o644)))
                    .and_then(|()| file.sync_all())
                    .with_context(|| format!("cannot write {}", ca.display()))?;
            }
            (Some(ca), Some(there)) if there != pem => {
                bail!("{} exists, and is another CA than that of the link; choose another --out", ca.display());
            }
            _ => {}
        }
        let entropy: [u8; 64] = random::bytes()?;
        let identity = Identity::from_entropy(link.handle.clone(), entropy)?;
        identity.create(&self.identity)?;
        Ok(identity)
    }
}

/// Why it did not work, and that the keys are kept: only they can complete what may have begun.
fn failed(error: &ClientError, files: &Files, json: bool) -> Problem {
    let out = files.identity.display();
    let remedy = match error {
        ClientError::Refused(_) => {
            format!("{}; your new keys stay in {out}, and go with the next link too", error.remedy())
        }
        _ => format!("run the same command again: it goes on with the keys in {out}, and repeating is safe"),
    };
    Problem::Daemon { failure: Failure { code: error.code().to_owned(), message: error.to_string(), remedy }, json }
}

/// Why the newcomer is a user for whom nobody can seal yet.
fn unfinished(error: &TalkError, json: bool) -> Problem {
    let message = format!("you are registered, but the key that others seal for is not known to them yet: {error}");
    let remedy = format!("{}; then run the same command again, which completes it", error.remedy());
    Problem::Daemon { failure: Failure { code: error.code().to_owned(), message, remedy }, json }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = absolute.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
