//! The checks that compare what the nodes say with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use super::{Answer, CERTIFICATE, CLUSTER, Check, Expected, check, notice, warning};
use crate::posture::{Posture, ROOMS, Replica};

/// The feature level from which on daemons keep what is said in rooms.
const KEPT: u32 = 2;

/// The checks of one node that need the others' answers too.
pub(super) fn node(
    expected: &Expected,
    answer: &Answer,
    posture: &Posture,
    reached: &[(&Answer, &Posture)],
) -> Vec<Check> {
    let _ = answer;
    let mut found = vec![leader(expected, posture, reached)];
    found.extend(replicas(expected, posture, reached));
    found.extend(missing_certificates(posture, reached));
    found.push(engine(expected, posture, reached));
    found.push(version(expected, posture, reached));
    found.extend(settings(expected, posture, reached));
    found.extend(level(expected, posture, reached));
    found
}

/// The checks that are about no single node.
pub(super) fn cluster(expected: &Expected, reached: &[(&Answer, &Posture)]) -> Vec<Check> {
    if reached.is_empty() {
        return Vec::new();
    }
    let said: Vec<String> = reached
        .iter()
        .map(|(_, posture)| {
            let count = posture.admins.map_or_else(|| "unknown".to_owned(), |admins| admins.to_string());
            format!("{} {count}", posture.node)
        })
        .collect();
    let counts: BTreeSet<Option<u64>> = reached.iter().map(|(_, posture)| posture.admins).collect();
    let agreed = counts.first().copied().flatten().filter(|_| counts.len() == 1);
    let ok = agreed.is_some_and(|admins| admins > 0);
    let got = if let Some(admins) = agreed { admins.to_string() } else { said.join(", ") };
    let remedy = if counts.contains(&Some(0)) {
        format!(
            "in a new cluster: {}; where the admins were disabled or removed, as root on a node: membershipd user \
             enable HANDLE, or user add --role admin",
            expected.remedies.verb("seed-admin --sign-pub HEX --yes")
        )
    } else {
        "wait until every node has a lease: a node without one cannot count; then verify again".to_owned()
    };
    let mut found = vec![check("admins", CLUSTER, ok, "at least 1, the same on every node".to_owned(), got, remedy)];
    found.extend(histories(reached));
    found.extend(upgrade(expected, reached));
    found.extend(migration(reached));
    found
}

/// An upgrade is ended by the operator, and need not be: where every node can do more than the cluster does, that is told.
fn upgrade(expected: &Expected, reached: &[(&Answer, &Posture)]) -> Option<Check> {
    let level = reached.iter().filter_map(|(_, posture)| posture.level).max()?;
    let all = reached.iter().map(|(_, posture)| posture.highest_level).collect::<Option<Vec<u32>>>()?;
    let can = all.into_iter().min()?;
    if reached.len() < expected.nodes.len() || level >= can {
        return None;
    }
    let got = format!(
        "an upgrade is not finished: the cluster is at feature level {level}, and every node can do {can}; until then \
         'rollback' works"
    );
    Some(notice("upgrade", format!("level {can}"), got, expected.remedies.verb("roll --finish")))
}

/// Rooms whose messages daemons do not keep yet, since nothing had to be carried over before the level was raised.
fn migration(reached: &[(&Answer, &Posture)]) -> Option<Check> {
    let left = |posture: &Posture| {
        let rooms = posture.replicas.iter().find(|replica| replica.bucket == ROOMS)?.rooms?;
        (posture.level? >= KEPT && rooms > 0).then_some(rooms)
    };
    // Each node looks now and then, so the one that looked last has the fewest.
    let rooms = reached.iter().map(|(_, posture)| left(posture)).min().flatten()?;
    let what = if rooms == 1 { "1 room is".to_owned() } else { format!("{rooms} rooms are") };
    let got = format!("what was said in {what} still to be carried over into the history that daemons keep");
    let next = "nothing: the nodes go on by themselves, and the rooms can be used meanwhile".to_owned();
    Some(notice("migration", "no room".to_owned(), got, next))
}

/// What is said in rooms decides nothing: damage is told, and the verdict is what it was.
fn histories(reached: &[(&Answer, &Posture)]) -> Option<Check> {
    let rooms: BTreeMap<&str, &str> = reached
        .iter()
        .flat_map(|(_, posture)| &posture.damaged)
        .map(|damaged| (damaged.room.as_str(), damaged.why.as_str()))
        .collect();
    let (room, _) = rooms.first_key_value()?;
    let names: Vec<String> = rooms.iter().map(|(room, why)| format!("{room} ({why})")).collect();
    // Each node names the same first ones, and looks at its own time.
    let more = reached.iter().filter_map(|(_, posture)| posture.damaged_more).max().map_or(0, NonZeroUsize::get);
    let count = rooms.len() + more;
    let what = if count == 1 { "1 room is".to_owned() } else { format!("{count} rooms are") };
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let got = format!("the history of {what} damaged: {}{rest}", names.join(", "));
    let remedy = format!("as root on a node: membershipd repair --room {room}");
    Some(warning("history", CLUSTER, "no room's history is damaged".to_owned(), got, remedy))
}

fn leader(expected: &Expected, posture: &Posture, reached: &[(&Answer, &Posture)]) -> Check {
    let of = |posture: &Posture| posture.cluster.as_ref().and_then(|cluster| cluster.leader.clone());
    let most = most_common(reached.iter().filter_map(|(_, posture)| of(posture)));
    let here = of(posture);
    let ok = here.is_some() && here == most && here.as_ref().is_some_and(|leader| expected.nodes.contains(leader));
    let want = most.as_deref().map_or_else(|| "one that all agree on".to_owned(), |leader| format!("{leader}, as all"));
    let got = here.unwrap_or_else(|| "none".to_owned());
    let remedy = format!(
        "an election takes up to 9 s and needs a majority: start the nodes that are down; its log: {}",
        expected.remedies.log(&posture.node)
    );
    check("leader", &posture.node, ok, want, got, remedy)
}

fn replicas(expected: &Expected, posture: &Posture, reached: &[(&Answer, &Posture)]) -> Vec<Check> {
    let node = &posture.node;
    let here: BTreeMap<&str, &Replica> =
        posture.replicas.iter().map(|replica| (replica.bucket.as_str(), replica)).collect();
    let known: BTreeSet<&str> =
        reached.iter().flat_map(|(_, posture)| &posture.replicas).map(|replica| replica.bucket.as_str()).collect();
    // The streams of rooms are none of them.
    let known: BTreeSet<&str> = known.into_iter().filter(|bucket| *bucket != ROOMS).collect();
    if known.is_empty() {
        let remedy = format!("the buckets are made once there is a quorum; its log: {}", expected.remedies.log(node));
        return vec![check("replicas", node, false, "the buckets".to_owned(), "no bucket".to_owned(), remedy)];
    }
    let least = expected.kv_replicas;
    known
        .into_iter()
        .map(|bucket| {
            let id = format!("replicas.{bucket}");
            let Some(replica) = here.get(bucket) else {
                let remedy = expected.remedies.restart(node);
                return check(id, node, false, format!("{least} current"), "unknown to this node".to_owned(), remedy);
            };
            let (want, current) = (replica.want.max(least), replica.current);
            let ok = replica.want >= least && current == Some(replica.want);
            let got = match current {
                Some(current) if replica.want < least => format!("{current} of {} configured", replica.want),
                Some(current) => format!("{current} current"),
                None => "nobody answered".to_owned(),
            };
            let remedy = if replica.want < least {
                expected.remedies.verb(&format!("scale {least}"))
            } else {
                "start the nodes that are down, and wait until their copies are current".to_owned()
            };
            check(id, node, ok, format!("{want} current"), got, remedy)
        })
        .collect()
}

fn missing_certificates(posture: &Posture, reached: &[(&Answer, &Posture)]) -> Vec<Check> {
    if posture.certificates.is_empty() {
        return Vec::new();
    }
    let has = |posture: &Posture, name: &str| posture.certificates.iter().any(|have| have.name == name);
    let known: BTreeSet<&str> = reached
        .iter()
        .flat_map(|(_, posture)| &posture.certificates)
        .map(|certificate| certificate.name.as_str())
        .collect();
    known
        .into_iter()
        .filter(|name| !has(posture, name))
        .map(|name| {
            let remedy = format!("cluster.env of {} names fewer certificates than the other nodes'", posture.node);
            let (want, got) = ("the same certificates on every node".to_owned(), "none".to_owned());
            check(format!("{CERTIFICATE}.{name}"), &posture.node, false, want, got, remedy)
        })
        .collect()
}

fn engine(expected: &Expected, posture: &Posture, reached: &[(&Answer, &Posture)]) -> Check {
    let of = |posture: &Posture| posture.engine.as_ref().map(|engine| (engine.version.clone(), engine.sha256.clone()));
    let pinned = expected.engine.as_ref().map(|engine| (engine.version.clone(), engine.sha256.clone()));
    let right = pinned.or_else(|| most_common(reached.iter().filter_map(|(_, posture)| of(posture))));
    let here = of(posture);
    let show = |engine: &Option<(String, String)>, none: &str| {
        engine.as_ref().map_or_else(|| none.to_owned(), |(version, sha256)| format!("{version} sha256 {sha256}"))
    };
    let ok = here.is_some() && here == right;
    let want = show(&right, "the same engine on every node");
    let got = show(&here, "no engine runs");
    let node = &posture.node;
    let remedy = if here.is_none() {
        format!("{}; its log: {}", expected.remedies.restart(node), expected.remedies.log(node))
    } else {
        format!("put the expected nats-server on {node}, then {}", expected.remedies.restart(node))
    };
    check("engine", node, ok, want, got, remedy)
}

fn version(expected: &Expected, posture: &Posture, reached: &[(&Answer, &Posture)]) -> Check {
    const TEST_BUILD: &str = "+faults";
    let most = most_common(reached.iter().map(|(_, posture)| posture.version.clone()));
    let test_build = posture.version.ends_with(TEST_BUILD) && !expected.test_build;
    let ok = most.as_ref() == Some(&posture.version) && !test_build;
    let want = match &most {
        Some(version) if !test_build => format!("{version}, as all"),
        Some(_) => "a release, not a test build".to_owned(),
        None => "the same on every node".to_owned(),
    };
    let remedy = format!("put the same membershipd on every node, then {}", expected.remedies.restart(&posture.node));
    check("version", &posture.node, ok, want, posture.version.clone(), remedy)
}

/// What a user may do must not depend on the node that is asked. Of a setting that no node tells nothing is asked: all are older.
fn settings(expected: &Expected, posture: &Posture, reached: &[(&Answer, &Posture)]) -> Vec<Check> {
    type Says = fn(&Posture) -> Option<String>;
    let settings: [(&str, &str, Says); 6] = [
        ("clear_rooms", "UNIBUS_CLEAR_ROOMS", |posture| posture.clear_rooms.clone()),
        ("rooms_by_user", "UNIBUS_ROOMS_BY_USER", |posture| Some(posture.rooms_by_user?.to_string())),
        ("persisting_rooms_by_user", "UNIBUS_PERSISTING_ROOMS_BY_USER", |posture| {
            Some(posture.persisting_rooms_by_user?.to_string())
        }),
        ("removed_rooms_by_user", "UNIBUS_REMOVED_ROOMS_BY_USER", |posture| {
            Some(posture.removed_rooms_by_user?.to_string())
        }),
        ("history_bytes", "UNIBUS_HISTORY_BYTES", |posture| Some(posture.history_bytes?.to_string())),
        ("history_days", "UNIBUS_HISTORY_DAYS", |posture| Some(posture.history_days?.to_string())),
    ];
    let checked = settings.into_iter().filter_map(|(id, variable, says)| {
        let said = || reached.iter().map(|(_, posture)| says(posture));
        said().flatten().next()?;
        let (most, here) = (most_common(said()).flatten(), says(posture));
        let ok = most.is_some() && most == here;
        let want = most.map_or_else(|| "the same on every node".to_owned(), |most| format!("{most}, as most"));
        let got = here.unwrap_or_else(|| "it does not tell".to_owned());
        let node = &posture.node;
        let remedy =
            format!("give the unit of {node} the {variable} of the others, then {}", expected.remedies.restart(node));
        Some(check(id, node, ok, want, got, remedy))
    });
    checked.collect()
}

/// A node that has not applied what the others have does things the old way. Asked only of those that know: an older daemon does
/// not tell, and one without a lease cannot.
fn level(expected: &Expected, posture: &Posture, reached: &[(&Answer, &Posture)]) -> Option<Check> {
    let here = posture.level?;
    let highest = reached.iter().filter_map(|(_, posture)| posture.level).max()?;
    let node = &posture.node;
    let remedy = format!("{}; its log: {}", expected.remedies.restart(node), expected.remedies.log(node));
    Some(check("level", node, here == highest, format!("{highest}, as the others"), here.to_string(), remedy))
}

/// What more than half of them say.
fn most_common<T: Ord + Clone>(said: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for one in said {
        *counts.entry(one).or_default() += 1;
    }
    let all: usize = counts.values().sum();
    counts.into_iter().find(|(_, count)| count * 2 > all).map(|(one, _)| one)
}
