//! Saying much, each frame acknowledged by the keepers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_nats::{Client, ConnectOptions, Subscriber};
use futures::StreamExt;
use futures::future::try_join_all;
use serde_json::{Value, json};
use unibus_core::domain::own_subject;

use super::crowd::{Crowd, Made};
use unibus_core::{clock, random};
use unibus_crypto::{MessageId, Sealer};

/// A message: with what its frame adds, 400 bytes about.
const TEXT: &str = "An ordinary message, as long as people write them in a room for people: two or three sentences, no more. \
     It is said once in each round in every room, so that all rooms have something that can be read again later on.";
/// Frames of a user that are under way at once.
const WINDOW: usize = 32;
/// Patience with an acknowledgement.
const WAIT: Duration = Duration::from_secs(30);

/// Says `messages`, evenly in all rooms.
pub(super) async fn say(crowd: &Crowd, messages: usize) -> Result<Value> {
    let each = messages.div_ceil(crowd.rooms.len().max(1));
    let begun = Instant::now();
    let users = (0..crowd.users.len()).map(|user| async move {
        let mut speaker = Speaker::connect(crowd, user).await?;
        let rooms = crowd.rooms_of(user);
        for _ in 0..each {
            for room in &rooms {
                speaker.publish(room).await?;
                speaker.wait(WINDOW - 1).await?;
            }
        }
        speaker.wait(0).await.with_context(|| format!("user {user}"))
    });
    try_join_all(users).await?;
    let said = each * crowd.rooms.len();
    Ok(json!({ "messages": said, "seconds": begun.elapsed().as_secs_f64() }))
}

/// A user who speaks.
pub(super) struct Speaker<'a> {
    crowd: &'a Crowd,
    user: usize,
    client: Client,
    notices: Subscriber,
    sealers: HashMap<String, Sealer>,
    under_way: usize,
}

impl<'a> Speaker<'a> {
    pub(super) async fn connect(crowd: &'a Crowd, user: usize) -> Result<Self> {
        Self::connect_with(crowd, user, |options| options).await
    }

    /// The same, with what `with` adds to the options.
    pub(super) async fn connect_with(
        crowd: &'a Crowd,
        user: usize,
        with: impl Fn(ConnectOptions) -> ConnectOptions,
    ) -> Result<Self> {
        let client = crowd.connect(user, with).await?;
        let handle = &crowd.user(user)?.identity.handle;
        let notices = client.subscribe(format!("{}.kept.*", unibus_core::bus::user_events(handle.as_str()))).await?;
        client.flush().await?;
        Ok(Self { crowd, user, client, notices, sealers: HashMap::new(), under_way: 0 })
    }

    /// Says something, and waits for nothing.
    pub(super) async fn publish(&mut self, room: &Made) -> Result<()> {
        let identity = &self.crowd.user(self.user)?.identity;
        let subject = own_subject(&room.subject.parse()?, &identity.handle);
        if !self.sealers.contains_key(&subject) {
            let sealer = Sealer::new(room.id.clone(), identity.handle.clone(), Some(identity.key_pair()?), None)?;
            self.sealers.insert(subject.clone(), sealer);
        }
        let sealer = self.sealers.get(&subject).context("a sealer was just put there")?;
        let id = MessageId::new(u64::try_from(clock::unix_ms()).unwrap_or_default(), random::bytes()?);
        let frame = sealer.seal(&subject, id, &[TEXT])?;
        self.client.publish(subject, frame.into()).await?;
        self.under_way += 1;
        Ok(())
    }

    /// Waits until no more than so many frames are under way; a refusal ends it.
    pub(super) async fn wait(&mut self, left: usize) -> Result<()> {
        while self.under_way > left {
            let notice = tokio::time::timeout(WAIT, self.notices.next()).await;
            let notice = notice.with_context(|| format!("{} frames are not acknowledged", self.under_way))?;
            let notice: Value = serde_json::from_slice(&notice.context("the connection ended")?.payload)?;
            if notice.get("refused").is_some() {
                bail!("a frame was refused: {notice}");
            }
            self.under_way -= 1;
        }
        Ok(())
    }
}
