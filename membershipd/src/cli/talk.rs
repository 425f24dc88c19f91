//! `membershipd say`: a user says something in a room.

use std::io::{BufRead, IsTerminal};

use anyhow::Context;
use serde_json::json;
use tokio::sync::mpsc;

use super::api::{Api, Frames, Part};
use super::{DONE, Problem, member};
use unibus_client::talk::{Sender, Sent, TalkError};
use unibus_core::domain::RoomId;

/// Lines that are sent in one message's frame, if so many are waiting.
const TOGETHER: usize = 64;
/// Bytes of them, about: a long line goes alone.
const TOGETHER_BYTES: usize = 64 << 10;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The room
    room: RoomId,
    /// What to say; without it every line of standard input is said. Other users of this machine can read arguments
    text: Vec<String>,
    /// Accept the invitation to the room first
    #[arg(long)]
    accept: bool,
    #[command(flatten)]
    frames: Frames,
    #[command(flatten)]
    api: Api,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    if args.accept {
        member::accept(&args.room, &args.api)?;
    }
    let room = args.room.clone();
    args.api.talk(async |Part { identity, pins, client }| {
        let mut sender = args.frames.set(Sender::over(client, identity, pins, room).await?);
        if !args.text.is_empty() {
            return tell(args, sender.say(&[args.text.join(" ")]).await?, 1);
        }
        let mut lines = lines().map_err(TalkError::Identity)?;
        let mut waiting = Vec::new();
        while let Some(first) = lines.recv().await {
            let mut bytes = first.len();
            waiting.push(first);
            while waiting.len() < TOGETHER && bytes < TOGETHER_BYTES {
                let Ok(line) = lines.try_recv() else { break };
                bytes += line.len();
                waiting.push(line);
            }
            tell(args, sender.say(&waiting).await?, waiting.len())?;
            waiting.clear();
        }
        Ok(())
    })?;
    Ok(DONE)
}

/// Says what became of it. A person sees their own line; that it went well needs no word. Where it is kept in the history is for
/// programs; what one has said oneself is not new.
fn tell(args: &Args, sent: Sent, messages: usize) -> Result<(), TalkError> {
    if args.api.json() {
        println!(
            "{}",
            json!({ "id": sent.id.to_string(), "epoch": sent.epoch, "seq": sent.seq, "messages": messages })
        );
        return Ok(());
    }
    if let Some(seq) = sent.seq {
        args.api.marks().change(&args.room, |mark| mark.say(seq));
    }
    if !args.text.is_empty() {
        println!("{}", if sent.seq.is_some() { "said, and kept" } else { "said; the room keeps nothing" });
    }
    Ok(())
}

/// The lines of standard input, read by a thread of their own: that cannot be interrupted.
fn lines() -> anyhow::Result<mpsc::Receiver<String>> {
    if std::io::stdin().is_terminal() {
        eprintln!("what you type is said, line by line; end with Ctrl-D");
    }
    let (into, lines) = mpsc::channel(2 * TOGETHER);
    let read = move || {
        for line in std::io::stdin().lock().lines() {
            match line {
                Ok(line) if !line.is_empty() => {
                    if into.blocking_send(line).is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    eprintln!("membershipd: standard input is not text: {error}");
                    return;
                }
            }
        }
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(read).context("starting a thread")?;
    Ok(lines)
}
