//! `membershipd wait`: until the node, or the cluster as this node sees it, is as it should be.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{DONE, Daemon, FAILED, Output, Problem};
use crate::config::SQLITE;
use crate::control::{self, Request};
use crate::posture::{Posture, SCHEMA};
use unibus_core::bus::{self, Bucket};

/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Patience with one look, also where there is only one. A daemon answers whatever is broken, but may need a few seconds.
const LOOK: Duration = Duration::from_secs(10);

/// What to wait for; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Goal {
    /// The daemon answers, and its engine runs with a session
    Alive,
    /// The cluster has a leader
    Quorum,
    /// The node has a lease: it admits, and /healthz is 200
    Healthy,
    /// All copies of all buckets are current, every other node is routed, and no first admin waits to be imported
    Current,
}

impl Goal {
    fn word(self) -> &'static str {
        match self {
            Goal::Alive => "alive",
            Goal::Quorum => "quorum",
            Goal::Healthy => "healthy",
            Goal::Current => "current",
        }
    }
}

/// Arguments of `wait`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to wait for; each includes those before it
    #[arg(long = "for", value_enum, value_name = "STATE")]
    goal: Goal,
    /// How long; 0 looks once
    #[arg(long, value_name = "SECONDS")]
    within: u64,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let started = Instant::now();
    let deadline = started + Duration::from_secs(args.within);
    let waited = until(deadline, args.output.json, || match look(&args.daemon, LOOK) {
        Ok(posture) => Ok(missing(args.goal, &posture)),
        // A daemon that is not there yet is what one waits for; one that may not be asked will not get better.
        Err(failure) if failure.code == "forbidden" => Err(failure),
        Err(failure) => Ok(Some(failure.message)),
    })?;
    if args.output.json {
        let waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (goal, ok) = (args.goal.word(), waited.is_none());
        println!("{}", json!({ "schema": SCHEMA, "for": goal, "ok": ok, "missing": waited, "waited_ms": waited_ms }));
    }
    let Some(reason) = waited else { return Ok(DONE) };
    eprintln!("membershipd: not {} within {} s: {reason}", args.goal.word(), args.within);
    Ok(FAILED)
}

/// Looks until nothing is missing or the time is over; then says what still is.
pub(super) fn until(
    deadline: Instant,
    json: bool,
    mut look: impl FnMut() -> Result<Option<String>, control::Failure>,
) -> Result<Option<String>, Problem> {
    loop {
        let reason = look().map_err(|failure| Problem::Daemon { failure, json })?;
        if reason.is_none() || Instant::now() + PAUSE >= deadline {
            return Ok(reason);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The posture of the running daemon.
pub(super) fn look(daemon: &Daemon, patience: Duration) -> Result<Posture, control::Failure> {
    let value = control::ask_for(&daemon.runtime_dir(), &Request::Status, patience)?;
    serde_json::from_value(value).map_err(|error| control::Failure {
        code: "version".to_owned(),
        message: format!("the daemon's posture is not understood: {error}"),
        remedy: "use the membershipd of the running version".to_owned(),
    })
}

/// The first thing that is missing, if any.
pub(super) fn missing(goal: Goal, posture: &Posture) -> Option<String> {
    let steps = [(Goal::Alive, engine(posture)), (Goal::Quorum, leader(posture)), (Goal::Healthy, lease(posture))];
    let basics = steps.into_iter().filter(|(of, _)| *of <= goal).find_map(|(_, missing)| missing);
    let all = || route(posture).or_else(|| copy(posture)).or_else(|| first_admin(posture));
    basics.or_else(|| (goal == Goal::Current).then(all).flatten())
}

fn engine(posture: &Posture) -> Option<String> {
    posture.engine.is_none().then(|| format!("the engine of {} does not run, or has no session yet", posture.node))
}

fn leader(posture: &Posture) -> Option<String> {
    let cluster = posture.cluster.as_ref()?;
    let routed = if cluster.peers.is_empty() { "nobody".to_owned() } else { cluster.peers.join(", ") };
    cluster.leader.is_none().then(|| format!("the cluster has no leader: no quorum, or an election; routed: {routed}"))
}

fn lease(posture: &Posture) -> Option<String> {
    if let Some(why) = &posture.stays_out {
        return Some(format!("{} has no lease and denies everything: {why}", posture.node));
    }
    let age = posture.lease.age_ms.map_or("never proven".to_owned(), |ms| format!("last proven {ms} ms ago"));
    (!posture.lease.valid).then(|| format!("{} has no lease and denies everything: its view was {age}", posture.node))
}

fn route(posture: &Posture) -> Option<String> {
    let cluster = posture.cluster.as_ref()?;
    (!cluster.unrouted.is_empty()).then(|| format!("{} has no route to {}", posture.node, cluster.unrouted.join(", ")))
}

/// What was put here to be imported, and is not yet: until then no admin exists, or a new cluster is not at its level.
fn first_admin(posture: &Posture) -> Option<String> {
    let why = "the record of the first admin is still there: the admin is not imported, or a new cluster waits for all its nodes to \
               begin at the highest feature level; if it goes on waiting, the daemon's log says why";
    posture.bootstrap_pending.then(|| why.to_owned())
}

/// The names of the buckets, and of the shards: they are the system's own. What a daemon of release 0.1.0 knows nothing of counts where the
/// daemon tells of it. The streams of rooms are none of them: what members say decides nothing.
pub(super) fn stored(posture: &Posture) -> impl Iterator<Item = &'static str> {
    let told = |name: &str| posture.replicas.iter().any(|replica| replica.bucket == name);
    let newer = [Bucket::NonceLog.name(), bus::KEPT];
    let names = Bucket::ALL.into_iter().map(Bucket::name).chain([bus::KEPT]);
    names.filter(move |name| !newer.contains(name) || told(name))
}

/// A bucket whose copies are not all there.
pub(super) fn copy(posture: &Posture) -> Option<String> {
    if posture.store == SQLITE {
        return None;
    }
    stored(posture).find_map(|name| {
        let Some(seen) = posture.replicas.iter().find(|replica| replica.bucket == name) else {
            return Some(format!("{name} does not exist yet"));
        };
        match seen.current {
            None => Some(format!("{name} does not answer")),
            Some(current) if current < seen.want => {
                Some(format!("{name} has {current} of {} copies current", seen.want))
            }
            Some(_) => None,
        }
    })
}

/// The posture of a node that is well, one of three.
#[cfg(test)]
pub(super) fn healthy() -> Posture {
    use crate::posture::{ClusterState, EngineState, LeaseState};
    use unibus_store::Replicas;

    let replica = |bucket: &str| Replicas {
        bucket: bucket.to_owned(),
        want: 3,
        current: Some(3),
        leader: Some("homer".to_owned()),
        rooms: None,
        space: None,
    };
    Posture {
        schema: SCHEMA,
        node: "magnus".to_owned(),
        boot: String::new(),
        version: String::new(),
        store: "kv".to_owned(),
        bus_auth: "enforce".to_owned(),
        clear_rooms: "refuse".to_owned(),
        rooms_by_user: Some(500),
        persisting_rooms_by_user: Some(200),
        removed_rooms_by_user: None,
        bounds: None,
        history_bytes: None,
        history_days: None,
        engine_bounds: None,
        acl: true,
        tls: true,
        engine: Some(EngineState { version: String::new(), sha256: String::new(), server_id: String::new(), pid: 1 }),
        cluster: Some(ClusterState {
            name: "unibus".to_owned(),
            id: String::new(),
            size: Some(3),
            leader: Some("homer".to_owned()),
            peers: vec!["datardos".to_owned(), "homer".to_owned()],
            unrouted: Vec::new(),
        }),
        kv_replicas: 3,
        replicas: Bucket::ALL.into_iter().map(Bucket::name).map(replica).collect(),
        damaged: Vec::new(),
        damaged_more: None,
        lease: LeaseState { valid: true, age_ms: Some(100), lease_ms: 12_000, bound_ms: 13_130 },
        level: Some(1),
        highest_level: Some(1),
        stays_out: None,
        admins: Some(1),
        clients: 0,
        certificates: Vec::new(),
        disk: None,
        unix_ms: 0,
        bootstrap_pending: false,
        faults: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Damaged;
    use unibus_store::Replicas;

    const GOALS: [Goal; 4] = [Goal::Alive, Goal::Quorum, Goal::Healthy, Goal::Current];

    /// What each goal says is missing once `wrong` was done to a healthy node: nothing before `first`.
    fn missed(first: Goal, wrong: impl Fn(&mut Posture), word: &str) {
        let mut posture = healthy();
        wrong(&mut posture);
        for goal in GOALS {
            let said = missing(goal, &posture);
            assert_eq!(said.is_some(), goal >= first, "{goal:?}: {said:?}");
            assert!(said.is_none_or(|said| said.contains(word)), "{goal:?} should say '{word}'");
        }
    }

    #[test]
    fn each_goal_includes_those_before_it_and_names_what_is_missing() {
        assert!(GOALS.iter().all(|goal| missing(*goal, &healthy()).is_none()));
        missed(Goal::Alive, |p| p.engine = None, "engine of magnus");
        missed(Goal::Quorum, |p| p.cluster.as_mut().unwrap().leader = None, "no leader");
        missed(Goal::Healthy, |p| p.lease.valid = false, "no lease");
        missed(Goal::Healthy, |p| p.stays_out = Some("a newer level".to_owned()), "a newer level");
        missed(Goal::Current, |p| p.cluster.as_mut().unwrap().unrouted.push("homer".to_owned()), "no route to homer");
        missed(Goal::Current, |p| p.replicas[1].current = Some(2), "UNIBUS_rooms has 2 of 3");
        missed(Goal::Current, |p| p.replicas[1].current = None, "UNIBUS_rooms does not answer");
        missed(Goal::Current, |p| drop(p.replicas.remove(0)), "UNIBUS_users does not exist");
        let shards = |current| Replicas { bucket: bus::KEPT.to_owned(), current, ..healthy().replicas.remove(0) };
        missed(Goal::Current, |p| p.replicas.push(shards(Some(2))), "UNIBUS_kept has 2 of 3");
        missed(Goal::Current, |p| p.replicas.push(shards(None)), "UNIBUS_kept does not answer");
        missed(Goal::Current, |p| p.bootstrap_pending = true, "first admin");
    }

    #[test]
    fn what_lies_in_rooms_decides_nothing() {
        let mut posture = healthy();
        posture.damaged = vec![Damaged { room: "hall".parse().unwrap(), why: "broken".to_owned() }];
        posture.damaged_more = std::num::NonZeroUsize::new(300);
        for current in [None, Some(0)] {
            let of_rooms = Replicas { bucket: bus::HISTORY.to_owned(), current, ..posture.replicas[0].clone() };
            let posture = Posture { replicas: stored_and(of_rooms, &posture), ..posture_of(&posture) };
            assert!(GOALS.iter().all(|goal| missing(*goal, &posture).is_none()), "{current:?}");
        }
    }

    fn stored_and(more: Replicas, posture: &Posture) -> Vec<Replicas> {
        posture.replicas.iter().cloned().chain([more]).collect()
    }

    fn posture_of(posture: &Posture) -> Posture {
        Posture { damaged: posture.damaged.clone(), damaged_more: posture.damaged_more, ..healthy() }
    }

    #[test]
    fn a_daemon_of_before_needs_no_bucket_that_it_knows_nothing_of() {
        let mut before = healthy();
        before.replicas.retain(|replica| replica.bucket != Bucket::NonceLog.name());
        assert!(GOALS.iter().all(|goal| missing(*goal, &before).is_none()));
        before.replicas.retain(|replica| replica.bucket != Bucket::Nonces.name());
        assert!(missing(Goal::Current, &before).is_some_and(|why| why.contains("does not exist yet")));
    }

    #[test]
    fn a_node_on_its_own_needs_no_leader_and_no_routes() {
        let alone = Posture { cluster: None, ..healthy() };
        assert!(GOALS.iter().all(|goal| missing(*goal, &alone).is_none()));
    }

    #[test]
    fn nothing_is_looked_at_twice_where_there_is_no_time() {
        let mut looks = 0;
        let waited = until(Instant::now(), false, || {
            looks += 1;
            Ok(Some("no".to_owned()))
        });
        assert!(matches!(waited, Ok(Some(_))) && looks == 1);
    }
}
