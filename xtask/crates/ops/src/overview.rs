//! One screen about a cluster: what it is like, then nodes, leader, replicas, lease, certificates, clients, engine.

use std::fmt::Write as _;

use crate::local_time;
use crate::posture::{Posture, ROOMS};
use crate::ui::{Cell, Style, Table, Tone};
use crate::verify::{
    Answer, CERTIFICATE_DAYS, Cause, Check, Diagnosis, Expected, State, checks, diagnose, headline, is_old,
};

/// The screen, and what of it counts as a change where every change is printed anew.
pub struct Overview {
    /// What a terminal shows.
    pub text: String,
    /// What has to differ for a new line in a log.
    pub gist: String,
    /// Whether the bus works.
    pub state: State,
}

/// What the nodes said, on one screen, as of `now_ms`.
pub fn overview(expected: &Expected, answers: &[Answer], now_ms: i64, style: Style) -> Overview {
    let checks = checks(expected, answers);
    let diagnosis = diagnose(expected, answers, &checks);
    let columns = [
        "node",
        "state",
        "routes",
        "leader",
        "replicas",
        "lease",
        "clients",
        "certificates",
        "disk",
        "engine",
        "level",
        "version",
    ];
    let mut table = Table::new(&columns);
    let mut gist = diagnosis.gist();
    for answer in answers {
        match &answer.posture {
            Ok(posture) => {
                let _ = write!(gist, "; {} {:?}", answer.node, leader(posture));
                table.row(row(expected, answer, posture, state(answer, posture, &diagnosis, &checks)));
            }
            Err(why) => {
                let _ = write!(gist, "; {} {:?}", answer.node, why.kind);
                let name = Cell::toned(Tone::Bold, answer.node.as_str());
                table.row(vec![name, Cell::toned(Tone::Bad, why.brief())]);
            }
        }
    }
    let clock = style.paint(Tone::Dim, &local_time::date_and_time(now_ms));
    let mut text = format!("{}\n{clock}\n\n{}", headline(&diagnosis, style), table.fitted(style));
    if !diagnosis.causes.is_empty() {
        text.push('\n');
    }
    for cause in &diagnosis.causes {
        text.push_str(&told(cause, style));
    }
    for check in checks.iter().filter(|check| check.warns) {
        let _ = writeln!(text, "\n{}\n  next: {}", style.paint(Tone::Warn, &check.got), check.remedy);
    }
    for check in checks.iter().filter(|check| check.informs) {
        let _ = writeln!(text, "\n{}\n  next: {}", check.got, check.remedy);
    }
    let failed = checks.iter().filter(|check| !check.ok).count();
    let verdict = match failed {
        0 => format!("all {} checks hold", checks.len()),
        _ => format!("{failed} of {} checks failed; each: {}", checks.len(), expected.remedies.verb("verify")),
    };
    let _ = writeln!(text, "\n{verdict}");
    Overview { text, gist, state: diagnosis.state }
}

/// A cause in three lines at most: an operator does not read a column of a table that is always there.
fn told(cause: &Cause, style: Style) -> String {
    let found = cause.got.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    let found = if found.is_empty() { String::new() } else { format!("  {found}\n") };
    format!("{}\n{found}  next: {}\n", style.paint(Tone::Bold, &cause.cause), cause.next)
}

fn leader(posture: &Posture) -> Option<&str> {
    posture.cluster.as_ref().and_then(|cluster| cluster.leader.as_deref())
}

/// Whether a node serves, and whether that is all.
fn state(answer: &Answer, posture: &Posture, diagnosis: &Diagnosis, checks: &[Check]) -> Cell {
    let holds = checks.iter().all(|check| check.ok || check.node != answer.node);
    match (posture.lease.valid, diagnosis.state) {
        (false, _) => Cell::toned(Tone::Bad, "denies"),
        (true, State::Denied) => Cell::toned(Tone::Bad, "ends soon"),
        (true, _) if holds => Cell::toned(Tone::Good, "ok"),
        (true, _) => Cell::toned(Tone::Warn, "serves"),
    }
}

fn row(expected: &Expected, answer: &Answer, posture: &Posture, state: Cell) -> Vec<Cell> {
    let others = expected.nodes.len().saturating_sub(1);
    let routes = posture.cluster.as_ref().map_or(0, |cluster| cluster.peers.len());
    let of_buckets = || posture.replicas.iter().filter(|replica| replica.bucket != ROOMS);
    let current = of_buckets().filter(|replica| replica.current == Some(replica.want)).count();
    let buckets = of_buckets().count();
    let lease = match (posture.lease.valid, posture.lease.age_ms) {
        (true, Some(age)) => format!("{age} ms"),
        (true, None) => "valid".to_owned(),
        (false, _) => "none".to_owned(),
    };
    let days = posture
        .certificates
        .iter()
        .map(|certificate| certificate.not_after_unix.saturating_sub(answer.received_ms / 1000) / 86_400)
        .min();
    let certificates = days.map_or_else(|| "none".to_owned(), |days| format!("{days} days"));
    vec![
        Cell::toned(Tone::Bold, answer.node.as_str()),
        state,
        Cell::judged(routes == others, format!("{routes}/{others}")),
        match leader(posture) {
            Some(leader) => leader.into(),
            None => Cell::toned(Tone::Bad, "none"),
        },
        Cell::judged(buckets > 0 && current == buckets, format!("{current}/{buckets} x{}", posture.kv_replicas)),
        Cell::judged(posture.lease.valid && !is_old(&posture.lease), lease),
        posture.clients.map_or_else(|| "?".to_owned(), |clients| clients.to_string()).into(),
        Cell::judged(days.is_some_and(|days| days >= CERTIFICATE_DAYS), certificates),
        match &posture.disk {
            Some(disk) => Cell::judged(!disk.is_nearly_full(), format!("{} GiB", disk.free >> 30)),
            None => "?".into(),
        },
        match &posture.engine {
            Some(engine) => engine.version.as_str().into(),
            None => Cell::toned(Tone::Bad, "down"),
        },
        posture.level.map_or_else(|| "?".to_owned(), |level| level.to_string()).into(),
        posture.version.as_str().into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::fixture::NOW_MS;
    use crate::ui::width;
    use crate::verify::fixture::{answers, expected};
    use crate::verify::{NoPosture, Silence};

    fn shown(answers: &[Answer], style: Style) -> Overview {
        overview(&expected(), answers, NOW_MS, style)
    }

    #[test]
    fn a_healthy_cluster_on_one_screen() {
        let screen = shown(&answers(), Style::plain());
        let lines: Vec<&str> = screen.text.lines().collect();
        assert_eq!(lines[0], "3 nodes healthy");
        assert_eq!(lines[1], local_time::date_and_time(NOW_MS));
        assert_eq!(
            lines[4],
            "magnus    ok     2/2     homer   3/3 x3    300 ms  0        365 days      50 GiB  2.15.1  1      0.1.0"
        );
        assert!(lines.last().unwrap().starts_with("all ") && screen.state == State::Healthy, "{}", screen.text);
    }

    #[test]
    fn nothing_is_lost_and_nothing_is_wider_than_the_terminal() {
        let mut answers = answers();
        answers[0].posture = Err(NoPosture::mute_for(std::time::Duration::from_millis(7_900)));
        for columns in [40, 80, 200] {
            let screen = shown(&answers, Style::of_width(columns));
            let table =
                screen.text.lines().skip(3).take_while(|line| !line.starts_with("magnus gives")).collect::<Vec<_>>();
            assert!(table.iter().all(|line| width(line) <= columns), "{columns}: {}", screen.text);
            let count = |word: &str| table.iter().filter(|line| line.split_whitespace().any(|one| one == word)).count();
            assert_eq!(
                (count("2.15.1"), count("0.1.0"), count("version"), count("GiB")),
                (2, 2, 1, 2),
                "{}",
                screen.text
            );
            assert!(screen.text.contains("magnus    no answer for 7 s\n"), "{}", screen.text);
        }
    }

    #[test]
    fn trouble_is_seen_with_its_cause_and_counts_as_a_change() {
        let well = shown(&answers(), Style::plain());
        let mut answers = answers();
        answers[0].posture = Err(NoPosture::new(Silence::Down, "no daemon runs"));
        let homer = answers[1].posture.as_mut().unwrap();
        (homer.lease.valid, homer.admins) = (false, None);
        let ill = shown(&answers, Style::plain());
        assert!(ill.text.starts_with("magnus is down, and 1 thing more; the bus works (1 of 3)\n"), "{}", ill.text);
        assert!(ill.text.contains("magnus: no daemon runs\n  next: cargo xtask local start magnus\n"), "{}", ill.text);
        assert!(ill.text.contains("homer     denies"), "{}", ill.text);
        assert!(ill.text.contains("homer has no lease and denies everything"), "{}", ill.text);
        assert!(ill.text.contains("checks failed; each: cargo xtask verify --local"), "{}", ill.text);
        assert_ne!(well.gist, ill.gist);
        assert_eq!(ill.state, State::Degraded);
    }

    #[test]
    fn a_certificate_that_ends_soon_is_named_with_its_remedy() {
        let mut answers = answers();
        answers[1].posture.as_mut().unwrap().certificates[0].not_after_unix = NOW_MS / 1000 + 29 * 86_400;
        let screen = shown(&answers, Style::plain());
        let said = "the certificate tls/server.crt of homer ends in 29 days\n  homer: tls/server.crt until ";
        assert!(screen.text.contains(said) && screen.text.contains("renews"), "{}", screen.text);
        assert!(screen.text.contains("29 days") && !screen.text.contains("magnus: "), "{}", screen.text);
    }

    #[test]
    fn what_passes_by_itself_is_no_change() {
        let with = |age| {
            let mut answers = answers();
            answers[0].posture.as_mut().unwrap().lease.age_ms = Some(age);
            answers[2].posture = Err(NoPosture::mute_for(std::time::Duration::from_millis(6_000 + age)));
            shown(&answers, Style::plain())
        };
        let (one, other) = (with(300), with(1_900));
        assert_ne!(one.text, other.text);
        assert_eq!(one.gist, other.gist);
    }
}
