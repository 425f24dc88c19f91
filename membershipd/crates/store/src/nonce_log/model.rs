//! The log of nonces checked over every order of events: two processes that both have an authority (two nodes that share it, or an
//! address that moved), each of which may be replaced by another life of itself at any time, with appends that are answered, or land
//! without an answer, late, or never, and readers that know less than is there. Two copies of one request go to whichever process.
//!
//! What a process decides here is decided by its [`Lane`]; the log, the engine and time are the model's. No nonce is ever accepted twice,
//! and each rule has a test in which it is taken out and the checker finds the history in which one is.

use std::collections::BTreeMap;
use std::time::Instant;

use stateright::{Checker, Model, Property};

use super::lane::tests::{batch, id};
use super::lane::{Lane, Token, encode};

const PROCESSES: usize = 2;
/// Copies of the request that may come.
const COPIES: u8 = 3;
/// How often processes may be replaced, and reads fall short, in one history.
const RESTARTS: u8 = 2;

/// A message of which a process knows nothing but that it is there.
const UNREAD: u8 = u8::MAX;

/// A rule that is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// An append names the last message that its process has read.
    Expected,
    /// A process begins with what the messages say, and not with their number alone.
    Reading,
    /// What is in the way is learned.
    Learning,
    /// An append without an answer is no success.
    Answers,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Append {
    process: usize,
    life: u8,
    batch: u8,
    expected: u64,
    /// Whether its process waits for the answer.
    awaited: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    /// The batches in the lane; the sequence is the place, from 1 on.
    log: Vec<u8>,
    under_way: Vec<Append>,
    processes: [Process; PROCESSES],
    sent: u8,
    batches: u8,
    restarts: u8,
    accepted: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Process {
    life: u8,
    /// What its lane was told: it is built from that, so that worlds can be compared.
    known: Option<Vec<u8>>,
    /// The request that it has at hand, by its token.
    request: Option<u8>,
    waits: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Event {
    /// A copy of the request comes to a process.
    Comes(usize),
    /// A process reads the whole lane.
    Reads(usize),
    /// A process sends an append for the request at hand.
    Appends(usize),
    /// The engine takes an append in hand, and answers.
    Arrives(usize),
    /// The same, and the answer is lost.
    ArrivesUnanswered(usize),
    /// It never arrives.
    Lost(usize),
    /// The process waits no longer.
    GivesUp(usize),
    /// Another life of the process.
    Restarts(usize),
}

struct Checked {
    without: Without,
    now: Instant,
}

impl Checked {
    fn lane(&self, process: &Process) -> Lane {
        let mut lane = Lane::default();
        if let Some(known) = &process.known {
            lane.begin(messages(known, 0), self.now);
        }
        lane
    }
}

/// The messages behind the sequence `last`.
fn messages(log: &[u8], last: usize) -> BTreeMap<u64, Vec<u8>> {
    let all = log.iter().zip(1u64..).skip(last);
    all.map(|(number, sequence)| {
        let ids = if *number == UNREAD { None } else { Some(id(1)) };
        (sequence, encode(batch(*number), ids))
    })
    .collect()
}

impl Model for Checked {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let process = Process { life: 0, known: None, request: None, waits: false };
        vec![World {
            log: Vec::new(),
            under_way: Vec::new(),
            processes: [process.clone(), process],
            sent: 0,
            batches: 0,
            restarts: 0,
            accepted: 0,
        }]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        for (number, process) in world.processes.iter().enumerate() {
            if world.sent < COPIES && process.request.is_none() {
                events.push(Event::Comes(number));
            }
            if process.request.is_some() && !process.waits {
                let reads = process.known.is_none();
                events.push(if reads { Event::Reads(number) } else { Event::Appends(number) });
            }
            if process.waits {
                events.push(Event::GivesUp(number));
            }
            if world.restarts < RESTARTS {
                events.push(Event::Restarts(number));
            }
        }
        for place in 0..world.under_way.len() {
            events.extend([Event::Arrives(place), Event::ArrivesUnanswered(place), Event::Lost(place)]);
        }
    }

    fn next_state(&self, before: &World, event: Event) -> Option<World> {
        let mut world = before.clone();
        match event {
            Event::Comes(number) => {
                world.processes[number].request = Some(world.sent);
                world.sent += 1;
            }
            Event::Reads(number) if self.without == Without::Reading => {
                world.processes[number].known = Some(vec![UNREAD; world.log.len()]);
            }
            Event::Reads(number) => world.processes[number].known = Some(world.log.clone()),
            Event::Appends(number) => {
                let process = &mut world.processes[number];
                let lane = self.lane(process);
                let token = Token::new(process.request?.into());
                let (noted, fresh) = lane.judge(&[(id(1), token)]);
                assert!(noted.is_empty(), "an answer is given when it is known");
                if fresh.is_empty() {
                    process.request = None;
                    return Some(world);
                }
                process.waits = true;
                world.under_way.push(Append {
                    process: number,
                    life: process.life,
                    batch: world.batches,
                    expected: lane.last(self.now)?,
                    awaited: true,
                });
                world.batches += 1;
            }
            Event::Arrives(place) | Event::ArrivesUnanswered(place) => {
                let append = world.under_way.remove(place);
                let length = world.log.len();
                let fits = append.expected == u64::try_from(length).ok()? || self.without == Without::Expected;
                if fits {
                    world.log.push(append.batch);
                }
                let process = &mut world.processes[append.process];
                let hears = append.awaited && append.life == process.life && event == Event::Arrives(place);
                if !hears {
                    return Some(world);
                }
                process.waits = false;
                if fits {
                    process.known.get_or_insert_default().push(append.batch);
                    world.accepted += 1;
                    process.request = None;
                } else if self.without != Without::Learning {
                    // What stands behind what it knew; its own message may be among it.
                    let token = Token::new(process.request?.into());
                    let mut lane = self.lane(process);
                    let last = usize::try_from(append.expected).ok()?;
                    let ours = batch(append.batch);
                    lane.overtaken(messages(&world.log, last), ours, &[(id(1), token)], self.now);
                    process.known = Some(world.log.clone());
                    let (noted, fresh) = lane.judge(&[(id(1), token)]);
                    world.accepted += u8::try_from(noted.len()).ok()?;
                    if fresh.is_empty() {
                        process.request = None;
                    }
                } else {
                    // It goes by the number of the last message alone.
                    process.known = Some(vec![UNREAD; length]);
                }
            }
            Event::Lost(place) => {
                world.under_way.remove(place);
            }
            Event::GivesUp(number) => {
                let process = &mut world.processes[number];
                process.waits = false;
                process.request = None;
                process.known = None;
                if self.without == Without::Answers {
                    world.accepted += 1;
                }
                world
                    .under_way
                    .iter_mut()
                    .filter(|append| append.process == number)
                    .for_each(|append| append.awaited = false);
            }
            Event::Restarts(number) => {
                let life = world.processes[number].life + 1;
                world.processes[number] = Process { life, known: None, request: None, waits: false };
                world.restarts += 1;
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a nonce is accepted once at most", |_, world: &World| world.accepted <= 1),
            Property::sometimes("a nonce is accepted", |_, world: &World| world.accepted == 1),
            Property::sometimes("a copy is refused", |_, world: &World| {
                world.accepted == 1 && world.sent > 1 && world.processes.iter().all(|process| process.request.is_none())
            }),
        ]
    }
}

fn check(without: Without) -> impl Checker<Checked> {
    Checked { without, now: Instant::now() }.checker().spawn_bfs().join()
}

#[test]
fn no_nonce_is_accepted_twice_whatever_lives_share_the_authority() {
    let checker = check(Without::Nothing);
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn each_rule_is_needed() {
    for without in [Without::Expected, Without::Reading, Without::Learning, Without::Answers] {
        let found = check(without);
        assert!(found.discovery("a nonce is accepted once at most").is_some(), "{without:?} changes nothing");
    }
}
