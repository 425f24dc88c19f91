//! What counts as proof.

use std::collections::BTreeSet;

use super::proof::{Route, parse_routes};
use super::{Shown, Wanted, unproved};
use crate::posture::fixture::healthy;

const ALL: [&str; 3] = ["a", "b", "c"];

fn wanted() -> Vec<Wanted> {
    let one = |(node, n): (&str, u8)| Wanted {
        node: node.to_owned(),
        address: format!("192.0.2.{n}:6250").parse().unwrap(),
        leaf: format!("leaf of {node}, which is long"),
        trusts: BTreeSet::from(["the old CA".to_owned(), "the new CA".to_owned()]),
    };
    ALL.into_iter().zip(1..).map(one).collect()
}

/// Every node as it should be.
fn shown() -> Vec<Shown> {
    let wanted = wanted();
    let one = |want: &Wanted| {
        let mut posture = healthy(&want.node, &ALL);
        posture.certificates[1].name = "route".to_owned();
        posture.certificates[1].sha256 = vec![want.leaf.clone()];
        let mut ca = posture.certificates[1].clone();
        ca.name = "cluster-ca".to_owned();
        ca.sha256 = want.trusts.iter().rev().cloned().collect();
        posture.certificates.push(ca);
        let met = |other: &Wanted| Route {
            address: other.address.to_string(),
            ok: true,
            sha256: Some(other.leaf.clone()),
            error: None,
        };
        let routes = wanted.iter().filter(|other| other.node != want.node).map(met).collect();
        Shown { node: want.node.clone(), posture: Ok(posture), routes: Ok(routes) }
    };
    wanted.iter().map(one).collect()
}

/// What is lacking after `breaking` was done to b.
fn lacks(breaking: impl Fn(&mut Shown)) -> String {
    let mut shown = shown();
    breaking(&mut shown[1]);
    let lacks = unproved(&wanted(), &shown);
    assert!(lacks.iter().all(|lack| lack.starts_with("b: ")), "{lacks:?}");
    lacks.join("\n")
}

#[test]
fn nodes_that_run_with_the_files_made_here_are_proof() {
    assert_eq!(unproved(&wanted(), &shown()), Vec::<String>::new());
}

#[test]
fn everything_else_is_none() {
    let with = |name: &'static str, sha256: &'static [&'static str]| {
        lacks(move |shown| {
            let posture = shown.posture.as_mut().unwrap();
            let found = posture.certificates.iter_mut().find(|certificate| certificate.name == name).unwrap();
            found.sha256 = sha256.iter().map(|&hash| hash.to_owned()).collect();
        })
    };
    assert!(with("route", &["another"]).contains("runs with the route certificate another, not yet with leaf of b"));
    assert!(with("route", &[]).contains("older than this xtask"));
    assert!(
        with("cluster-ca", &["the old CA"]).contains("trusts the route CA the old CA, not yet the new CA + the old CA")
    );
    assert!(with("cluster-ca", &["the new CA", "the old CA", "a third CA"]).contains("a third CA"));
    assert!(lacks(|shown| shown.posture = Err("no daemon runs".to_owned())).contains("no daemon runs"));
    assert!(lacks(|shown| shown.posture.as_mut().unwrap().lease.valid = false).contains("no lease"));
    assert!(lacks(|shown| shown.posture.as_mut().unwrap().certificates.clear()).contains("names no route certificate"));
    assert!(lacks(|shown| shown.routes = Err("no such verb".to_owned())).contains("no such verb"));
    assert!(lacks(|shown| shown.routes = Ok(Vec::new())).contains("did not try the route to a (192.0.2.1:6250)"));
    let routes = |breaking: fn(&mut Route)| lacks(move |shown| breaking(&mut shown.routes.as_mut().unwrap()[1]));
    let refused = routes(|route| (route.ok, route.error) = (false, Some("unknown CA".to_owned())));
    assert!(refused.contains("fresh handshake with c (192.0.2.3:6250) failed: unknown CA"), "{refused}");
    let old = routes(|route| route.sha256 = Some("the old leaf".to_owned()));
    assert!(old.contains("at c (192.0.2.3:6250) it met the certificate the old leaf, not yet leaf of c"), "{old}");
    assert!(routes(|route| route.sha256 = None).contains("certificate none"));
    let unasked = unproved(&wanted(), &shown()[1..]);
    assert_eq!(unasked, ["a: it was not asked"]);
}

#[test]
fn the_answer_of_a_node_is_read_and_another_schema_refused() {
    let json = br#"{"schema":1,"routes":[{"node":"b","address":"192.0.2.2:6250","ok":false,"issuer":null,
        "not_after_unix":null,"sha256":null,"error":"refused"}]}"#;
    let routes = parse_routes(json).unwrap();
    assert_eq!((routes[0].ok, routes[0].error.as_deref()), (false, Some("refused")));
    assert!(parse_routes(br#"{"schema":2,"routes":[]}"#).unwrap_err().contains("schema 2"));
    assert!(parse_routes(b"").is_err());
}
