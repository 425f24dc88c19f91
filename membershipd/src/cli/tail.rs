//! `membershipd tail`: what is said in a room.

use std::io::IsTerminal;
use std::ops::ControlFlow;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::api::{Api, Part};
use super::{DONE, Problem, member};
use unibus_client::talk::{From, Heard, Listener, Message};
use unibus_core::domain::RoomId;
use unibus_crypto::FrameRefusal;

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
            Heard::CaughtUp => {
                self.losses = 0;
                self.tell_before();
            }
            Heard::Lost(why) => {
                // A connection ends every few minutes, as its admission does; that is worth a word if there is no other soon.
                self.losses += 1;
                if self.losses == 2 {
                    eprintln!("membershipd: connecting again: {why}");
                }
            }
        }
        let enough = self.args.count.is_some_and(|count| self.shown >= count);
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn message(&mut self, message: &Message) {
        let left = self.args.count.map_or(usize::MAX, |count| count.saturating_sub(self.shown));
        for (number, text) in message.texts.iter().enumerate().take(left) {
            self.shown += 1;
            if self.args.api.json() {
                println!("{}", as_json(message, number, text));
                continue;
            }
            let text = String::from_utf8_lossy(text);
            // What somebody says must not move the cursor or colour the next line.
            let text: String = text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
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

    fn tell_before(&mut self) {
        let before = std::mem::take(&mut self.before);
        if before > 0 {
            eprintln!("membershipd: {before} messages that were kept are sealed with keys that are not sealed for you");
        }
    }
}

fn as_json(message: &Message, number: usize, text: &[u8]) -> Value {
    let mut value = json!({
        "id": message.id.to_string(), "number": number, "sender": message.sender, "signed": message.signed,
        "epoch": message.epoch, "subject": message.subject, "sent_ms": message.id.unix_ms(), "at_ms": message.at_ms,
        "seq": message.seq,
    });
    if let Value::Object(map) = &mut value {
        match std::str::from_utf8(text) {
            Ok(text) => map.insert("text".to_owned(), text.into()),
            Err(_) => map.insert("base64".to_owned(), data_encoding::BASE64.encode(text).into()),
        };
    }
    value
}

/// A time for people, to the second.
fn when(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let text = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| unix_ms.to_string())
}
