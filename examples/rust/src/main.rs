//! Talks in a room: `chat say ROOM TEXT…`, or `chat tail ROOM COUNT`, as the user of `UNIBUS_IDENTITY`.

use std::env;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use unibus_client::RoomId;
use unibus_client::api::NodeUrl;
use unibus_client::identity::Identity;
use unibus_client::talk::{Content, From, Heard, Listener, Pins, Sender};

#[tokio::main]
async fn main() -> Result<()> {
    let file = PathBuf::from(env::var("UNIBUS_IDENTITY").context("UNIBUS_IDENTITY names no identity file")?);
    let (identity, pins) = (Arc::new(Identity::load(&file)?), Pins::beside(&file));
    let urls = env::var("UNIBUS_URL").context("UNIBUS_URL names no node")?;
    let nodes = urls.split(',').map(str::parse).collect::<Result<Vec<NodeUrl>, _>>()?;
    let ca = env::var_os("UNIBUS_CA").map(PathBuf::from);
    let words: Vec<String> = env::args().skip(1).collect();
    let [verb, room, rest @ ..] = &words[..] else { bail!("say: chat say ROOM TEXT, or chat tail ROOM COUNT") };
    let room: RoomId = room.parse()?;
    if verb == "say" {
        let mut sender = Sender::new(identity, pins, nodes, ca, room).await?;
        println!("sent as {:?}", sender.say(&[rest.join(" ")]).await?.id);
        return Ok(());
    }
    let mut left: usize = rest.join("").parse().context("how many messages?")?;
    let listener = Listener::new(identity, pins, nodes, ca, room, From::Last(200)).await?;
    let heard = |heard: Heard| {
        if let Heard::Message(message) = heard {
            for content in &message.contents {
                match content {
                    Content::Text(text) => println!("{}: {}", message.sender, String::from_utf8_lossy(text)),
                    Content::Attachment(file) => println!("{}: [{}, {} bytes]", message.sender, file.name, file.size),
                    Content::Unknown { kind, .. } => println!("{}: [of type {kind}]", message.sender),
                }
            }
            left = left.saturating_sub(message.contents.len());
        }
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    Ok(listener.run(heard).await?)
}
