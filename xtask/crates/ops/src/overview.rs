//! One screen about a cluster: nodes, leader, replicas, lease, certificates, clients, engine.

use std::fmt::Write as _;

use crate::posture::{Posture, ROOMS};
use crate::ui::{Cell, Style, Table, Tone};
use crate::verify::{Answer, CERTIFICATE, CERTIFICATE_DAYS, Expected, all_hold, checks, summary};

/// The screen, and what of it counts as a change where every change is printed anew.
pub struct Overview {
    /// What a terminal shows.
    pub text: String,
    /// What has to differ for a new line in a log.
    pub gist: String,
}

/// What the nodes said, on one screen.
pub fn overview(expected: &Expected, answers: &[Answer], style: Style) -> Overview {
    let checks = checks(expected, answers);
    let columns = [
        "node",
        "state",
        "routes",
        "leader",
        "replicas",
        "lease",
        "certificates",
        "clients",
        "engine",
        "level",
        "version",
    ];
    let mut table = Table::new(&columns);
    let (mut gist, mut reasons) = (String::new(), String::new());
    for answer in answers {
        let failed = checks.iter().filter(|check| !check.ok && check.node == answer.node).count();
        match &answer.posture {
            Ok(posture) => {
                gist.push_str(&format!("{} {failed} {:?};", answer.node, leader(posture)));
                table.row(row(expected, answer, posture, failed));
            }
            Err(why) => {
                gist.push_str(&format!("{} {why};", answer.node));
                table.row(vec![Cell::toned(Tone::Bold, answer.node.as_str()), Cell::toned(Tone::Bad, "no answer")]);
                let _ = writeln!(reasons, "{}: {}", answer.node, why.lines().next().unwrap_or_default());
            }
        }
    }
    // A certificate may be the only thing wrong, and nobody reads a column that is always there.
    for check in checks.iter().filter(|check| !check.ok && check.id.starts_with(CERTIFICATE)) {
        let _ = writeln!(reasons, "{}: {}; {}", check.node, style.paint(Tone::Bad, &check.got), check.remedy);
    }
    for check in checks.iter().filter(|check| check.warns) {
        let _ = writeln!(reasons, "{}; {}", style.paint(Tone::Warn, &check.got), check.remedy);
    }
    for check in checks.iter().filter(|check| check.informs) {
        let _ = writeln!(reasons, "{}; next: {}", check.got, check.remedy);
    }
    let mut text = table.render(style);
    text.push_str(&reasons);
    let verdict = if all_hold(&checks) {
        style.paint(Tone::Good, &format!("all {} checks hold", checks.len()))
    } else {
        style.paint(Tone::Bad, &format!("not as it should be: {}", summary(&checks)))
    };
    text.push_str(&format!("\n{verdict}\n"));
    gist.push_str(&verdict);
    Overview { text, gist }
}

fn leader(posture: &Posture) -> Option<&str> {
    posture.cluster.as_ref().and_then(|cluster| cluster.leader.as_deref())
}

fn row(expected: &Expected, answer: &Answer, posture: &Posture, failed: usize) -> Vec<Cell> {
    let others = expected.nodes.len().saturating_sub(1);
    let routes = posture.cluster.as_ref().map_or(0, |cluster| cluster.peers.len());
    let of_buckets = || posture.replicas.iter().filter(|replica| replica.bucket != ROOMS);
    let current = of_buckets().filter(|replica| replica.current == Some(replica.want)).count();
    let buckets = of_buckets().count();
    let lease = match (posture.lease.valid, posture.lease.age_ms) {
        (true, Some(age)) => format!("{age} ms"),
        (true, None) => "valid".to_owned(),
        (false, _) => "none: denies".to_owned(),
    };
    let days = posture
        .certificates
        .iter()
        .map(|certificate| certificate.not_after_unix.saturating_sub(answer.received_ms / 1000) / 86_400)
        .min();
    let certificates = days.map_or_else(|| "none".to_owned(), |days| format!("{days} days"));
    let state = if failed == 0 { Cell::toned(Tone::Good, "ok") } else { Cell::toned(Tone::Warn, "not yet") };
    vec![
        Cell::toned(Tone::Bold, answer.node.as_str()),
        state,
        Cell::judged(routes == others, format!("{routes}/{others}")),
        match leader(posture) {
            Some(leader) => leader.into(),
            None => Cell::toned(Tone::Bad, "none"),
        },
        Cell::judged(buckets > 0 && current == buckets, format!("{current}/{buckets} x{}", posture.kv_replicas)),
        Cell::judged(posture.lease.valid, lease),
        Cell::judged(days.is_some_and(|days| days >= CERTIFICATE_DAYS), certificates),
        posture.clients.map_or_else(|| "?".to_owned(), |clients| clients.to_string()).into(),
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
    use crate::posture::fixture::{NOW_MS, healthy};
    use crate::verify::Remedies;

    const ALL: [&str; 3] = ["magnus", "homer", "datardos"];

    fn expected() -> Expected {
        Expected {
            cluster: "unibus".to_owned(),
            nodes: ALL.map(str::to_owned).to_vec(),
            kv_replicas: 3,
            engine: None,
            test_build: true,
            remedies: Remedies { flags: " --local".to_owned(), hosts: None },
        }
    }

    fn answers() -> Vec<Answer> {
        let answer = |node: &str| Answer {
            node: node.to_owned(),
            posture: Ok(healthy(node, &ALL)),
            sent_ms: NOW_MS,
            received_ms: NOW_MS,
        };
        ALL.map(answer).to_vec()
    }

    #[test]
    fn a_healthy_cluster_on_one_screen() {
        let screen = overview(&expected(), &answers(), Style::plain());
        let lines: Vec<&str> = screen.text.lines().collect();
        assert_eq!(
            lines[1],
            "magnus    ok     2/2     homer   3/3 x3    300 ms  365 days      0        2.15.1  1      0.1.0"
        );
        assert!(lines.last().unwrap().contains("checks hold"));
    }

    #[test]
    fn trouble_is_seen_and_counts_as_a_change() {
        let well = overview(&expected(), &answers(), Style::plain());
        let mut answers = answers();
        answers[0].posture = Err("no daemon runs".to_owned());
        answers[1].posture.as_mut().unwrap().lease.valid = false;
        let ill = overview(&expected(), &answers, Style::plain());
        assert!(ill.text.contains("magnus: no daemon runs"), "{}", ill.text);
        assert!(ill.text.contains("none: denies"), "{}", ill.text);
        assert!(ill.text.contains("not as it should be: reachable (magnus), lease (homer)"), "{}", ill.text);
        assert_ne!(well.gist, ill.gist);
    }

    #[test]
    fn a_certificate_that_ends_soon_is_named_with_its_remedy() {
        let mut answers = answers();
        answers[1].posture.as_mut().unwrap().certificates[0].not_after_unix = NOW_MS / 1000 + 29 * 86_400;
        let screen = overview(&expected(), &answers, Style::plain());
        let line = screen.text.lines().find(|line| line.starts_with("homer: ")).unwrap();
        assert!(line.contains("tls/server.crt until") && line.contains("renews"), "{line}");
        assert!(screen.text.contains("29 days"), "{}", screen.text);
        assert!(!screen.text.contains("magnus: "), "{}", screen.text);
    }

    #[test]
    fn the_age_of_a_lease_is_no_change() {
        let one = overview(&expected(), &answers(), Style::plain());
        let mut answers = answers();
        answers[0].posture.as_mut().unwrap().lease.age_ms = Some(900);
        let other = overview(&expected(), &answers, Style::plain());
        assert_ne!(one.text, other.text);
        assert_eq!(one.gist, other.gist);
    }
}
