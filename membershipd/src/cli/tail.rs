//! `membershipd tail`: what is said in a room, for people what is new since they last looked.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::Duration;

use clap::ArgGroup;
use serde_json::{Value, json};

use super::api::{Api, Part};
use super::marks::{self, Mark, Marks};
use super::since::Since;
use super::{DONE, Problem, member, say};
use crate::blobs::BlobId;
use unibus_client::api::Client;
use unibus_client::talk::{Ahead, Attachment, Content, From, Heard, Listener, Message};
use unibus_client::words::{local, size};
use unibus_core::domain::{Handle, RoomId};
use unibus_crypto::{Epoch, FrameRefusal, MessageId};
use unibus_names::printable::{continued, one_line};

/// Messages that are shown of a room that was not shown before.
const LAST: u32 = 200;
/// Time for a look at where the history ends.
const LOOK: Duration = Duration::from_secs(3);
/// Pause between notes of what was shown when it came.
const NOTE: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("from"))]
pub(super) struct Args {
    /// The room
    room: RoomId,
    /// Begin with so many of the last messages that were kept. Without any of these: what is new since you last looked, and of a room
    /// that you see for the first time, or with --json, the last 200
    #[arg(long, value_name = "N", group = "from", value_parser = clap::value_parser!(u32).range(0..=1000))]
    last: Option<u32>,
    /// Begin with the first message that is kept
    #[arg(long, group = "from")]
    all: bool,
    /// Begin with what was said since then: 30m, 2h or 3d ago, or a time here as 2026-11-24 or '2026-11-24 14:00'
    #[arg(long, value_name = "WHEN", group = "from")]
    since: Option<Since>,
    /// Begin after this number in the history, as --json shows it
    #[arg(long, value_name = "NUMBER", group = "from")]
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
    /// Kept messages that cannot be opened, which are told together.
    closed: Closed,
    losses: usize,
    /// What was said before that is not shown.
    since_ms: Option<u64>,
    /// Where the user had read up to; none: it is not what this begins with.
    mark: Option<Mark>,
    reading: Option<Reading>,
}

/// What is noted of what is shown to people.
struct Reading {
    marks: Marks,
    /// Number of the last message of the history that was shown.
    reached: Option<u64>,
    /// Whether what comes is kept.
    keeps: bool,
    /// Shown when they came, since that was last noted.
    live: Vec<String>,
}

/// Messages of the history whose keys the user does not have.
#[derive(Debug, Default)]
struct Closed {
    count: usize,
    newest: Option<Epoch>,
    /// The oldest epoch of which a message was opened.
    opened: Option<Epoch>,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    if args.accept {
        member::accept(&args.room, &args.api)?;
    }
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    args.api.talk(async |Part { identity, pins, client }| {
        let mark = if args.is_from_mark() { args.api.marks().of(&args.room) } else { None };
        let mark = match mark.as_ref().and_then(|mark| mark.read) {
            Some(read) if went_back(&client, &args.room, read).await => None,
            Some(_) => mark,
            None => None,
        };
        let from = match (args, mark.as_ref().and_then(|mark| mark.read)) {
            (Args { after: Some(after), .. }, _) => From::After(*after),
            (Args { last: Some(last), .. }, _) => From::Last(*last),
            (args, _) if args.all || args.since.is_some() => From::After(0),
            (_, Some(read)) => From::After(read),
            (_, None) => From::Last(LAST),
        };
        let reading = (!args.api.json()).then(|| Reading {
            marks: args.api.marks(),
            reached: None,
            keeps: false,
            live: Vec::new(),
        });
        let since_ms = args.since.map(Since::unix_ms);
        let (closed, shown, losses) = (Closed::default(), 0, 0);
        let screen = RefCell::new(Screen { args, colour, shown, closed, losses, since_ms, mark, reading });
        let listener = Listener::over(client, identity, pins, args.room.clone(), from).await?;
        let hear = |heard| screen.borrow_mut().hear(&heard);
        let heard = async { if args.no_follow { listener.read_kept(hear).await } else { listener.run(hear).await } };
        let noting = async {
            loop {
                tokio::time::sleep(NOTE).await;
                screen.borrow_mut().note_live();
                if say::is_unheard() {
                    return;
                }
            }
        };
        let outcome = tokio::select! {
            outcome = heard => outcome,
            // A program that has read enough, as `head` does.
            () = say::reader_gone() => Ok(()),
            () = noting => Ok(()),
        };
        screen.into_inner().end();
        outcome
    })?;
    Ok(DONE)
}

/// Whether the history ends before `read`: it was restored from an older copy, and its numbers are others.
async fn went_back(client: &Client, room: &RoomId, read: u64) -> bool {
    let ahead = tokio::time::timeout(LOOK, Ahead::of(client, room, read)).await;
    ahead.is_ok_and(|ahead| ahead.is_ok_and(|ahead| ahead.last < read))
}

impl Args {
    /// Whether it begins with what is new to the user. Programs say where they begin.
    fn is_from_mark(&self) -> bool {
        !self.api.json() && !self.all && self.last.is_none() && self.since.is_none() && self.after.is_none()
    }
}

impl Screen<'_> {
    fn hear(&mut self, heard: &Heard) -> ControlFlow<()> {
        let is_older = |at_ms: u64, seq: Option<u64>| seq.is_some() && self.since_ms.is_some_and(|since| at_ms < since);
        match heard {
            Heard::Message(message) if is_older(message.at_ms, message.seq) => {}
            Heard::Message(message) => self.hear_message(message),
            Heard::Refused { at_ms, seq, .. } if is_older(*at_ms, *seq) => {}
            Heard::Refused { why: FrameRefusal::NoKey(epoch), seq: Some(_), .. } if !self.args.api.json() => {
                self.closed.add(*epoch);
            }
            Heard::Refused { why, at_ms, seq } => {
                self.tell_closed();
                self.refused(why, *at_ms, *seq);
            }
            Heard::NotKept(message) => self.not_kept(message),
            Heard::CaughtUp { read, awaited } => {
                self.losses = 0;
                self.tell_closed();
                self.caught_up(*read, awaited);
            }
            Heard::Lost(why) => {
                // A connection ends where a node is restarted, or its user gained something; that is worth a word if there is no
                // other soon.
                self.losses += 1;
                if self.losses == 2 {
                    eprintln!("membershipd: connecting again: {}", one_line(why));
                }
            }
        }
        let enough = self.args.count.is_some_and(|count| self.shown >= count);
        if enough || say::is_unheard() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn hear_message(&mut self, message: &Message) {
        let name = marks::name(message.id, &message.sender);
        self.closed.open(message.epoch);
        self.tell_closed();
        let was_shown = message.seq.is_some() && self.mark.as_ref().is_some_and(|mark| mark.has_shown(&name));
        if !was_shown {
            self.message(message);
        }
        if let Some(reading) = self.reading.as_mut().filter(|_| !say::is_unheard()) {
            match message.seq {
                Some(seq) => reading.reached = Some(seq),
                None if reading.keeps => reading.live.push(name),
                None => {}
            }
        }
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

    fn tell_closed(&mut self) {
        if let Some(told) = self.closed.tell(&self.args.room) {
            eprintln!("membershipd: {told}");
        }
    }

    /// All of the history was shown up to `read`, but for what came and is `awaited` there.
    fn caught_up(&mut self, read: Option<u64>, awaited: &[(MessageId, Handle)]) {
        let room = &self.args.room;
        if self.mark.take().is_some() && self.shown == 0 {
            eprintln!("membershipd: nothing new in {room}; what was said before: membershipd tail {room} --last 20");
        }
        let (Some(reading), Some(read)) = (&mut self.reading, read) else { return };
        (reading.reached, reading.keeps) = (None, true);
        reading.live.clear();
        let awaited = awaited.iter().map(|(id, sender)| marks::name(*id, sender));
        reading.marks.change(room, |mark| mark.reach(read, awaited));
    }

    /// Notes what was shown when it came.
    fn note_live(&mut self) {
        let Some(reading) = self.reading.as_mut().filter(|reading| !reading.live.is_empty()) else { return };
        let live = std::mem::take(&mut reading.live);
        reading.marks.change(&self.args.room, |mark| live.into_iter().for_each(|message| mark.show(message)));
    }

    /// Notes how far it came. Of what was asked for by its place, or as so many of the last messages, only all of it counts as read.
    fn end(mut self) {
        self.tell_closed();
        self.note_live();
        if let (Some(Reading { marks, reached: Some(reached), .. }), true) = (&self.reading, self.args.is_from_mark()) {
            marks.change(&self.args.room, |mark| mark.advance(*reached));
        }
    }
}

impl Closed {
    fn add(&mut self, epoch: Epoch) {
        self.count += 1;
        self.newest = self.newest.max(Some(epoch));
    }

    fn open(&mut self, epoch: Option<Epoch>) {
        let oldest = [self.opened, epoch].into_iter().flatten().min();
        self.opened = oldest;
    }

    /// What there is to be told of them, once.
    fn tell(&mut self, room: &RoomId) -> Option<String> {
        let (count, newest) = (std::mem::take(&mut self.count), self.newest.take()?);
        let when = match self.opened {
            Some(opened) if newest > opened => "while you were not in it",
            _ => "before you joined",
        };
        let messages = if count == 1 { "1 message was".to_owned() } else { format!("{count} messages were") };
        Some(format!("{messages} said in {room} {when}"))
    }
}

/// A message for people: a line, and lines of a text that cannot be taken for another message.
fn shown(room: &RoomId, content: &Content) -> String {
    match content {
        Content::Text(text) => {
            // What a member says must not move the cursor or colour the next line, and none of its lines may be taken for another member's.
            continued(&String::from_utf8_lossy(text))
        }
        Content::Attachment(Attachment { sha256, size: bytes, name }) => {
            let (id, size) = (BlobId::new(*sha256), size(*bytes));
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
    local(i64::try_from(unix_ms).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_opened_was_said_before_one_joined_or_while_one_was_gone() {
        let epoch = |number| Epoch::new(number).unwrap();
        let room = "hall".parse().unwrap();
        let mut closed = Closed::default();
        closed.add(epoch(1));
        assert_eq!(closed.tell(&room).unwrap(), "1 message was said in hall before you joined");
        closed.add(epoch(1));
        closed.add(epoch(2));
        closed.open(Some(epoch(3)));
        assert_eq!(closed.tell(&room).unwrap(), "2 messages were said in hall before you joined");
        assert_eq!(closed.tell(&room), None);
        closed.add(epoch(4));
        closed.open(Some(epoch(6)));
        assert_eq!(closed.tell(&room).unwrap(), "1 message was said in hall while you were not in it");
    }

    #[test]
    fn every_message_says_what_it_is_and_cannot_be_taken_for_another() {
        let room = "hall".parse().unwrap();
        let attachment = |size| Attachment { sha256: [7; 32], size, name: "a b.pdf".parse().unwrap() };
        let fetch = format!("— membershipd blob get hall {} --out FILE", "07".repeat(32));
        for (content, line) in [
            (Content::text("a\nb\u{1b}[2J\u{202e}c"), "a\n    | b\\u001b[2J\\u202ec".to_owned()),
            (Content::Attachment(attachment(999)), format!("[attachment] a b.pdf (999 bytes) {fetch}")),
            (Content::Attachment(attachment(12_345)), format!("[attachment] a b.pdf (12 KiB) {fetch}")),
            (Content::Attachment(attachment(16_777_155)), format!("[attachment] a b.pdf (15.9 MiB) {fetch}")),
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
