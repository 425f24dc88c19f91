use super::*;
use crate::chaos::history::{Event, Outcome};

const SECOND: u64 = 1_000_000;
const RULES: Rules = Rules { bound_us: 13 * SECOND, least: 5, revokes: false, converses: false, flawless: false };

/// A window of 40 s; without a quorum from 1 s on, with the repair at 30 s.
fn window(fault: &str, quorum: bool) -> Window {
    Window {
        fault: fault.to_owned(),
        nodes: vec!["homer".to_owned()],
        quorum,
        begin_us: 0,
        injected_us: SECOND,
        heal_us: 30 * SECOND,
        end_us: 40 * SECOND,
        ill: None,
    }
}

fn op(kind: Kind, at_us: u64, outcome: Outcome) -> Op {
    Op {
        op: 0,
        kind,
        key: None,
        value: None,
        expected: None,
        revision: None,
        node: Some("magnus".to_owned()),
        tried: vec!["magnus".to_owned()],
        begin_us: at_us,
        end_us: at_us + 1000,
        outcome,
        why: None,
        code: None,
        found: Vec::new(),
    }
}

/// The `count`th write of a register, over `expected`.
fn write(count: u64, at_us: u64, outcome: Outcome, expected: u64) -> Op {
    Op {
        key: Some("3".to_owned()),
        value: Some(format!("run.3.{count}")),
        expected: Some(expected),
        revision: (outcome == Outcome::Ok).then_some(100 + count),
        ..op(Kind::Write, at_us, outcome)
    }
}

fn read(value: Option<&str>, revision: u64, at_us: u64) -> Op {
    Op {
        key: Some("3".to_owned()),
        value: value.map(str::to_owned),
        revision: Some(revision),
        ..op(Kind::Read, at_us, Outcome::Ok)
    }
}

/// A whole history: numbered in order of time, read back at 50 s.
fn history(mut ops: Vec<Op>) -> History {
    ops.sort_by_key(|op| op.begin_us);
    for (number, op) in (0..).zip(&mut ops) {
        op.op = number;
    }
    let event = |name: &str, at_us, ops| Event { event: name.to_owned(), at_us, detail: None, ops };
    let total = u64::try_from(ops.len()).unwrap();
    History { ops, events: vec![event("reading-back", 50 * SECOND, None), event("end", 60 * SECOND, Some(total))] }
}

/// Connects and messages, four a second for 40 s, that end as `outcome` says; writes of another register, and changes of what is
/// contended for.
fn steady(outcome: impl Fn(u64) -> Outcome) -> Vec<Op> {
    let mut last = 0;
    (0..160)
        .flat_map(|tick| {
            let at = tick * SECOND / 4;
            let mut other = op(Kind::Write, at, outcome(at));
            other.key = Some("other".to_owned());
            let mut contested = op(Kind::ApiWrite, at, outcome(at));
            (contested.key, contested.value) = (Some("contested".to_owned()), Some(format!("content {tick}")));
            contested.expected = Some(last);
            if contested.ok() {
                last = tick + 1;
                contested.revision = Some(last);
            }
            [op(Kind::Connect, at, outcome(at)), op(Kind::Message, at, outcome(at)), other, contested]
        })
        .collect()
}

fn all_well(_: u64) -> Outcome {
    Outcome::Ok
}

/// Served until the lease ends, at 13 s, and again from 35 s on.
fn denied(at: u64) -> Outcome {
    if (13 * SECOND..35 * SECOND).contains(&at) { Outcome::Refused } else { Outcome::Ok }
}

fn with(mut ops: Vec<Op>, more: impl IntoIterator<Item = Op>) -> History {
    ops.extend(more);
    history(ops)
}

fn rules_broken(history: &History, windows: &[Window], rules: &Rules) -> Vec<Rule> {
    let verdict = judge(history, windows, rules);
    let mut broken: Vec<Rule> = Vec::new();
    for (_, violation) in verdict.all_violations() {
        if !broken.contains(&violation.rule) {
            broken.push(violation.rule);
        }
    }
    assert_eq!(verdict.ok, broken.is_empty());
    broken
}

fn broken(history: &History, window: Window) -> Vec<Rule> {
    rules_broken(history, &[window], &RULES)
}

#[test]
fn a_good_run_is_good() {
    let chain = [
        write(1, 2 * SECOND, Outcome::Ok, 0),
        write(2, 3 * SECOND, Outcome::Unknown, 101),
        read(Some("run.3.2"), 102, 4 * SECOND),
        write(3, 5 * SECOND, Outcome::Ok, 102),
        write(4, 6 * SECOND, Outcome::Refused, 103),
        read(Some("run.3.3"), 103, 51 * SECOND),
    ];
    assert_eq!(broken(&with(steady(all_well), chain), window("kill", true)), []);
    assert_eq!(broken(&history(steady(denied)), window("two stopped", false)), []);
}

#[test]
fn an_acknowledged_write_that_is_not_read_back_is_lost() {
    let lost = with(
        steady(all_well),
        [
            write(1, 2 * SECOND, Outcome::Ok, 0),
            write(2, 3 * SECOND, Outcome::Ok, 101),
            read(Some("run.3.1"), 101, 51 * SECOND),
        ],
    );
    let verdict = judge(&lost, &[window("kill", true)], &RULES);
    let violation = &verdict.windows[0].violations[0];
    assert_eq!((violation.rule, violation.at_us), (Rule::LostWrite, 3 * SECOND), "it stands where the write was");
    assert!(violation.what.contains("magnus") && violation.what.contains("register 3"), "{}", violation.what);
    let gone = with(steady(all_well), [write(1, 2 * SECOND, Outcome::Ok, 0), read(None, 0, 51 * SECOND)]);
    assert_eq!(broken(&gone, window("kill", true)), [Rule::LostWrite]);
}

#[test]
fn an_acknowledged_write_that_the_next_one_does_not_replace_is_lost() {
    // The loss is papered over: what is read back at the end is the newest.
    let papered = |replaced: u64| {
        with(
            steady(all_well),
            [
                write(1, 2 * SECOND, Outcome::Ok, 0),
                write(2, 3 * SECOND, Outcome::Ok, 101),
                read(Some("run.3.1"), 90, 4 * SECOND),
                write(3, 5 * SECOND, Outcome::Ok, replaced),
                read(Some("run.3.3"), 103, 51 * SECOND),
            ],
        )
    };
    assert_eq!(broken(&papered(90), window("kill", true)), [Rule::LostWrite]);
    // That read alone may have come from a leader that was deposed: the compare-and-set decides.
    assert_eq!(broken(&papered(102), window("kill", true)), []);
}

#[test]
fn a_write_of_unknown_outcome_may_be_there_or_not() {
    for found in ["run.3.1", "run.3.2"] {
        let unknown = with(
            steady(all_well),
            [
                write(1, 2 * SECOND, Outcome::Ok, 0),
                write(2, 3 * SECOND, Outcome::Unknown, 101),
                read(Some(found), 150, 51 * SECOND),
            ],
        );
        assert_eq!(broken(&unknown, window("kill", true)), []);
    }
}

#[test]
fn a_write_that_was_certainly_not_done_is_not_there() {
    let seen = with(
        steady(all_well),
        [
            write(1, 2 * SECOND, Outcome::Ok, 0),
            write(2, 3 * SECOND, Outcome::Refused, 101),
            read(Some("run.3.2"), 102, 51 * SECOND),
        ],
    );
    assert_eq!(broken(&seen, window("kill", true)), [Rule::RefusedWriteSeen]);
}

#[test]
fn nothing_is_granted_without_a_quorum() {
    let kinds = [Kind::Write, Kind::Connect, Kind::Message, Kind::Read, Kind::Disable, Kind::VictimConnect];
    let over_the_api =
        [Kind::MakeRoom, Kind::Join, Kind::Removal, Kind::MemberPublish, Kind::MemberRead, Kind::ApiRead, Kind::Say];
    for kind in kinds.into_iter().chain(over_the_api) {
        let late = with(steady(denied), [op(kind, 15 * SECOND, Outcome::Ok)]);
        assert_eq!(broken(&late, window("two stopped", false)), [Rule::ServedWithoutQuorum], "{kind}");
        let leased = with(steady(denied), [op(kind, 12 * SECOND, Outcome::Ok)]);
        assert_eq!(broken(&leased, window("two stopped", false)), [], "{kind} within the lease");
        let over = Op { end_us: 31 * SECOND, ..op(kind, 29 * SECOND, Outcome::Ok) };
        assert_eq!(broken(&with(steady(denied), [over]), window("two stopped", false)), [], "{kind} during the repair");
    }
}

/// An operation about somebody.
fn of(whom: &str, kind: Kind, at: u64, outcome: Outcome) -> Op {
    Op { key: Some(whom.to_owned()), ..op(kind, at, outcome) }
}

const DISABLED: [Kind; 2] = [Kind::VictimMessage, Kind::VictimConnect];
const REMOVED: [Kind; 3] = [Kind::MemberPublish, Kind::MemberReceive, Kind::MemberRead];

#[test]
fn whoever_has_lost_a_right_is_not_served() {
    let losses = [
        (Kind::Disable, DISABLED.as_slice(), Rule::DisabledUserServed),
        (Kind::Removal, &REMOVED, Rule::RemovedMemberServed),
    ];
    for (by, uses, rule) in losses {
        let loss = Op { end_us: 16 * SECOND, ..of("who", by, 2 * SECOND, Outcome::Ok) };
        for kind in uses {
            let served = |whom, at| with(steady(all_well), [loss.clone(), of(whom, *kind, at, Outcome::Ok)]);
            assert_eq!(broken(&served("who", 17 * SECOND), window("kill", true)), [rule], "{kind}");
            assert_eq!(broken(&served("who", 10 * SECOND), window("kill", true)), [], "before the acknowledgement");
            assert_eq!(broken(&served("other", 17 * SECOND), window("kill", true)), []);
            // Nobody was told that it was gone.
            let unknown = Op { outcome: Outcome::Unknown, ..loss.clone() };
            let served = with(steady(all_well), [unknown, of("who", *kind, 17 * SECOND, Outcome::Ok)]);
            assert_eq!(broken(&served, window("kill", true)), []);
        }
    }
}

#[test]
fn somebody_must_have_lost_each_right_and_have_tried() {
    let rules = Rules { revokes: true, ..RULES };
    let all = |by, uses: &[Kind], tries: u64| -> Vec<Op> {
        let loss = Op { end_us: 16 * SECOND, ..of("who", by, 2 * SECOND, Outcome::Ok) };
        let before = uses.iter().map(|kind| of("who", *kind, SECOND, Outcome::Ok));
        let later = (17..17 + tries).flat_map(|s| uses.iter().map(move |kind| (s, *kind)));
        let later = later.map(|(s, kind)| of("who", kind, s * SECOND, Outcome::Refused));
        before.chain([loss]).chain(later).collect()
    };
    let (disabled, removed) = (all(Kind::Disable, &DISABLED, 5), all(Kind::Removal, &REMOVED, 5));
    let judged = |ops: Vec<Op>| rules_broken(&with(steady(all_well), ops), &[window("kill", true)], &rules);
    assert_eq!(judged([disabled.clone(), removed.clone()].concat()), []);
    assert_eq!(judged(disabled.clone()), [Rule::TooLittleLoad], "nobody was removed");
    assert_eq!(judged(removed.clone()), [Rule::TooLittleLoad], "nobody was disabled");
    assert_eq!(judged([disabled.clone(), all(Kind::Removal, &REMOVED, 0)].concat()), [Rule::TooLittleLoad], "silent");
    for kind in REMOVED {
        let mut never_served = removed.clone();
        never_served.retain(|op| op.kind != kind || !op.ok());
        assert_eq!(judged([disabled.clone(), never_served].concat()), [Rule::TooLittleLoad], "{kind}");
    }
}

#[test]
fn too_little_load_proves_nothing() {
    for kind in Kind::STEADY {
        let mut ops = steady(all_well);
        ops.retain(|op| op.kind != kind);
        assert_eq!(broken(&history(ops), window("kill", true)), [Rule::TooLittleLoad], "{kind}");
        let mut ops = steady(denied);
        ops.retain(|op| op.kind != kind);
        assert_eq!(broken(&history(ops), window("two stopped", false)), [Rule::TooLittleLoad], "{kind}");
    }
    let unserved = history(steady(|at| if at > SECOND { Outcome::Unknown } else { Outcome::Ok }));
    assert_eq!(broken(&unserved, window("kill", true)), [Rule::TooLittleLoad], "attempts alone are no service");
}

#[test]
fn in_each_window_with_a_quorum_something_is_said() {
    let rules = Rules { converses: true, ..RULES };
    let spoken = |at, outcome| with(steady(all_well), [of("room/ann", Kind::Say, at, outcome)]);
    let judged = |history: &History| proves_enough(history, &window("kill", true), &rules);
    assert!(judged(&spoken(5 * SECOND, Outcome::Ok)));
    assert!(!judged(&spoken(5 * SECOND, Outcome::Unknown)) && !judged(&spoken(SECOND / 2, Outcome::Ok)), "before it");
    assert!(proves_enough(&history(steady(denied)), &window("two stopped", false), &rules), "nobody can");
    let unread = rules_broken(&spoken(5 * SECOND, Outcome::Ok), &[window("kill", true)], &rules);
    assert_eq!(unread, [Rule::TooLittleLoad], "nobody read it");
}

#[test]
fn a_broken_history_says_nothing() {
    let mut cut = history(steady(all_well));
    cut.events.pop();
    assert_eq!(broken(&cut, window("kill", true)), [Rule::IncompleteHistory]);
    let mut gap = history(steady(all_well));
    gap.ops.remove(8);
    assert_eq!(broken(&gap, window("kill", true)), [Rule::IncompleteHistory]);
    assert_eq!(rules_broken(&history(steady(all_well)), &[], &RULES), [Rule::IncompleteHistory]);
}

#[test]
fn a_cluster_that_does_not_get_well_is_a_failure() {
    let ill = Window { ill: Some("lease@homer".to_owned()), ..window("kill", true) };
    assert_eq!(broken(&history(steady(all_well)), ill), [Rule::NotHealed]);
}

#[test]
fn where_nothing_may_fail_one_failure_is_enough() {
    let rules = Rules { flawless: true, ..RULES };
    let windows = [window("during roll", true)];
    assert_eq!(rules_broken(&history(steady(all_well)), &windows, &rules), []);
    for outcome in [Outcome::Refused, Outcome::Unknown] {
        let failed = with(steady(all_well), [op(Kind::Message, 5 * SECOND, outcome)]);
        assert_eq!(rules_broken(&failed, &windows, &rules), [Rule::FailedOperation]);
        for kind in [Kind::VictimMessage, Kind::MemberPublish, Kind::ApiWrite] {
            let expected = with(steady(all_well), [op(kind, 5 * SECOND, outcome)]);
            assert_eq!(rules_broken(&expected, &windows, &rules), [], "cut on purpose, or not the first: no failure");
        }
    }
}

#[test]
fn recovery_and_gaps_are_measured() {
    // Nothing succeeds from 1 s to 6 s; what went through the victim does not count.
    let mut ops = steady(|at| if (SECOND..6 * SECOND).contains(&at) { Outcome::Unknown } else { Outcome::Ok });
    ops.push(Op { tried: vec!["homer".to_owned()], ..op(Kind::Connect, 9 * SECOND, Outcome::Unknown) });
    let verdict = judge(&history(ops), &[window("kill", true)], &RULES);
    let judged = &verdict.windows[0];
    assert_eq!(judged.recovery_ms, Some(6_001));
    assert_eq!(judged.kinds[&Kind::Message].longest_gap_ms, 5_250);
    assert_eq!(judged.kinds[&Kind::Message].attempted, 160);
    assert_eq!(judged.kinds[&Kind::Message].unknown, 20);
    let alone = Window { nodes: vec!["magnus".to_owned()], ..window("kill", true) };
    let verdict = judge(&history(steady(all_well)), &[alone], &RULES);
    assert_eq!(verdict.windows[0].recovery_ms, None, "nobody else was asked");
    // A write that waited for the election has recovered when it was over.
    let slow = Op { end_us: 7 * SECOND, ..write(1, 2 * SECOND, Outcome::Ok, 0) };
    let verdict = judge(&with(steady(all_well), [slow]), &[window("kill", true)], &RULES);
    assert_eq!(verdict.windows[0].recovery_ms, Some(2_251), "the next prompt one counts");
    let verdict = judge(&history(steady(denied)), &[window("two stopped", false)], &RULES);
    assert_eq!(verdict.windows[0].recovery_ms, Some(5_001), "counted from the repair");
    let series = &verdict.timeline.kinds[&Kind::Message];
    assert_eq!((series.ok.len(), series.ok.iter().sum::<u32>(), series.refused.iter().sum::<u32>()), (161, 72, 88));
}

#[test]
fn write_that_another_one_preceded_is_told_from_a_refusal() {
    let refused = |code: Option<&str>, expected| Op {
        key: Some("hall".to_owned()),
        expected,
        code: code.map(str::to_owned),
        ..op(Kind::ApiWrite, 2 * SECOND, Outcome::Refused)
    };
    assert!(refused(Some("precondition-failed"), Some(7)).is_expected_conflict());
    for other in [refused(Some("unavailable"), Some(7)), refused(None, Some(7)), refused(Some("conflict"), None)] {
        assert!(!other.is_expected_conflict(), "{other:?}");
    }
}
