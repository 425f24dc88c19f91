//! Who may use which route: a case for each, and nothing without a signature.

use std::time::Instant;

use super::super::call::Target;
use super::super::routes::{self, Access, On, ROUTES, Route};
use super::{identity, node, plain};
use crate::domain::User;

/// Routes that answer without a signature. The list may only become shorter.
const WITHOUT_SIGNATURE: [&str; 4] = ["/healthz", "/livez", "/openapi.json", "/metrics"];

/// Who may use each route: an admin; a user, on somebody else; a user, on himself.
const MAY: [(&str, &str, [bool; 3]); 8] = [
    ("GET", "/v1/me", [true, true, true]),
    ("GET", "/v1/directory", [true, true, true]),
    ("GET", "/v1/users", [true, false, false]),
    ("GET", "/v1/users/{handle}", [true, false, true]),
    ("PUT", "/v1/users/{handle}", [true, false, false]),
    ("PATCH", "/v1/users/{handle}", [true, false, false]),
    ("DELETE", "/v1/users/{handle}", [true, false, false]),
    ("GET", "/v1/audit", [true, false, false]),
];

#[test]
fn every_route_has_an_authorization_case() {
    let node = node();
    let may = |route: &Route, who: &str, on: &str| {
        let Access::Signed(signed) = &route.access else { panic!("{} needs a signature", route.template) };
        let target = |user: &User| signed.on.target(|_| Some(on.to_owned()), user);
        let key = identity(who).sign_pub;
        let allowed = routes::authorize(&node.shared, &key, signed, target, Instant::now());
        let allowed = allowed.map(|(user, target)| {
            assert_eq!(user.handle.as_str(), who);
            match signed.on {
                On::Bus => assert_eq!(target, Target::Bus),
                On::Caller => assert_eq!(target, Target::User(user.handle)),
                On::User => assert_eq!(target, Target::User(on.parse().unwrap())),
                On::NewUser => assert_eq!(target, Target::NewUser(on.parse().unwrap())),
            }
        });
        allowed.is_ok()
    };
    for route in ROUTES {
        let (method, template) = (route.method.as_str(), route.template);
        if WITHOUT_SIGNATURE.contains(&template) {
            assert!(
                !matches!(route.access, Access::Signed(_)) && method == "GET",
                "{method} {template}: list it no more"
            );
            continue;
        }
        let case = MAY.iter().find(|(m, t, _)| (*m, *t) == (method, template));
        let (.., wanted) = case.unwrap_or_else(|| panic!("{method} {template} has no authorization case"));
        let got = [may(route, "admin", "bob"), may(route, "alice", "bob"), may(route, "alice", "alice")];
        assert_eq!(got, *wanted, "{method} {template}");
        assert!(!may(route, "gone", "gone"), "{method} {template}: a disabled user");
        assert!(!may(route, "nobody", "bob"), "{method} {template}: an unknown key");
    }
    assert_eq!(ROUTES.len(), MAY.len() + WITHOUT_SIGNATURE.len(), "a case for a route that is not there");
    assert!(ROUTES.iter().filter(|route| matches!(route.access, Access::Loopback(_))).count() == 1);
}

#[tokio::test]
async fn without_a_signature_nothing_but_the_list_is_answered() {
    let node = node();
    for route in ROUTES {
        let target = route.template.replace("{handle}", "bob");
        let answer = node.send(plain(route.method.as_str(), &target)).await;
        match route.access {
            Access::Open(_) => assert!(answer.status == 200, "{target} {answer:?}"),
            Access::Loopback(_) => assert_eq!(answer.slug(), "not-found", "{target}"),
            Access::Signed(_) => {
                assert_eq!(answer.slug(), "signature-missing", "{target}");
                assert!(answer.headers.contains_key("www-authenticate"));
            }
        }
    }
    let nowhere = node.send(plain("GET", "/v1/nowhere")).await;
    assert_eq!((nowhere.status.as_u16(), nowhere.slug().as_str()), (404, "not-found"));
    for made_up in ["POST", "OPTIONS", "TRACE", "FROBNICATE"] {
        let answer = node.send(plain(made_up, "/v1/users/bob")).await;
        assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (405, "method-not-allowed"), "{made_up}");
        assert_eq!(answer.headers["allow"], "GET, PUT, PATCH, DELETE, HEAD");
    }
    let metrics = node.send_from("127.0.0.1:1000", plain("GET", "/metrics")).await;
    assert!(metrics.text.contains("unibus_api_refusals_total{problem=\"signature-missing\"} 8"), "{}", metrics.text);
    assert!(metrics.text.contains("route=\"none\",method=\"GET\",status=\"404\"} 1"), "{}", metrics.text);
    assert!(metrics.text.contains("method=\"other\",status=\"405\"} 2"), "{}", metrics.text);
}
