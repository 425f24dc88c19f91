//! `membershipd tail`: what is said in a room.

use std::io::IsTerminal;
use std::ops::ControlFlow;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::api::{Api, Part};
use super::{DONE, Problem, member};
use crate::blobs::BlobId;
use unibus_client::talk::{Attachment, Content, From, Heard, Listener, Message};
use unibus_core::domain::RoomId;
use unibus_crypto::FrameRefusal;
use unibus_names::printable::{continued, one_line};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The room
    room: RoomId,
    /// Begin with so many of the last messages that were kept
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=1000))]
    last: u32,
    /// Begin after this number in the history
    #[arg(long, value_name = "NUMBER", conflicts_with = "last")]
    after: Option<u64>,
    /// End after what was kept, without waiting for more
    #[arg(long)]
    no_follow: bool,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Accept the invitation to the room first
    #[arg(long)]
    accept: bool,
    #[command(flatten)]
    api: Api,
}

/// What is shown, and what was.
struct Screen<'a> {
    args: &'a Args,
    colour: bool,
    shown: usize,
    /// Kept messages from before the user came, which are told together.
    before: usize,
    losses: usize,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    if args.accept {
        member::accept(&args.room, &args.api)?;
    }
    let Part { identity, pins, nodes, ca } = args.api.part()?;
    let from = args.after.map_or(From::Last(args.last), From::After);
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut screen = Screen { args, colour, shown: 0, before: 0, losses: 0 };
    let room = args.room.clone();
    args.api.talk(async {
        let listener = Listener::new(identity, pins, nodes, ca, room, from).await?;
        let hear = |heard| screen.hear(&heard);
        if args.no_follow { listener.read_kept(hear).await } else { listener.run(hear).await }
    })?;
    screen.tell_before();
    Ok(DONE)
}

impl Screen<'_> {
    fn hear(&mut self, heard: &Heard) -> ControlFlow<()> {
        match heard {
            Heard::Message(message) => {
                self.tell_before();
                self.message(message);
            }
            Heard::Refused { why: FrameRefusal::NoKey(_), seq: Some(_), .. } if !self.args.api.json() => {
                self.before += 1
            }
            Heard::Refused { why, at_ms, seq } => {
                self.tell_before();
                self.refused(why, *at_ms, *seq);
            }
            Heard::NotKept(message) => self.not_kept(message),
            Heard::CaughtUp => {
                self.losses = 0;
                self.tell_before();
            }
            Heard::Lost(why) => {
                // A connection ends where a node is restarted, or its user gained something; that is worth a word if there is no
                // other soon.
                self.losses += 1;
                if self.losses == 2 {
                    eprintln!("membershipd: connecting again: {}", one_line(&why.to_string()));
                }
            }
        }
        let enough = self.args.count.is_some_and(|count| self.shown >= count);
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn message(&mut self, message: &Message) {
        let left = self.args.count.map_or(usize::MAX, |count| count.saturating_sub(self.shown));
        for (number, content) in message.contents.iter().enumerate().take(left) {
            self.shown += 1;
            if self.args.api.json() {
                println!("{}", as_json(message, number, content));
                continue;
            }
            let text = shown(&self.args.room, content);
            let who = format!("{}{}", message.sender, if message.signed { "" } else { "?" });
            let when = when(message.id.unix_ms());
            if self.colour {
                println!("\u{1b}[2m{when}\u{1b}[0m \u{1b}[1m{who}\u{1b}[0m {text}");
            } else {
                println!("{when} {who} {text}");
            }
        }
    }

    fn refused(&self, why: &FrameRefusal, at_ms: u64, seq: Option<u64>) {
        if self.args.api.json() {
            println!("{}", json!({ "refused": why.to_string(), "at_ms": at_ms, "seq": seq }));
        } else {
            eprintln!("membershipd: a message of {} is not shown: {why}", when(at_ms));
        }
    }

    /// It was shown when it came; those who read the history later will not see it.
    fn not_kept(&self, message: &Message) {
        if self.args.api.json() {
            println!(
                "{}",
                json!({ "not_kept": message.id.to_string(), "sender": message.sender, "at_ms": message.at_ms })
            );
        } else {
            let (sender, when) = (&message.sender, when(message.id.unix_ms()));
            eprintln!("membershipd: what {sender} said at {when} was not kept: it is not in the history");
        }
    }

    fn tell_before(&mut self) {
        let before = std::mem::take(&mut self.before);
        if before > 0 {
            eprintln!("membershipd: {before} messages that were kept are sealed with keys that are not sealed for you");
        }
    }
}

/// A message for people: a line, and lines of a text that cannot be taken for another message.
fn shown(room: &RoomId, content: &Content) -> String {
    match content {
        Content::Text(text) => {
            // What a member says must not move the cursor or colour the next line, and none of its lines may be taken for another member's.
            continued(&String::from_utf8_lossy(text))
        }
        Content::Attachment(Attachment { sha256, size, name }) => {
            let (id, size) = (BlobId::new(*sha256), bytes(*size));
            // Not the name after --out: in a shell it could be more than a name.
            format!(
                "[attachment] {} ({size}) — membershipd blob get {room} {id} --out FILE",
                one_line(&name.to_string())
            )
        }
        Content::Unknown { kind: 1, .. } => "[an attachment, but it is not announced as it has to be]".to_owned(),
        Content::Unknown { kind, .. } => {
            format!("[a message of a type that this program does not know ({kind}); a newer version may]")
        }
    }
}

/// A size for people.
fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} bytes"),
        1_000..1_000_000 => format!("{} KB", count / 1_000),
        _ => format!("{}.{} MB", count / 1_000_000, count / 100_000 % 10),
    }
}

fn as_json(message: &Message, number: usize, content: &Content) -> Value {
    let mut value = json!({
        "id": message.id.to_string(), "number": number, "sender": message.sender, "signed": message.signed,
        "epoch": message.epoch, "subject": message.subject, "sent_ms": message.id.unix_ms(), "at_ms": message.at_ms,
        "seq": message.seq,
    });
    if let Value::Object(map) = &mut value {
        map.extend(content.json());
    }
    value
}

/// A time for people, to the second.
fn when(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let text = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| unix_ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_says_what_it_is_and_cannot_be_taken_for_another() {
        let room = "hall".parse().unwrap();
        let attachment = |size| Attachment { sha256: [7; 32], size, name: "a b.pdf".parse().unwrap() };
        let fetch = format!("— membershipd blob get hall {} --out FILE", "07".repeat(32));
        for (content, line) in [
            (Content::text("a\nb\u{1b}[2J\u{202e}c"), "a\n    | b\\u001b[2J\\u202ec".to_owned()),
            (Content::Attachment(attachment(999)), format!("[attachment] a b.pdf (999 bytes) {fetch}")),
            (Content::Attachment(attachment(12_345)), format!("[attachment] a b.pdf (12 KB) {fetch}")),
            (Content::Attachment(attachment(16_777_155)), format!("[attachment] a b.pdf (16.7 MB) {fetch}")),
            (
                Content::Unknown { kind: 7, body: b"\x1b[2J".to_vec() },
                "[a message of a type that this program does not know (7); a newer version may]".to_owned(),
            ),
            (
                Content::Unknown { kind: 1, body: vec![] },
                "[an attachment, but it is not announced as it has to be]".to_owned(),
            ),
        ] {
            assert_eq!(shown(&room, &content), line);
        }
    }
}
