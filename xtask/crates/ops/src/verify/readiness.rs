//! Whether a node that was started is ready: the very next command works.

use super::{Answer, Diagnosis, State, is_old};
use crate::posture::{Posture, ROOMS};

/// What `node` still lacks. Of other nodes that are down nothing is awaited, but that the rest goes on without them.
pub fn lacks(node: &str, answers: &[Answer], diagnosis: &Diagnosis) -> Option<String> {
    let answer = answers.iter().find(|answer| answer.node == node)?;
    let posture = match &answer.posture {
        Ok(posture) => posture,
        Err(why) => return Some(why.why().to_owned()),
    };
    if diagnosis.state == State::Denied {
        return Some(diagnosis.headline.clone());
    }
    let absent = |id: &str, nodes: &[String]| id == "reachable" && !nodes.iter().any(|one| one == node);
    let unsettled = diagnosis
        .causes
        .iter()
        .find(|cause| cause.passes && !cause.checks.iter().all(|check| absent(&check.id, &cause.nodes)))
        .map(|cause| cause.cause.clone());
    let reached: Vec<&Posture> = answers.iter().filter_map(|answer| answer.posture.as_ref().ok()).collect();
    own(posture).or(unsettled).or_else(|| copies(posture, &reached)).or_else(|| {
        let pending = reached.iter().any(|posture| posture.bootstrap_pending);
        pending.then(|| "the first admin is not imported yet".to_owned())
    })
}

/// What the node says itself: a cluster that lacks another node may elect a leader just now.
fn own(posture: &Posture) -> Option<String> {
    let leaderless = posture.cluster.as_ref().is_some_and(|cluster| cluster.leader.is_none());
    let lacks = [
        (posture.engine.is_none(), "its engine does not run yet"),
        (leaderless, "no leader is elected yet"),
        (!posture.lease.valid || is_old(&posture.lease), "it has no proof yet that its view is current"),
    ];
    lacks.into_iter().find(|(lacks, _)| *lacks).map(|(_, what)| what.to_owned())
}

/// Copies that engines which run have, and which are not caught up.
fn copies(posture: &Posture, reached: &[&Posture]) -> Option<String> {
    let engines = reached.iter().filter(|posture| posture.engine.is_some()).count();
    let engines = u32::try_from(engines).unwrap_or(u32::MAX);
    let behind = posture
        .replicas
        .iter()
        .filter(|replica| replica.bucket != ROOMS)
        .find(|replica| replica.current.is_none_or(|current| current < replica.want.min(engines)));
    behind.map(|replica| format!("copies of {} are not current yet", replica.bucket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::fixture::NOW_MS;
    use crate::verify::{NoPosture, Silence, checks, diagnose, fixture};

    /// What homer lacks after `breaking` was done to what magnus, homer and datardos say.
    fn lacking(breaking: impl Fn(&mut [Answer])) -> Option<String> {
        let (expected, mut answers) = (fixture::expected(), fixture::answers());
        breaking(&mut answers);
        let diagnosis = diagnose(&expected, &answers, &checks(&expected, &answers));
        lacks("homer", &answers, &diagnosis)
    }

    fn down(answer: &mut Answer) {
        answer.posture = Err(NoPosture::new(Silence::Down, "no daemon runs"));
    }

    /// As the others see it while datardos is down.
    fn without_datardos(answers: &mut [Answer]) {
        down(&mut answers[2]);
        for answer in &mut answers[..2] {
            let posture = answer.posture.as_mut().unwrap();
            posture.cluster.as_mut().unwrap().peers.retain(|peer| peer != "datardos");
            for replica in &mut posture.replicas {
                replica.current = Some(2);
            }
        }
    }

    #[test]
    fn a_node_is_ready_when_nothing_is_missing_that_comes_by_itself() {
        assert_eq!(lacking(|_| {}), None);
        assert_eq!(lacking(without_datardos), None, "one that is down is not awaited");
        assert_eq!(lacking(|answers| down(&mut answers[1])).unwrap(), "no daemon runs");
        let homer = |breaking: fn(&mut Posture)| lacking(move |answers| breaking(answers[1].posture.as_mut().unwrap()));
        assert!(homer(|posture| posture.lease.valid = false).unwrap().contains("no proof yet"));
        assert!(homer(|posture| posture.lease.age_ms = Some(5_001)).unwrap().contains("no proof yet"));
        assert!(homer(|posture| posture.engine = None).unwrap().contains("engine"));
        assert!(homer(|posture| posture.cluster.as_mut().unwrap().leader = None).unwrap().contains("no leader"));
        assert!(homer(|posture| posture.replicas[0].current = Some(2)).unwrap().contains("copies"));
        assert!(homer(|posture| posture.bootstrap_pending = true).unwrap().contains("first admin"));
        // What waiting does not mend.
        assert_eq!(homer(|posture| posture.version = "0.2.0".to_owned()), None);
        assert_eq!(homer(|posture| posture.certificates[0].not_after_unix = NOW_MS / 1000), None);
        assert_eq!(homer(|posture| posture.replicas[0].want = 1).as_deref(), None);
    }

    #[test]
    fn others_see_it_too_before_it_is_ready() {
        let magnus =
            |breaking: fn(&mut Posture)| lacking(move |answers| breaking(answers[0].posture.as_mut().unwrap()));
        assert!(
            magnus(|posture| posture.cluster.as_mut().unwrap().peers.retain(|peer| peer != "homer"))
                .unwrap()
                .contains("no route")
        );
        assert!(magnus(|posture| posture.replicas[0].current = Some(2)).unwrap().contains("copies"));
        let electing = |answers: &mut [Answer]| {
            without_datardos(answers);
            answers[1].posture.as_mut().unwrap().cluster.as_mut().unwrap().leader = None;
        };
        assert!(lacking(electing).unwrap().contains("no leader"), "although the one that is down explains it");
        let behind = |answers: &mut [Answer]| {
            without_datardos(answers);
            answers[1].posture.as_mut().unwrap().replicas[0].current = Some(1);
        };
        assert!(lacking(behind).unwrap().contains("copies"));
    }
}
