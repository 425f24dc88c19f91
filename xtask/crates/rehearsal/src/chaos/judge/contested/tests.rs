use super::*;

/// A write of `content` over `expected` from `begin` to `end`.
pub(super) fn write(content: &str, expected: u64, (begin, end): (u64, u64), outcome: Outcome) -> Op {
    Op {
        op: begin,
        kind: Kind::ApiWrite,
        key: Some("record".to_owned()),
        value: Some(content.to_owned()),
        expected: Some(expected),
        revision: None,
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

/// The same, acknowledged with the revision that it made.
pub(super) fn written(content: &str, expected: u64, revision: u64, time: (u64, u64)) -> Op {
    Op { revision: Some(revision), ..write(content, expected, time, Outcome::Ok) }
}

pub(super) fn read(content: &str, revision: u64, time: (u64, u64)) -> Op {
    let read = write(content, 0, time, Outcome::Ok);
    Op { kind: Kind::ApiRead, expected: None, revision: Some(revision), ..read }
}

pub(super) fn judged(ops: Vec<Op>, stale_us: u64) -> Vec<Violation> {
    check(&History { ops, events: Vec::new() }, stale_us)
}

fn rules(ops: Vec<Op>) -> Vec<Rule> {
    judged(ops, 0).into_iter().map(|violation| violation.rule).collect()
}

/// Two writes, one after the other, and what is added to them.
fn chain_and(more: impl IntoIterator<Item = Op>) -> Vec<Op> {
    [written("a", 0, 5, (10, 20)), written("b", 5, 7, (30, 40))].into_iter().chain(more).collect()
}

/// Whether it was found not to be linearizable, and nothing else was.
fn wrong(ops: impl Into<Vec<Op>>) -> bool {
    let rules = rules(ops.into());
    !rules.is_empty() && rules.iter().all(|rule| *rule == Rule::NotLinearizable)
}

#[test]
fn what_happened_in_order_is_good() {
    let good = [
        read("a", 5, (15, 25)),
        read("a", 5, (22, 35)),
        read("b", 7, (35, 36)),
        read("b", 7, (50, 60)),
        // Too late, and refused.
        write("c", 5, (45, 50), Outcome::Refused),
        // Nobody ever learns of it.
        write("d", 7, (45, 50), Outcome::Unknown),
    ];
    assert_eq!(rules(chain_and(good)), []);
}

#[test]
fn a_read_of_what_was_replaced_before_is_stale() {
    let stale = || chain_and([read("a", 5, (45, 50))]);
    let found = judged(stale(), 0);
    assert_eq!((found.len(), found[0].rule, found[0].op), (1, Rule::NotLinearizable, Some(45)));
    assert!(found[0].what.contains("showed revision 5"), "{}", found[0].what);
    // A view may be a little behind, and no more.
    assert!(judged(stale(), 5).is_empty());
    assert_eq!(judged(stale(), 4).len(), 1);
    // Also where the write itself is only known from a read.
    let unheard = [
        written("a", 0, 5, (10, 20)),
        write("b", 5, (30, 40), Outcome::Unknown),
        read("b", 7, (50, 60)),
        read("a", 5, (65, 70)),
    ];
    assert!(wrong(unheard));
}

#[test]
fn two_successes_on_one_revision_are_a_lost_update() {
    assert!(wrong(chain_and([written("c", 5, 9, (30, 40))])));
    // Whether their revisions were learned or not, and whether they were made or claimed.
    assert!(wrong(chain_and([write("c", 5, (30, 40), Outcome::Ok)])));
    assert!(wrong(chain_and([written("c", 5, 7, (30, 40))])), "one revision, two contents");
    let twice =
        [written("a", 0, 5, (10, 20)), write("b", 5, (30, 40), Outcome::Ok), write("c", 5, (30, 40), Outcome::Ok)];
    assert!(wrong(twice));
}

#[test]
fn an_acknowledged_write_does_not_vanish() {
    // The next one replaces what was there before it.
    assert!(wrong(chain_and([written("c", 5, 9, (50, 60)), read("c", 9, (70, 80))])));
    // Its revision is given again.
    assert!(wrong(chain_and([read("c", 7, (70, 80))])));
    // It was acknowledged without a revision, and is not there later.
    let vanished = [written("a", 0, 5, (10, 20)), write("b", 5, (30, 40), Outcome::Ok), read("a", 5, (50, 60))];
    assert!(wrong(vanished));
    // It claims a revision that is not above the one that it replaced.
    assert!(wrong(chain_and([written("c", 7, 7, (50, 60))])));
    assert!(wrong(chain_and([written("c", 6, 9, (50, 60))])), "over nothing");
}

#[test]
fn a_write_of_unknown_outcome_may_happen_later_or_never() {
    let unknown = |end| write("c", 7, (45, end), Outcome::Unknown);
    assert_eq!(rules(chain_and([unknown(50), read("b", 7, (60, 70)), read("c", 9, (80, 90))])), []);
    assert_eq!(rules(chain_and([unknown(50), written("d", 9, 11, (60, 70)), read("c", 9, (55, 58))])), []);
    assert!(wrong(chain_and([unknown(50), read("c", 9, (30, 40))])), "not before it was asked for");
    assert!(wrong(chain_and([write("c", 5, (45, 50), Outcome::Unknown), read("c", 9, (60, 70))])));
    assert!(wrong(chain_and([read("x", 9, (60, 70))])), "nobody wrote it");
}

#[test]
fn a_write_that_was_certainly_not_done_is_not_there() {
    let refused = write("c", 7, (45, 50), Outcome::Refused);
    assert_eq!(rules(chain_and([refused, read("c", 9, (60, 70))])), [Rule::RefusedWriteSeen]);
}

#[test]
fn a_write_is_there_from_its_acknowledgement_and_not_before_its_beginning() {
    assert!(wrong(chain_and([read("b", 7, (25, 28))])));
    // An order of revisions against the order of time.
    let crossed = [written("a", 0, 5, (10, 20)), written("b", 5, 7, (2, 4))];
    assert!(wrong(crossed));
}

#[test]
fn each_record_is_judged_by_itself() {
    let of = |key: &str, op: Op| Op { key: Some(key.to_owned()), ..op };
    let ops = ["x", "y"].map(|key| of(key, written("a", 0, 5, (10, 20))));
    assert_eq!(rules(ops.to_vec()), []);
}
