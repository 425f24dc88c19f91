use super::*;
use crate::chaos::history::{Event, Found};

/// Something that `who` said from `begin` to `end`, acknowledged as number `seq` if that is above 0.
fn say(who: &str, text: &str, seq: u64, (begin, end): (u64, u64), outcome: Outcome) -> Op {
    Op {
        op: begin,
        kind: Kind::Say,
        key: Some(format!("room/{who}")),
        value: Some(text.to_owned()),
        expected: None,
        revision: (seq > 0).then_some(seq),
        node: Some("magnus".to_owned()),
        tried: vec!["magnus".to_owned()],
        begin_us: begin,
        end_us: end,
        outcome,
        why: None,
        code: None,
        found: Vec::new(),
    }
}

fn at(seq: u64, by: &str, text: &str) -> Found {
    Found { seq, what: Content::Said { by: by.to_owned(), text: text.to_owned() } }
}

/// What `who` found in the end.
fn read(who: &str, found: impl Into<Vec<Found>>) -> Op {
    Op { kind: Kind::ReadHistory, value: None, found: found.into(), ..say(who, "", 0, (900, 950), Outcome::Ok) }
}

/// Two messages that were acknowledged, one of which nobody knows, and one that was certainly not said.
fn said() -> Vec<Op> {
    vec![
        say("ann", "1", 1, (10, 20), Outcome::Ok),
        say("bob", "1", 3, (30, 50), Outcome::Ok),
        say("ann", "2", 0, (25, 60), Outcome::Unknown),
        say("bob", "2", 0, (70, 80), Outcome::Refused),
    ]
}

fn all_found() -> Vec<Found> {
    vec![at(1, "ann", "1"), at(2, "ann", "2"), at(3, "bob", "1")]
}

fn history(readings: impl IntoIterator<Item = Op>) -> History {
    let ops = said().into_iter().chain(readings).collect();
    let event = Event { event: "reading-back".to_owned(), at_us: 890, detail: None, ops: None };
    History { ops, events: vec![event] }
}

/// The rules that are broken where one member finds this, and another all that there is.
fn broken(found: impl Into<Vec<Found>>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for violation in check(&history([read("ann", all_found()), read("bob", found)]), true) {
        assert!(violation.what.starts_with("room: "), "{}", violation.what);
        if !rules.contains(&violation.rule) {
            rules.push(violation.rule);
        }
    }
    rules
}

#[test]
fn what_everybody_reads_once_and_in_order_is_good() {
    assert_eq!(broken(all_found()), []);
    let counted = counts(&history([read("ann", all_found()), read("bob", all_found())]));
    let readers = [("ann".to_owned(), 3), ("bob".to_owned(), 3)].into();
    let expected =
        Conversation { room: "room".to_owned(), acknowledged: 2, refused: 1, unknown: 1, readers, readings: 2 };
    assert_eq!(counted, [expected]);
}

#[test]
fn what_nobody_knows_is_there_or_not_and_may_come_late() {
    let without = [at(1, "ann", "1"), at(3, "bob", "1")];
    let both = history([read("ann", without.clone()), read("bob", without.clone())]);
    assert_eq!(check(&both, true), [], "not there with anybody");
    let late = [at(1, "ann", "1"), at(3, "bob", "1"), at(4, "ann", "2")];
    let late = history([read("ann", without.clone()), read("bob", late)]);
    assert_eq!(check(&late, true), [], "it arrived while they read");
    assert_eq!(broken(without), [Rule::MessagesDisordered], "one of them did not get all of what is there");
}

#[test]
fn an_acknowledged_message_is_with_every_reader() {
    let found = check(&history([read("ann", all_found()), read("bob", [at(1, "ann", "1"), at(2, "ann", "2")])]), true);
    let [lost] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((lost.rule, lost.op), (Rule::LostMessage, Some(30)), "it stands where it was said");
    assert!(lost.what.contains("'1' of bob") && lost.what.contains("what bob read"), "{}", lost.what);
    assert!(broken([]).contains(&Rule::LostMessage), "nothing at all");
    // Whoever read before it was acknowledged does not count.
    let early = Op { begin_us: 40, ..read("cid", [at(1, "ann", "1"), at(2, "ann", "2")]) };
    assert_eq!(check(&history([read("ann", all_found()), read("bob", all_found()), early]), true), []);
}

#[test]
fn after_each_fault_everything_is_there_not_only_in_the_end() {
    let in_the_end = || [read("ann", all_found()), read("bob", all_found())];
    let after = |found: &[Found]| Op { op: 60, begin_us: 60, end_us: 65, ..read("ann", found) };
    let so_far = [at(1, "ann", "1"), at(2, "ann", "2"), at(3, "bob", "1")];
    let judged = |op| check(&history([op].into_iter().chain(in_the_end())), true);
    assert_eq!(judged(after(&so_far)), []);
    let found = judged(after(&so_far[..2]));
    let [lost] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(lost.rule, Rule::LostMessage, "also one that came back");
    assert!(lost.what.ends_with("is missing in what ann read (first in operation 60)"), "{}", lost.what);
    // Whoever has read early says nothing of what came later: the others are compared with each other.
    let early = Op { begin_us: 22, end_us: 24, ..read("ann", [at(1, "ann", "1")]) };
    let differs = read("bob", [at(1, "ann", "1"), at(3, "bob", "1")]);
    let found = check(&history([early, read("ann", all_found()), differs]), true);
    assert_eq!(found.iter().map(|violation| violation.rule).collect::<Vec<_>>(), [Rule::MessagesDisordered]);
}

#[test]
fn a_message_is_there_once() {
    let twice = [all_found(), vec![at(4, "ann", "1")]].concat();
    assert_eq!(broken(twice), [Rule::DoubledMessage]);
    let unknown = [all_found(), vec![at(4, "ann", "2")]].concat();
    assert_eq!(broken(unknown), [Rule::DoubledMessage], "once at most, also where nobody knew");
    let same_frame = Found { seq: 4, what: Content::Doubled("it has come before".to_owned()) };
    assert_eq!(broken([all_found(), vec![same_frame]].concat()), [Rule::DoubledMessage]);
}

#[test]
fn nothing_else_is_there() {
    let more = |what| [all_found(), vec![Found { seq: 4, what }]].concat();
    let stranger = Content::Said { by: "eve".to_owned(), text: "1".to_owned() };
    assert_eq!(broken(more(stranger)), [Rule::ForeignMessage]);
    assert_eq!(broken(more(Content::Refused("it is unsigned".to_owned()))), [Rule::ForeignMessage]);
    let not_said = Content::Said { by: "bob".to_owned(), text: "2".to_owned() };
    assert_eq!(broken(more(not_said)), [Rule::RefusedWriteSeen]);
}

#[test]
fn everybody_reads_the_same_order_and_one_that_can_be() {
    let swapped = [at(1, "ann", "2"), at(2, "ann", "1"), at(3, "bob", "1")];
    assert_eq!(broken(swapped), [Rule::MessagesDisordered], "not what the other read");
    // All read the same: but the one was acknowledged before the other began.
    let backwards = || vec![at(2, "bob", "1"), at(3, "ann", "1")];
    let both = History {
        ops: vec![
            say("ann", "1", 3, (10, 20), Outcome::Ok),
            say("bob", "1", 2, (30, 50), Outcome::Ok),
            read("ann", backwards()),
            read("bob", backwards()),
        ],
        events: Vec::new(),
    };
    let found: Vec<Rule> = check(&both, true).into_iter().map(|violation| violation.rule).collect();
    assert_eq!(found, [Rule::MessagesDisordered; 2], "once for each reader");
    let back = [at(1, "ann", "1"), at(3, "bob", "1"), at(2, "ann", "2")];
    assert_eq!(broken(back), [Rule::MessagesDisordered], "the numbers go back");
    let moved = [at(1, "ann", "1"), at(2, "ann", "2"), at(4, "bob", "1")];
    assert_eq!(broken(moved), [Rule::MessagesDisordered], "not where its acknowledgement said");
}

#[test]
fn what_nobody_read_proves_nothing() {
    let rules = |readings: Vec<Op>| -> Vec<Rule> {
        check(&history(readings), true).into_iter().map(|violation| violation.rule).collect()
    };
    assert_eq!(rules(Vec::new()), [Rule::TooLittleLoad]);
    assert_eq!(rules(vec![read("ann", all_found())]), [Rule::TooLittleLoad], "one alone");
    let failed = Op { outcome: Outcome::Refused, ..read("cid", []) };
    let readings = vec![read("ann", all_found()), read("bob", all_found()), failed];
    assert_eq!(rules(readings), [Rule::FailedOperation], "who could not read at all");
    assert_eq!(check(&History::default(), false), []);
}

/// The same place in the history that daemons keep.
fn carried(seq: u64) -> u64 {
    FIRST_KEPT + 10 * seq
}

#[test]
fn what_was_carried_over_has_other_numbers_in_the_same_order() {
    let moved = || vec![at(carried(1), "ann", "1"), at(carried(2), "ann", "2"), at(carried(3), "bob", "1")];
    let judged = |found: Vec<Found>| {
        let found = check(&history([read("ann", moved()), read("bob", found)]), true);
        found.into_iter().map(|violation| violation.rule).collect::<Vec<_>>()
    };
    assert_eq!(judged(moved()), []);
    assert_eq!(judged(all_found()), [], "bob read before");
    assert_eq!(judged(vec![at(1, "ann", "1"), at(2, "ann", "2"), at(carried(3), "bob", "1")]), [], "meanwhile");
    assert!(judged(moved()[..2].to_vec()).contains(&Rule::LostMessage));
    let swapped = vec![at(carried(1), "bob", "1"), at(carried(2), "ann", "2"), at(carried(3), "ann", "1")];
    assert!(judged(swapped).contains(&Rule::MessagesDisordered));
    let twice = [moved(), vec![at(carried(4), "ann", "1")]].concat();
    assert!(judged(twice).contains(&Rule::DoubledMessage));
    // Nothing is carried back, and among numbers of one kind they are the same.
    let other = vec![at(1, "ann", "1"), at(2, "ann", "2"), at(4, "bob", "1")];
    assert_eq!(broken(other), [Rule::MessagesDisordered]);
}

#[test]
fn what_is_carried_over_in_another_order_is_told_whatever_the_clocks_say() {
    // Both were said at the same time, so only their numbers tell.
    let ops = vec![say("ann", "1", 1, (10, 20), Outcome::Ok), say("bob", "1", 2, (10, 20), Outcome::Ok)];
    let swapped = vec![at(carried(1), "bob", "1"), at(carried(2), "ann", "1")];
    let readings = [read("ann", swapped.clone()), read("bob", swapped)];
    let history = History { ops: ops.into_iter().chain(readings).collect(), ..history([]) };
    let found = check(&history, true);
    assert!(found.iter().all(|violation| violation.rule == Rule::MessagesDisordered) && found.len() == 2, "{found:?}");
}
