//! Keys: those of users are set once, those of rooms begin one after the other, and each member is given his own.

use serde_json::{Value, json};

use super::{Answer, Node, identity, node, rooms};
use unibus_api_types::problem::Kind;
use unibus_core::domain::{Handle, RoomId};
use unibus_crypto::{Envelope, Epoch, RoomKey, Sealing};
use unibus_store::faulty::Fault;

/// Calls of the store that beginning an epoch makes: nonce, reads, two records, the epoch, the hint.
const CALLS: usize = 9;

impl Node {
    async fn set_hpke(&self, who: &str) -> Answer {
        let (own, pair) = (identity(who).recipient().unwrap(), identity(who).key_pair().unwrap());
        let body = json!({ "hpke_pub": own.hpke_pub, "signature": own.vouch(&pair).unwrap() });
        self.say(who, "PUT", "/v1/me/hpke", body).await
    }

    async fn begin(&self, who: &str, epoch: u32, key: &RoomKey, for_whom: &[&str]) -> Answer {
        let room: RoomId = "hall".parse().unwrap();
        let (by, number): (Handle, _) = (who.parse().unwrap(), Epoch::new(epoch).unwrap());
        let key_id = key.id(&room, number).unwrap();
        let sealing = Sealing { room: &room, epoch: number, by: &by, key: key_id };
        let pair = identity(who).key_pair().unwrap();
        let envelopes: serde_json::Map<String, Value> = for_whom
            .iter()
            .map(|to| {
                let envelope = sealing.seal(key, &identity(to).recipient().unwrap(), &pair).unwrap();
                ((*to).to_owned(), serde_json::to_value(envelope).unwrap())
            })
            .collect();
        let body = json!({ "key_id": key_id, "envelopes": envelopes });
        self.say(who, "PUT", &format!("/v1/rooms/hall/keys/{epoch}"), body).await
    }

    async fn newest(&self, who: &str) -> Value {
        self.ask(who, "GET", "/v1/rooms/hall/keys").await.json()
    }

    async fn open(&self, who: &str, epoch: u32) -> Result<RoomKey, String> {
        let answer = self.ask(who, "GET", &format!("/v1/rooms/hall/keys/{epoch}")).await;
        if answer.status != 200 {
            return Err(answer.slug());
        }
        let document = answer.json();
        let envelope: Envelope = serde_json::from_value(document["envelope"].clone()).unwrap();
        let by: Handle = document["by"].as_str().unwrap().parse().unwrap();
        let room = "hall".parse().unwrap();
        let key = document["key_id"].as_str().unwrap().parse().unwrap();
        let sealing = Sealing { room: &room, epoch: Epoch::new(epoch).unwrap(), by: &by, key };
        let (own, secret) = (identity(who).recipient().unwrap(), identity(who).hpke_secret().unwrap());
        Ok(sealing.open(&envelope, &own, &secret, identity(by.as_str()).sign_pub).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_users_hpke_key_is_his_by_his_own_word_and_never_changes() {
    let node = node();
    rooms::hall(&node).await;
    let before = node.ask("bob", "GET", "/v1/directory/alice").await.json();
    assert_eq!((&before["state"], before.get("hpke")), (&json!("active"), None));
    let set = node.set_hpke("alice").await;
    assert_eq!(set.status, 201, "{set:?}");
    assert_eq!(node.set_hpke("alice").await.status, 200);
    assert_eq!(node.ask("bob", "GET", "/v1/directory/alice").await.json(), set.json());
    assert_eq!(node.ask("bob", "GET", "/v1/directory/gone").await.json()["state"], "disabled");
    assert_eq!(node.ask("bob", "GET", "/v1/directory/never").await.slug(), Kind::NO_SUCH_USER.slug);

    let (bob, pair) = (identity("bob").recipient().unwrap(), identity("alice").key_pair().unwrap());
    let foreign = json!({ "hpke_pub": bob.hpke_pub, "signature": bob.vouch(&pair).unwrap() });
    assert_eq!(node.say("bob", "PUT", "/v1/me/hpke", foreign).await.slug(), Kind::NOT_VOUCHED.slug);
    let mut other = identity("alice").recipient().unwrap();
    other.hpke_pub = bob.hpke_pub;
    let another = json!({ "hpke_pub": other.hpke_pub, "signature": other.vouch(&pair).unwrap() });
    assert_eq!(node.say("alice", "PUT", "/v1/me/hpke", another).await.slug(), Kind::HPKE_KEY.slug);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn epochs_begin_one_after_the_other_for_those_who_are_there() {
    let node = node();
    rooms::hall(&node).await;
    let (key, next) = (RoomKey::from_bytes([1; 32]), RoomKey::from_bytes([2; 32]));
    assert_eq!(node.newest("member").await, json!({ "stale": true, "own": false }));
    for who in ["owner", "moderator", "member", "invited", "banned", "alice"] {
        assert_eq!(node.set_hpke(who).await.status, 201);
    }
    let listed = node.ask("member", "GET", "/v1/rooms/hall/recipients").await.json();
    let handles: Vec<_> = listed["recipients"].as_array().unwrap().iter().map(|r| r["handle"].clone()).collect();
    assert_eq!(
        handles,
        ["invited", "member", "moderator", "owner"],
        "the reader has no HPKE key, the banned is not there"
    );
    let there = ["owner", "moderator", "member", "invited"];
    assert_eq!(node.begin("member", 2, &key, &there).await.slug(), Kind::EPOCH_NOT_NEXT.slug);
    for wrong in [&there[..3], &["owner", "moderator", "member", "invited", "banned"]] {
        assert_eq!(node.begin("member", 1, &key, wrong).await.slug(), Kind::RECIPIENTS.slug);
    }
    assert_eq!(node.open("member", 1).await.unwrap_err(), Kind::NO_SUCH_EPOCH.slug);
    let begun = node.begin("member", 1, &key, &there).await;
    assert_eq!((begun.status.as_u16(), begun.json()), (201, json!({ "epoch": 1, "changed": true })));
    assert_eq!(node.begin("member", 1, &key, &there).await.json(), json!({ "epoch": 1, "changed": false }));
    assert_eq!(node.begin("owner", 1, &next, &there).await.slug(), Kind::EPOCH_TAKEN.slug);
    assert_eq!(node.newest("owner").await, json!({ "epoch": 1, "stale": false, "own": true }));
    for who in ["owner", "moderator", "member"] {
        let id = |key: RoomKey| key.id(&"hall".parse().unwrap(), Epoch::FIRST).unwrap();
        assert_eq!(id(node.open(who, 1).await.unwrap()), id(RoomKey::from_bytes([1; 32])));
    }
    assert_eq!(node.open("invited", 1).await.unwrap_err(), "not-joined", "sealed, but not given before he accepts");
    assert_eq!(node.open("reader", 1).await.unwrap_err(), Kind::NOT_SEALED.slug);

    let removed = node.ask("owner", "DELETE", "/v1/rooms/hall/members/moderator").await;
    assert_eq!(removed.status, 200, "{removed:?}");
    assert_eq!(node.newest("owner").await["stale"], true);
    assert_eq!(node.open("moderator", 1).await.unwrap_err(), "not-member");
    assert_eq!(node.begin("owner", 2, &next, &there).await.slug(), Kind::RECIPIENTS.slug);
    assert_eq!(node.begin("owner", 2, &next, &["owner", "member", "invited"]).await.status, 201);
    assert_eq!(node.newest("member").await, json!({ "epoch": 2, "stale": false, "own": true }));
    let audit = node.ask("admin", "GET", "/v1/audit").await.json();
    let rotated = audit["records"].as_array().unwrap().iter().filter(|record| record["action"] == "key.rotate");
    let stages: Vec<_> = rotated.map(|record| record["stage"].clone()).collect();
    assert_eq!(stages, ["begun", "done", "begun", "done"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whatever_fails_on_the_way_the_same_request_completes_it() {
    let key = RoomKey::from_bytes([1; 32]);
    for fault in Fault::ALL {
        for call in 0.. {
            let node = node();
            rooms::hall(&node).await;
            node.set_hpke("owner").await;
            node.faulty.arm(Some((call, fault)));
            let answer = node.begin("owner", 1, &key, &["owner"]).await;
            let known = answer.status.is_success() || answer.status == 503;
            assert!(known, "{fault:?} of call {call}: {answer:?}");
            let fired = node.faulty.fired();
            node.faulty.arm(None);
            assert!(node.begin("owner", 1, &key, &["owner"]).await.status.is_success(), "{fault:?} of call {call}");
            assert_eq!(node.newest("owner").await, json!({ "epoch": 1, "stale": false, "own": true }));
            if !fired && call >= CALLS {
                break;
            }
        }
    }
}
