//! Each check, both ways.

use std::collections::BTreeMap;

use super::fixture::ALL;
use super::*;
use crate::posture::fixture::{NOW_MS, healthy};
use crate::posture::{Damaged, ROOMS, Replica};
use crate::ui::Style;

/// Of servers, with an engine that is known.
fn expected() -> Expected {
    Expected {
        engine: Some(ExpectedEngine { version: "2.15.1".to_owned(), sha256: "dd9b".repeat(16) }),
        test_build: false,
        remedies: Remedies { flags: " --local --state x".to_owned(), hosts: None },
        ..fixture::expected()
    }
}

fn answers() -> Vec<Answer> {
    ALL.map(|node| Answer {
        node: node.to_owned(),
        posture: Ok(healthy(node, &ALL)),
        sent_ms: NOW_MS - 10,
        received_ms: NOW_MS + 10,
    })
    .to_vec()
}

/// The failures as (id, node) after `breaking` was done to homer.
fn broken(breaking: impl Fn(&mut Posture)) -> Vec<Check> {
    let mut answers = answers();
    breaking(answers[1].posture.as_mut().unwrap());
    failures(&expected(), &answers)
}

/// The table for people.
fn shown(found: &[Check], answers: &[Answer]) -> String {
    table(found, &diagnose(&expected(), answers, found), Style::plain())
}

fn as_json(found: &[Check], answers: &[Answer]) -> String {
    json(found, &diagnose(&expected(), answers, found), answers).unwrap()
}

fn down(why: &str) -> NoPosture {
    NoPosture::new(Silence::Down, why)
}

fn failures(expected: &Expected, answers: &[Answer]) -> Vec<Check> {
    let failed: Vec<Check> = checks(expected, answers).into_iter().filter(|check| !check.ok).collect();
    for check in &failed {
        assert!(!check.remedy.is_empty(), "no remedy: {check:?}");
        assert_ne!(check.want, check.got, "says nothing: {check:?}");
    }
    failed
}

/// Exactly one failure, on homer, with this id; what it got.
#[track_caller]
fn only(failed: &[Check], id: &str) -> Check {
    let ids: Vec<(&str, &str)> = failed.iter().map(|check| (check.id.as_str(), check.node.as_str())).collect();
    assert_eq!(ids, [(id, "homer")]);
    failed[0].clone()
}

#[test]
fn a_healthy_cluster_passes_and_every_check_is_there() {
    let found = checks(&expected(), &answers());
    assert!(all_hold(&found), "{found:?}");
    assert!(found.iter().all(|check| check.remedy.is_empty()));
    let of = |node: &str| -> Vec<&str> {
        found.iter().filter(|check| check.node == node).map(|check| check.id.as_str()).collect()
    };
    let ids = [
        "reachable",
        "posture",
        "cluster",
        "routes",
        "lease",
        "certificate.server",
        "certificate.route",
        "clock",
        "disk",
        "ha",
        "leader",
        "replicas.UNIBUS_members",
        "replicas.UNIBUS_rooms",
        "replicas.UNIBUS_users",
        "engine",
        "version",
        "clear_rooms",
        "rooms_by_user",
        "persisting_rooms_by_user",
        "removed_rooms_by_user",
        "history_bytes",
        "history_days",
        "level",
    ];
    for node in ALL {
        assert_eq!(of(node), ids);
    }
    assert_eq!(of(CLUSTER), ["admins"]);
}

#[test]
fn what_lies_in_rooms_is_told_and_turns_nothing_red() {
    let mut answers = answers();
    let posture = answers[1].posture.as_mut().unwrap();
    let of_rooms = Replica { bucket: ROOMS.to_owned(), want: 3, current: None, leader: None, rooms: None };
    posture.replicas.push(of_rooms);
    posture.damaged.push(Damaged { room: "kitchen".to_owned(), why: "broken".to_owned() });
    let found = checks(&expected(), &answers);
    assert!(all_hold(&found), "{found:?}");
    let said = shown(&found, &answers);
    assert!(said.contains("WARNING history"), "{said}");
    assert!(said.contains("the history of 1 room is damaged: kitchen (broken)"), "{said}");
    assert!(said.contains("repair --room kitchen"), "{said}");
    assert!(said.contains("checks hold"), "{said}");
    assert!(as_json(&found, &answers).contains(r#""ok":true"#));
    // A node names the first ones alone.
    answers[0].posture.as_mut().unwrap().damaged_more = std::num::NonZeroUsize::new(41);
    let said = shown(&checks(&expected(), &answers), &answers);
    assert!(said.contains("the history of 42 rooms are damaged: kitchen (broken) and 41 more"), "{said}");
}

#[test]
fn an_upgrade_that_is_not_finished_is_told_with_its_next_command_and_turns_nothing_red() {
    let can = |levels: [Option<u32>; 3], at: u32| {
        let mut answers = answers();
        for (answer, highest) in answers.iter_mut().zip(levels) {
            let posture = answer.posture.as_mut().unwrap();
            (posture.level, posture.highest_level) = (Some(at), highest);
        }
        let found = checks(&expected(), &answers);
        assert!(all_hold(&found), "{found:?}");
        shown(&found, &answers)
    };
    let said = can([Some(2); 3], 1);
    assert!(said.contains("note upgrade") && said.contains("at feature level 1, and every node can do 2"), "{said}");
    assert!(said.contains("next    cargo xtask roll --finish"), "{said}");
    for said in [can([Some(2); 3], 2), can([Some(2), Some(1), Some(2)], 1), can([Some(2), None, Some(2)], 1)] {
        assert!(!said.contains("note"), "{said}");
    }
}

#[test]
fn rooms_that_are_still_to_be_carried_over_are_counted() {
    let with = |level, rooms: [u32; 3]| {
        let mut answers = answers();
        for (answer, rooms) in answers.iter_mut().zip(rooms) {
            let posture = answer.posture.as_mut().unwrap();
            (posture.level, posture.highest_level) = (Some(level), Some(level));
            let bucket = ROOMS.to_owned();
            posture.replicas.push(Replica { bucket, want: 3, current: Some(3), leader: None, rooms: Some(rooms) });
        }
        let found = checks(&expected(), &answers);
        assert!(all_hold(&found), "{found:?}");
        shown(&found, &answers)
    };
    assert!(with(2, [290, 12, 290]).contains("12 rooms are still to be carried over"));
    for said in [with(2, [0, 12, 0]), with(1, [290; 3])] {
        assert!(!said.contains("carried over"), "{said}");
    }
}

#[test]
fn a_node_that_stays_out_says_why() {
    let mut answers = answers();
    let posture = answers[1].posture.as_mut().unwrap();
    posture.lease.valid = false;
    (posture.level, posture.stays_out) = (None, Some("the cluster is at feature level 2".to_owned()));
    let found = checks(&expected(), &answers);
    let lease = found.iter().find(|check| check.id == "lease" && check.node == "homer").unwrap();
    assert_eq!(lease.got, "none: the cluster is at feature level 2");
    assert!(lease.remedy.contains("cargo xtask roll"), "{}", lease.remedy);
}

#[test]
fn no_checks_prove_nothing() {
    assert!(!all_hold(&[]));
}

#[test]
fn a_silent_node_is_named_and_nothing_else_is_claimed_about_it() {
    let mut answers = answers();
    answers[1].posture = Err(down("no daemon runs"));
    let found = checks(&expected(), &answers);
    let of_homer: Vec<&Check> = found.iter().filter(|check| check.node == "homer").collect();
    assert_eq!(of_homer.len(), 1);
    assert_eq!((of_homer[0].id.as_str(), of_homer[0].got.as_str()), ("reachable", "no daemon runs"));
    assert_eq!(
        of_homer[0].remedy,
        "cargo xtask local --state x restart homer; its log: cargo xtask logs homer --local --state x"
    );
    assert!(!all_hold(&found));
}

#[test]
fn when_nobody_answers_every_node_is_named() {
    let mut answers = answers();
    for answer in &mut answers {
        answer.posture = Err(down("gone"));
    }
    let found = failures(&expected(), &answers);
    assert_eq!(found.iter().map(|check| check.node.as_str()).collect::<Vec<_>>(), ALL);
}

#[test]
fn posture_names_exactly_the_words_that_differ() {
    let got = |breaking: fn(&mut Posture)| only(&broken(breaking), "posture").got;
    assert_eq!(got(|posture| posture.bus_auth = "off".to_owned()), "bus_auth=off");
    assert_eq!(got(|posture| posture.acl = false), "acl=false");
    assert_eq!(got(|posture| posture.tls = false), "tls=false");
    assert_eq!(got(|posture| posture.store = "sqlite".to_owned()), "store=sqlite");
    assert_eq!(got(|posture| posture.cluster.as_mut().unwrap().name = "other".to_owned()), "cluster=other");
    assert_eq!(got(|posture| posture.faults = vec!["lease".to_owned()]), "faults=lease");
}

#[test]
fn a_node_without_a_cluster_fails_wherever_the_cluster_counts() {
    let failed = broken(|posture| posture.cluster = None);
    let ids: Vec<&str> = failed.iter().map(|check| check.id.as_str()).collect();
    assert_eq!(ids, ["posture", "cluster", "routes", "leader"]);
}

#[test]
fn cluster_size_is_the_meta_groups() {
    let size = |size| move |posture: &mut Posture| posture.cluster.as_mut().unwrap().size = size;
    assert_eq!(only(&broken(size(Some(4))), "cluster").got, "4 nodes");
    assert_eq!(only(&broken(size(Some(2))), "cluster").got, "2 nodes");
    assert!(only(&broken(size(None)), "cluster").got.contains("no size"));
}

#[test]
fn an_unknown_peer_is_named() {
    let failed = broken(|posture| posture.cluster.as_mut().unwrap().peers.push("mallory".to_owned()));
    let check = only(&failed, "cluster");
    assert!(check.got.contains("mallory") && check.remedy.contains("mallory"), "{check:?}");
}

#[test]
fn a_missing_route_is_named() {
    let failed = broken(|posture| posture.cluster.as_mut().unwrap().peers.retain(|peer| peer != "datardos"));
    assert_eq!(only(&failed, "routes").got, "no route to datardos");
}

#[test]
fn a_leader_must_exist_and_be_the_same() {
    let leader = |leader: Option<&str>| {
        let leader = leader.map(str::to_owned);
        broken(move |posture| posture.cluster.as_mut().unwrap().leader = leader.clone())
    };
    assert_eq!(only(&leader(None), "leader").got, "none");
    assert_eq!(only(&leader(Some("magnus")), "leader").got, "magnus");
}

#[test]
fn a_leader_that_nobody_knows_fails_everywhere() {
    let mut answers = answers();
    for answer in &mut answers {
        answer.posture.as_mut().unwrap().cluster.as_mut().unwrap().leader = Some("mallory".to_owned());
    }
    assert_eq!(failures(&expected(), &answers).len(), 3);
}

#[test]
fn every_bucket_must_be_current() {
    let current = |current| move |posture: &mut Posture| posture.replicas[0].current = current;
    assert_eq!(only(&broken(current(Some(2))), "replicas.UNIBUS_users").got, "2 current");
    assert_eq!(only(&broken(current(None)), "replicas.UNIBUS_users").got, "nobody answered");
}

#[test]
fn fewer_replicas_than_the_topology_wants_point_to_scale() {
    let failed = broken(|posture| {
        posture.replicas[0].want = 1;
        posture.replicas[0].current = Some(1);
    });
    let check = only(&failed, "replicas.UNIBUS_users");
    assert_eq!(check.remedy, "cargo xtask scale 3 --local --state x");
}

#[test]
fn a_bucket_that_one_node_does_not_know_is_missed() {
    let failed = broken(|posture| drop(posture.replicas.remove(0)));
    assert_eq!(only(&failed, "replicas.UNIBUS_users").got, "unknown to this node");
}

#[test]
fn no_bucket_at_all_is_a_failure() {
    let mut answers = answers();
    for answer in &mut answers {
        answer.posture.as_mut().unwrap().replicas.clear();
    }
    let failed = failures(&expected(), &answers);
    assert_eq!(failed.iter().map(|check| check.id.as_str()).collect::<Vec<_>>(), ["replicas"; 3]);
}

#[test]
fn a_lease_must_be_valid() {
    let failed = broken(|posture| posture.lease.valid = false);
    assert_eq!(only(&failed, "lease").got, "not valid, 300 ms old");
    let failed = broken(|posture| posture.lease.age_ms = Some(5_500));
    let lease = only(&failed, "lease");
    assert_eq!(lease.got, "valid, 5500 ms old");
    assert!(lease.want.contains("at most 5000 ms old") && lease.remedy.contains("once its lease is 12000 ms old"));
    assert!(broken(|posture| posture.lease.age_ms = Some(5_000)).is_empty());
}

#[test]
fn a_certificate_that_ends_soon_is_named_with_its_file() {
    let at = |days: i64| {
        move |posture: &mut Posture| {
            posture.certificates[0].not_after_unix = NOW_MS / 1000 + days * 86_400;
        }
    };
    let end = |days: i64| crate::local_time::date_and_time(NOW_MS + days * 86_400_000);
    assert_eq!(only(&broken(at(29)), "certificate.server").got, format!("tls/server.crt until {}", end(29)));
    assert_eq!(only(&broken(at(-1)), "certificate.server").got, format!("tls/server.crt expired {}", end(-1)));
    assert!(broken(at(31)).is_empty());
}

#[test]
fn a_certificate_that_is_not_named_is_missed() {
    let failed = broken(|posture| drop(posture.certificates.remove(1)));
    assert_eq!(only(&failed, "certificate.route").got, "none");
    let failed = broken(|posture| posture.certificates.clear());
    assert_eq!(only(&failed, "certificate").got, "it names no certificate");
}

#[test]
fn the_engine_must_be_the_expected_one() {
    let failed = broken(|posture| posture.engine.as_mut().unwrap().sha256 = "00".repeat(32));
    assert!(only(&failed, "engine").got.contains("sha256 0000"));
    let failed = broken(|posture| posture.engine.as_mut().unwrap().version = "2.14.5".to_owned());
    assert!(only(&failed, "engine").got.starts_with("2.14.5"));
    let failed = broken(|posture| posture.engine = None);
    assert_eq!(only(&failed, "engine").got, "no engine runs");
}

#[test]
fn without_a_pin_the_engines_must_at_least_agree() {
    let mut expected = expected();
    expected.engine = None;
    assert!(failures(&expected, &answers()).is_empty());
    let mut answers = answers();
    answers[1].posture.as_mut().unwrap().engine.as_mut().unwrap().version = "2.14.5".to_owned();
    only(&failures(&expected, &answers), "engine");
}

#[test]
fn versions_must_agree() {
    let failed = broken(|posture| posture.version = "0.2.0".to_owned());
    assert_eq!(only(&failed, "version").got, "0.2.0");
}

#[test]
fn whether_rooms_may_be_in_clear_is_the_same_everywhere() {
    let failed = broken(|posture| posture.clear_rooms = Some("allow".to_owned()));
    let failed = only(&failed, "clear_rooms");
    assert_eq!((failed.want.as_str(), failed.got.as_str()), ("refuse, as most", "allow"));
    let failed = broken(|posture| posture.clear_rooms = None);
    assert_eq!(only(&failed, "clear_rooms").got, "it does not tell");
    let mut answers = answers();
    for answer in &mut answers {
        answer.posture.as_mut().unwrap().clear_rooms = None;
    }
    assert!(checks(&expected(), &answers).iter().all(|check| check.id != "clear_rooms"));
}

#[test]
fn the_quotas_of_a_user_are_the_same_everywhere() {
    let failed = broken(|posture| posture.rooms_by_user = Some(10));
    let failed = only(&failed, "rooms_by_user");
    assert_eq!((failed.want.as_str(), failed.got.as_str()), ("500, as most", "10"));
    assert!(failed.remedy.contains("UNIBUS_ROOMS_BY_USER"), "{}", failed.remedy);
    let failed = broken(|posture| posture.persisting_rooms_by_user = Some(10));
    assert_eq!(only(&failed, "persisting_rooms_by_user").got, "10");
    let failed = broken(|posture| posture.removed_rooms_by_user = Some(10));
    assert_eq!(only(&failed, "removed_rooms_by_user").got, "10");
    let failed = broken(|posture| posture.history_days = Some(30));
    assert_eq!(only(&failed, "history_days").got, "30");
}

#[test]
fn every_node_is_at_the_feature_level_of_the_others() {
    let failed = broken(|posture| posture.level = Some(2));
    assert_eq!(failed.len(), 2, "the others are behind: {failed:?}");
    assert!(failed.iter().all(|check| (check.id.as_str(), check.got.as_str()) == ("level", "1")), "{failed:?}");
    let mut answers = answers();
    for answer in &mut answers {
        answer.posture.as_mut().unwrap().level = None;
    }
    assert!(checks(&expected(), &answers).iter().all(|check| check.id != "level"), "older daemons do not tell");
}

#[test]
fn a_test_build_passes_only_where_tests_run() {
    let mut answers = answers();
    for answer in &mut answers {
        answer.posture.as_mut().unwrap().version = "0.1.0+faults".to_owned();
    }
    assert_eq!(failures(&expected(), &answers).len(), 3);
    let local = Expected { test_build: true, ..expected() };
    assert!(failures(&local, &answers).is_empty());
}

#[test]
fn clocks_may_differ_by_two_seconds_beyond_the_round_trip() {
    let at = |ms: i64| broken(move |posture| posture.unix_ms = NOW_MS + ms);
    assert!(at(2_010).is_empty());
    assert_eq!(only(&at(2_011), "clock").got, "2001 ms ahead");
    assert!(at(-2_010).is_empty());
    assert_eq!(only(&at(-2_011), "clock").got, "2001 ms behind");
}

#[test]
fn one_replica_is_not_ha() {
    let failed = broken(|posture| posture.kv_replicas = 1);
    let check = only(&failed, "ha");
    assert!(check.got.contains("not HA"));
    assert_eq!(check.remedy, "cargo xtask scale 3 --local --state x");
}

#[test]
fn admins_must_exist_and_be_the_same_number_everywhere() {
    let all = |admins| {
        let mut answers = answers();
        for answer in &mut answers {
            answer.posture.as_mut().unwrap().admins = admins;
        }
        failures(&expected(), &answers)
    };
    assert!(all(Some(1)).is_empty());
    let none = all(Some(0));
    assert_eq!((none[0].id.as_str(), none[0].node.as_str()), ("admins", CLUSTER));
    assert!(none[0].remedy.contains("seed-admin"));
    assert_eq!(all(None)[0].id, "admins");
    let differ = broken(|posture| posture.admins = Some(2));
    assert_eq!(differ[0].got, "magnus 1, homer 2, datardos 1");
}

#[test]
fn servers_get_remedies_for_servers() {
    let hosts = BTreeMap::from([("magnus".to_owned(), "admin@m".to_owned())]);
    let remedies = Remedies { flags: " --topology t.toml".to_owned(), hosts: Some(hosts) };
    let mut answers = answers();
    answers[0].posture = Err(NoPosture::new(Silence::Mute, "timeout"));
    let failed = failures(&Expected { remedies, ..expected() }, &answers);
    assert!(failed[0].remedy.starts_with("ssh admin@m sudo systemctl restart"), "{}", failed[0].remedy);
}

#[test]
fn json_says_all_of_it() {
    let mut answers = answers();
    answers[2].posture = Err(down("gone"));
    let text = as_json(&checks(&expected(), &answers), &answers);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["schema"], 1);
    assert_eq!(value["ok"], false);
    assert_eq!(
        (&value["headline"], &value["state"]),
        (&"datardos is down; the bus works (2 of 3)".into(), &"degraded".into())
    );
    let cause = &value["causes"][0];
    assert_eq!((&cause["cause"], &cause["nodes"][0]), (&"datardos is down".into(), &"datardos".into()));
    assert_eq!(cause["checks"][0], serde_json::json!({ "id": "reachable", "node": "datardos" }));
    assert_eq!(cause["next"], "cargo xtask local --state x start datardos");
    assert!(cause["consequences"].is_array() && cause["got"][0] == "datardos: gone", "{cause}");
    assert_eq!(value["nodes"].as_array().unwrap().len(), 2);
    let failed = value["checks"].as_array().unwrap().iter().find(|check| check["ok"] == false).unwrap();
    for key in ["id", "node", "want", "got", "remedy"] {
        assert!(failed[key].is_string(), "{key}");
    }
}

#[test]
fn the_table_begins_with_what_is_the_matter() {
    let mut answers = answers();
    answers[1].posture.as_mut().unwrap().lease.valid = false;
    let text = shown(&checks(&expected(), &answers), &answers);
    let begins = "homer has no lease and denies everything; the bus works (2 of 3)\n\n\
                  CAUSE homer has no lease and denies everything\n  failed  lease (homer)\n  got     homer: not valid, 300 ms old\n  \
                  next    cargo xtask logs homer --local --state x\n\n";
    let rest = text.strip_prefix(begins).unwrap_or_else(|| panic!("{text}"));
    assert!(rest.contains("lease") && rest.contains("magnus datardos"), "{rest}");
    assert!(rest.ends_with("\n1 of 70 checks failed\n"), "{rest}");
    let text = shown(&checks(&expected(), &self::answers()), &self::answers());
    assert!(text.starts_with("3 nodes healthy\n\ncheck ") && text.ends_with("\nall 70 checks hold\n"), "{text}");
}

#[test]
fn what_is_missing_is_said_in_a_few_words() {
    let mut answers = answers();
    let homer = answers[1].posture.as_mut().unwrap();
    homer.lease.valid = false;
    homer.replicas[0].current = Some(1);
    let found = checks(&expected(), &answers);
    assert_eq!(missing(&found, "homer"), "waiting for lease, replicas");
    assert_eq!(missing(&found, "magnus"), "");
}

#[test]
fn failures_that_say_the_same_are_told_once() {
    let mut answers = answers();
    for answer in &mut answers[..2] {
        let posture = answer.posture.as_mut().unwrap();
        posture.replicas[0].current = Some(2);
        posture.replicas[1].current = Some(2);
    }
    answers[2].posture = Err(down("gone"));
    let found = checks(&expected(), &answers);
    let text = shown(&found, &answers);
    assert_eq!(text.matches("CAUSE").count(), 1, "{text}");
    assert!(text.contains("CAUSE datardos is down\n  failed  reachable (datardos)\n"), "{text}");
    assert!(text.contains("\n  so      replicas (magnus, homer)\n"), "{text}");
    assert_eq!(summary(&found), "replicas (magnus, homer), reachable (datardos)");
}

#[test]
fn one_replica_is_as_asked_only_where_it_was_asked_for() {
    let one = |kv_replicas, breaking: fn(&mut Posture)| {
        let mut answers = answers();
        for answer in &mut answers {
            let posture = answer.posture.as_mut().unwrap();
            posture.kv_replicas = 1;
            for replica in &mut posture.replicas {
                (replica.want, replica.current) = (1, Some(1));
            }
            breaking(posture);
        }
        let expected = Expected { kv_replicas, ..expected() };
        as_asked(&expected, &checks(&expected, &answers))
    };
    assert!(one(1, |_| {}));
    assert!(!one(3, |_| {}));
    assert!(!one(1, |posture| posture.lease.valid = false), "nothing else is excused");
    assert!(one(1, |posture| posture.disk.as_mut().unwrap().free = 0), "waiting makes no room on a disk");
}

#[test]
fn a_disk_that_is_nearly_full_fails() {
    let with = |free: u64, size: u64| broken(move |posture| posture.disk = Some(crate::posture::Disk { free, size }));
    let disk = only(&with(1 << 30, 100 << 30), "disk");
    assert_eq!((disk.want.as_str(), disk.got.as_str()), ("at least 2048 MiB free", "1024 MiB of 102400 MiB free"));
    assert!(with(1 << 30, 8 << 30).is_empty(), "a small disk needs less");
    only(&with(700 << 20, 8 << 30), "disk");
    let mut answers = answers();
    answers[1].posture.as_mut().unwrap().disk = None;
    assert!(failures(&expected(), &answers).is_empty(), "an older daemon does not tell");
}
