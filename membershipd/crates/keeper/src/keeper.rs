//! The keeper of one node: hears what members say, and for the shards that fall to this node checks, appends and answers.

use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

use super::access::Access;
use super::append::{Appended, append};
use super::care::{self, Care};
use super::heard::{Heard, Waiting};
use super::judge::{Place, Terms, authentic, entitled, place};
use super::listener::{Listener, Message};
use super::notice;
use super::shard::Shard;
use super::streams;
use super::unplaced::Unplaced;
use unibus_api_types::notice::{Notice, Outcome, Reason};
use unibus_core::domain::{FeatureLevel, Handle, RoomId, Space};
use unibus_crypto::FrameId;
use unibus_store::link::{Engine, Link};

/// Frames of a shard that are appended at once, and their bytes, about.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 << 20;
/// Frames that are checked where they are; more of them go to another thread.
const FEW: usize = 4;
/// How often a shard is looked at where nothing tells of it.
const TICK: Duration = Duration::from_millis(250);
/// How often a shard is looked after in which nothing was said.
const TEND: Duration = Duration::from_secs(1);
/// How often it is asked which rooms are still to be carried over.
const ASK_UNSETTLED: Duration = Duration::from_secs(30);
/// Pause after nothing could be appended.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause before the connection that broke is made again.
const RECONNECT: Duration = Duration::from_millis(100);

/// The keeper of one node, for as long as its daemon lives.
#[derive(Debug)]
pub struct Keeper<A> {
    node: String,
    access: A,
    waiting: Mutex<Waiting>,
    unplaced: Mutex<Unplaced>,
    /// Told when something waits in a shard.
    wake: Vec<Notify>,
}

impl<A: Access> Keeper<A> {
    /// The keeper of `node`.
    pub fn new(node: impl Into<String>, access: A) -> Arc<Self> {
        let wake = Shard::all().map(|_| Notify::new()).collect();
        Arc::new(Self {
            node: node.into(),
            access,
            waiting: Mutex::new(Waiting::new()),
            unplaced: Mutex::default(),
            wake,
        })
    }

    /// Begins to hear what members say. A node does so before it admits one.
    ///
    /// # Errors
    /// As those of [`Listener::connect`].
    pub async fn listen(&self, engine: &Engine<'_>) -> Result<Listener> {
        // A member who speaks where things are kept names itself with the last token of the subject: there are three at least.
        let spaces = Space::ALL.iter().map(|space| format!("{space}.*.>"));
        let subjects: Vec<String> = spaces.chain([notice::all_subjects()]).collect();
        Listener::connect(engine, &subjects).await
    }

    /// Keeps what is said, for as long as the session lasts; `listener` is the first connection.
    pub async fn run(self: &Arc<Self>, link: &Arc<Link>, engine: &Engine<'_>, listener: Listener) -> Infallible {
        // They end with this future.
        let mut tasks = JoinSet::new();
        for shard in Shard::all() {
            let (keeper, link) = (self.clone(), link.clone());
            tasks.spawn(async move { keeper.serve(&link, shard).await });
        }
        let (keeper, linked) = (self.clone(), link.clone());
        tasks.spawn(async move { keeper.place_later(&linked).await });
        let mut listener = Some(listener);
        loop {
            match listener.take() {
                Some(mut listener) => {
                    let (keeper, link) = (self.clone(), link.clone());
                    // A task of its own: nothing else may keep it from hearing.
                    let hearing = AbortOnDropHandle::new(tokio::spawn(async move {
                        let Err(error) = keeper.hear(&link, &mut listener).await;
                        tracing::warn!("hearing what members say begins again: {error:#}");
                    }));
                    let _ = hearing.await;
                }
                None => tokio::time::sleep(RECONNECT).await,
            }
            match self.listen(engine).await {
                Ok(made) => listener = Some(made),
                Err(error) => tracing::debug!("not hearing what members say yet: {error:#}"),
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Each change of it is whole, whatever panicked.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn hear(&self, link: &Link, listener: &mut Listener) -> Result<Infallible> {
        loop {
            let message = listener.next().await?;
            if notice::is_notice(&message.subject) {
                if let Ok(Notice { id, outcome: Outcome::Kept { .. } }) = serde_json::from_slice(&message.payload) {
                    self.waiting().done(id);
                }
                continue;
            }
            // What a sender said before its room was known comes before what it says now.
            self.place_again(link);
            if self.take(link, Instant::now(), &message) {
                self.unplaced().hear(Instant::now(), message);
            }
        }
    }

    /// Takes in what is said where it is kept. Says whether the room is not known yet.
    fn take(&self, link: &Link, at: Instant, message: &Message) -> bool {
        let Message { subject, payload } = message;
        let (room, sender) = match self.access.view(|view| place(subject, view)) {
            Place::Kept(room, sender) => (room, sender),
            Place::Elsewhere => return false,
            Place::Unknown => return true,
        };
        let (id, shard) = (FrameId::of(&room, subject, payload), Shard::of(&room));
        let (to, of) = (sender.clone(), room.clone());
        let heard = Heard { at, room, subject: subject.clone(), sender, frame: payload.clone(), id };
        let taken = self.waiting().hear(heard);
        match taken {
            Ok(()) => self.wake(shard),
            // The others heard it, too, and say nothing.
            Err(reason) if self.appends(shard) => tell(link, &to, &of, id, Outcome::refused(reason)),
            Err(_) => {}
        }
        false
    }

    /// Takes in what was said before this node knew of its room.
    async fn place_later(&self, link: &Link) -> Infallible {
        loop {
            tokio::time::sleep(PAUSE).await;
            self.place_again(link);
        }
    }

    fn place_again(&self, link: &Link) {
        let mut unplaced = self.unplaced();
        if !unplaced.is_empty() {
            unplaced.again(self.access.proven(), |at, message| self.take(link, at, message));
        }
    }

    fn unplaced(&self) -> MutexGuard<'_, Unplaced> {
        self.unplaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, shard: Shard) {
        if let Some(wake) = self.wake.get(shard.index()) {
            wake.notify_one();
        }
    }

    /// Whether the shard falls to this node, as far as it knows, and it may decide.
    fn appends(&self, shard: Shard) -> bool {
        let now = Instant::now();
        let present = self.access.present(now);
        self.access.lease_valid(now) && shard.appender(present.iter().map(String::as_str)) == Some(&self.node)
    }

    /// Sees to one shard.
    async fn serve(&self, link: &Arc<Link>, shard: Shard) -> Infallible {
        let mut held: Option<Held> = None;
        loop {
            if let Some(wake) = self.wake.get(shard.index()) {
                let _ = tokio::time::timeout(TICK, wake.notified()).await;
            }
            if !self.appends(shard) {
                held = None;
                // Those who append tell the sender.
                self.waiting().expired(shard, Instant::now());
                continue;
            }
            let held = held.get_or_insert_with(|| Held::begin(link, shard));
            while self.waiting().has(shard) && self.appends(shard) {
                if !self.round(link, shard, held).await {
                    tokio::time::sleep(PAUSE).await;
                }
                let late = self.waiting().expired(shard, Instant::now());
                for Heard { sender, room, id, .. } in late {
                    tell(link, &sender, &room, id, Outcome::refused(Reason::Unavailable));
                }
            }
            if held.tended.is_none_or(|tended| tended.elapsed() >= TEND) && self.appends(shard) {
                held.tended = Some(Instant::now());
                self.tend(link, held, &[]).await;
                self.settle_next(link, shard, held).await;
            }
        }
    }

    /// Settles a room in which nothing was said meanwhile.
    async fn settle_next(&self, link: &Link, shard: Shard, held: &mut Held) {
        let keeps = self.access.view(|view| view.level() >= FeatureLevel::Kept);
        if keeps && held.unsettled.is_empty() && held.asked.is_none_or(|asked| asked.elapsed() >= ASK_UNSETTLED) {
            held.asked = Some(Instant::now());
            match self.access.unsettled(link).await {
                Ok(rooms) => held.unsettled = rooms.into_iter().filter(|room| Shard::of(room) == shard).collect(),
                Err(why) => tracing::debug!("which rooms are to be carried over is not known yet: {why}"),
            }
        }
        let Some(room) = held.unsettled.pop() else { return };
        // So the next one has not to wait for the next look.
        held.tended = None;
        held.last = None;
        held.care.compare_soon();
        if let Err(why) = self.access.settled(link, &room).await {
            tracing::warn!(%room, "what the room said is not carried over yet: {why}");
        }
    }

    async fn tend(&self, link: &Arc<Link>, held: &mut Held, touched: &[RoomId]) {
        let server = self.access.keeping();
        held.care.tend(link, touched, |room| self.access.view(|view| care::Terms::of(room, view, server))).await;
    }

    /// Checks and appends the oldest frames. Says whether anything came of it.
    async fn round(&self, link: &Arc<Link>, shard: Shard, held: &mut Held) -> bool {
        let heard = self.waiting().oldest(shard, BATCH, BATCH_BYTES);
        let heard = self.settled(link, heard, held).await;
        let (keep, mut progress) = self.checked(link, heard).await;
        if keep.is_empty() {
            return progress;
        }
        let behind = match held.last {
            Some(last) => last,
            None => match streams::last(link, shard).await {
                Ok(found) => found,
                Err(asked) => {
                    tracing::debug!(stream = shard.stream(), "nothing can be appended now: {asked}");
                    return false;
                }
            },
        };
        let mut reached = behind;
        held.last = None;
        let (mut whole, mut touched) = (true, BTreeSet::new());
        for (heard, appended) in keep.iter().zip(append(link, shard, behind, &keep).await) {
            match appended {
                Appended::Kept { sequence, before } => {
                    progress = true;
                    reached = reached.max(sequence);
                    whole &= !before;
                    self.waiting().done(heard.id);
                    tell(link, &heard.sender, &heard.room, heard.id, Outcome::Kept { seq: sequence });
                    held.care.add(&heard.room, &heard.sender, sequence, heard.frame.len());
                    touched.insert(heard.room.clone());
                }
                Appended::Again => whole = false,
            }
        }
        // What went as foreseen needs no question.
        held.last = whole.then_some(reached);
        self.tend(link, held, &touched.into_iter().collect::<Vec<_>>()).await;
        progress
    }

    /// Those of the frames whose rooms have all that was said before in the shard.
    async fn settled(&self, link: &Link, heard: Vec<Heard>, held: &mut Held) -> Vec<Heard> {
        let rooms: BTreeSet<RoomId> =
            heard.iter().map(|heard| &heard.room).filter(|room| !held.settled.contains(*room)).cloned().collect();
        for room in rooms {
            held.care.compare_soon();
            match self.access.settled(link, &room).await {
                Ok(()) => {
                    // What was carried in is not foreseen.
                    held.last = None;
                    held.settled.insert(room);
                }
                Err(why) => tracing::warn!(%room, "what was said is not kept yet: {why}"),
            }
        }
        heard.into_iter().filter(|heard| held.settled.contains(&heard.room)).collect()
    }

    /// Those of the frames that are to be kept now, in order; the senders of those that are not to be kept at all are told. Of a
    /// sender about whom this node does not know enough yet nothing is kept, so that what it said stays in its order.
    async fn checked(&self, link: &Link, heard: Vec<Heard>) -> (Vec<Heard>, bool) {
        let proven = self.access.proven();
        let entitled: Vec<_> =
            self.access.view(|view| heard.iter().map(|heard| entitled(heard, view, proven)).collect());
        let judged = decided(heard.into_iter().zip(entitled));
        let checked =
            if judged.len() <= FEW { judged.into_iter().map(check).collect() } else { check_all(judged).await };
        let mut keep = Vec::new();
        let mut progress = false;
        for (heard, verdict) in checked {
            match verdict {
                Ok(()) => keep.push(heard),
                Err(reason) => {
                    progress = true;
                    self.waiting().done(heard.id);
                    tell(link, &heard.sender, &heard.room, heard.id, Outcome::refused(reason));
                }
            }
        }
        (keep, progress)
    }
}

/// What a node knows of a shard for as long as it appends to it.
struct Held {
    care: Care,
    /// Rooms whose earlier messages are known to be in the shard.
    settled: HashSet<RoomId>,
    /// The last sequence of the shard; none: it is to be asked for.
    last: Option<u64>,
    tended: Option<Instant>,
    /// Rooms of the shard that are to be settled, and when they were asked for.
    unsettled: Vec<RoomId>,
    asked: Option<Instant>,
}

impl Held {
    fn begin(link: &Arc<Link>, shard: Shard) -> Self {
        let care = Care::begin(link, shard);
        Self { care, settled: HashSet::new(), last: None, tended: None, unsettled: Vec::new(), asked: None }
    }
}

type Judged = (Heard, Result<Terms, Reason>);
type Checked = (Heard, Result<(), Reason>);

/// Those of the frames of which it is known whether they are to be kept. Behind one of which it is not, nothing is that its sender said
/// in the room: it stays in its order.
fn decided(frames: impl Iterator<Item = (Heard, Option<Result<Terms, Reason>>)>) -> Vec<Judged> {
    let mut later: Vec<(RoomId, Handle)> = Vec::new();
    let mut judged = Vec::new();
    for (heard, entitled) in frames {
        let of = (heard.room.clone(), heard.sender.clone());
        match entitled {
            Some(terms) if !later.contains(&of) => judged.push((heard, terms)),
            _ => later.push(of),
        }
    }
    judged
}

fn check((heard, terms): Judged) -> Checked {
    let verdict = terms.and_then(|terms| authentic(&heard, &terms));
    (heard, verdict)
}

async fn check_all(judged: Vec<Judged>) -> Vec<Checked> {
    // It only fails where the check panics; nothing was decided then, and the frames wait on.
    spawn_blocking(|| judged.into_iter().map(check).collect()).await.unwrap_or_default()
}

/// Tells `sender` what came of its frame. That it is not told is no harm: silence means unknown.
fn tell(link: &Link, sender: &Handle, room: &RoomId, id: FrameId, outcome: Outcome) {
    let Ok(body) = serde_json::to_vec(&Notice { id, outcome }) else { return };
    let (bus, subject) = (link.bus.clone(), notice::subject(sender, room));
    tokio::spawn(async move { bus.publish(subject, body.into()).await });
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use unibus_core::domain::Keeping;
    use unibus_core::view::View;

    use super::*;

    /// A node of three, with a lease or without.
    struct Node(bool);

    const NODES: [&str; 3] = ["magnus", "homer", "datardos"];

    impl Access for Node {
        fn view<T>(&self, read: impl FnOnce(&View) -> T) -> T {
            read(&View::default())
        }

        fn lease_valid(&self, _: Instant) -> bool {
            self.0
        }

        fn proven(&self) -> Option<Instant> {
            None
        }

        fn settled<'a>(&'a self, _: &'a Link, _: &'a RoomId) -> BoxFuture<'a, Result<(), String>> {
            async { Ok(()) }.boxed()
        }

        fn unsettled<'a>(&'a self, _: &'a Link) -> BoxFuture<'a, Result<Vec<RoomId>, String>> {
            async { Ok(Vec::new()) }.boxed()
        }

        fn keeping(&self) -> Keeping {
            Keeping::DEFAULT
        }

        fn present(&self, _: Instant) -> Vec<String> {
            NODES.map(str::to_owned).to_vec()
        }
    }

    #[test]
    fn one_node_appends_to_a_shard_and_only_with_a_lease() {
        let keepers = NODES.map(|name| Keeper::new(name, Node(true)));
        for shard in Shard::all() {
            assert_eq!(keepers.iter().filter(|keeper| keeper.appends(shard)).count(), 1, "{shard:?}");
            assert!(NODES.iter().all(|name| !Keeper::new(*name, Node(false)).appends(shard)), "{shard:?}");
        }
    }

    #[test]
    fn behind_a_frame_that_is_not_decided_its_sender_waits_and_no_other() {
        let heard = |sender: &str, room: &str, text: &'static str| {
            let (room, frame): (RoomId, _) = (room.parse().unwrap(), Bytes::from_static(text.as_bytes()));
            let subject = format!("room.{room}.{sender}");
            let id = FrameId::of(&room, &subject, &frame);
            Heard { at: Instant::now(), room, subject, sender: sender.parse().unwrap(), frame, id }
        };
        let no = || Some(Err(Reason::NotAllowed));
        let frames = [
            (heard("bob", "hall", "1"), no()),
            (heard("bob", "hall", "2"), None),
            (heard("bob", "hall", "3"), no()),
            (heard("bob", "attic", "4"), no()),
            (heard("eve", "hall", "5"), no()),
        ];
        let texts: Vec<Bytes> = decided(frames.into_iter()).into_iter().map(|(heard, _)| heard.frame).collect();
        assert_eq!(texts, ["1", "4", "5"]);
    }
}
