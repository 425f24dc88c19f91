//! This node's view of the buckets that decide access, fed in the order in which they were committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::bus::Bucket;
use crate::domain::{Handle, SignPub, State, User};

/// Key of a user's record.
pub fn user_key(handle: &Handle) -> String {
    format!("user.{handle}")
}

/// Key that claims a signing key for one handle, for good: two users never share a key.
pub fn claim_key(key: &SignPub) -> String {
    format!("key.{key}")
}

/// Key of a node's heartbeat in each bucket.
pub fn heartbeat_key(node: &str) -> String {
    format!("heartbeat.{node}")
}

/// What the keys of the registers begin with that `load` writes to see whether writes work. They decide nothing.
pub const PROBE_PREFIX: &str = "probe.";

/// Key that says whether, and with whom, the cluster was initialized.
pub const INITIALIZED_KEY: &str = "initialized";

/// What a node writes into each deciding bucket once a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Identity of the daemon's process.
    pub boot: String,
    /// Number of the round.
    pub round: u64,
}

/// The first admin, as the cluster remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initialized {
    /// Its handle.
    pub handle: Handle,
    /// Its key.
    pub sign_pub: SignPub,
    /// Whether its record was made; after that the claim is history and never acts again.
    pub done: bool,
}

/// A value and the revision that a change of it must name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Its revision: the sequence of its message in the bucket's stream.
    pub revision: u64,
}

/// What an entry changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that concerns access.
    None,
    /// A user was made or changed; its connections have to be looked at.
    User(Handle),
    /// A heartbeat of a node.
    Heartbeat(String, Heartbeat),
}

/// An entry that makes no sense. The view is then no proof of anything.
#[derive(Debug, thiserror::Error)]
#[error("entry '{key}' of {bucket} at revision {revision} is not understood: {why}")]
pub struct Unreadable {
    /// Name of the bucket.
    pub bucket: &'static str,
    /// Key of the entry.
    pub key: String,
    /// Its revision.
    pub revision: u64,
    /// What is wrong with it.
    pub why: String,
}

/// The view.
#[derive(Debug, Default)]
pub struct View {
    users: BTreeMap<Handle, Versioned<User>>,
    claims: HashMap<SignPub, Handle>,
    initialized: Option<Versioned<Initialized>>,
    nodes: BTreeSet<String>,
}

impl View {
    /// Applies one entry of a bucket.
    pub fn apply(&mut self, bucket: Bucket, key: &str, value: &[u8], revision: u64) -> Result<Change, Unreadable> {
        let unreadable = |why: String| Unreadable { bucket: bucket.name(), key: key.to_owned(), revision, why };
        let json = |e: serde_json::Error| unreadable(e.to_string());
        if let Some(node) = key.strip_prefix("heartbeat.") {
            let heartbeat = serde_json::from_slice(value).map_err(json)?;
            self.nodes.insert(node.to_owned());
            return Ok(Change::Heartbeat(node.to_owned(), heartbeat));
        }
        if bucket != Bucket::Users {
            return Ok(Change::None);
        }
        if key.starts_with(PROBE_PREFIX) {
            return Ok(Change::None);
        }
        if key == INITIALIZED_KEY {
            self.initialized = Some(Versioned { value: serde_json::from_slice(value).map_err(json)?, revision });
            return Ok(Change::None);
        }
        if let Some(hex) = key.strip_prefix("key.") {
            let claimed = hex.parse::<SignPub>().map_err(|e| unreadable(e.to_string()))?;
            let handle: Handle = serde_json::from_slice(value).map_err(json)?;
            self.claims.insert(claimed, handle);
            return Ok(Change::None);
        }
        if let Some(handle) = key.strip_prefix("user.") {
            let user: User = serde_json::from_slice(value).map_err(json)?;
            if user.handle.as_str() != handle {
                return Err(unreadable(format!("the record is that of '{}'", user.handle)));
            }
            let handle = user.handle.clone();
            self.users.insert(handle.clone(), Versioned { value: user, revision });
            return Ok(Change::User(handle));
        }
        Err(unreadable("no such kind of entry; a newer membershipd may have written it".to_owned()))
    }

    /// The user with this handle.
    pub fn user(&self, handle: &Handle) -> Option<&Versioned<User>> {
        self.users.get(handle)
    }

    /// All users, tombstones included, by handle.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values().map(|versioned| &versioned.value)
    }

    /// The handle for which a key was claimed.
    pub fn claimed_by(&self, key: &SignPub) -> Option<&Handle> {
        self.claims.get(key)
    }

    /// The user whose key this is: the claim and the record must agree.
    pub fn user_of_key(&self, key: &SignPub) -> Option<&User> {
        let user = &self.users.get(self.claims.get(key)?)?.value;
        (user.sign_pub == *key).then_some(user)
    }

    /// Whether, and with whom, the cluster was initialized.
    pub fn initialized(&self) -> Option<&Versioned<Initialized>> {
        self.initialized.as_ref()
    }

    /// Names of all nodes that ever wrote a heartbeat.
    pub fn nodes(&self) -> impl Iterator<Item = &String> {
        self.nodes.iter()
    }

    /// Number of admins who are admitted.
    pub fn admins(&self) -> usize {
        self.users().filter(|u| u.role == crate::domain::Role::Admin && u.state == State::Active).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Role;

    fn user(handle: &str, seed: u8) -> User {
        let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [seed; 32]).unwrap();
        User {
            handle: handle.parse().unwrap(),
            sign_pub: SignPub::from_nkey(&pair.public_key()).unwrap(),
            role: Role::Admin,
            state: State::Active,
        }
    }

    fn put(view: &mut View, key: &str, value: &impl Serialize, revision: u64) -> Result<Change, Unreadable> {
        view.apply(Bucket::Users, key, &serde_json::to_vec(value).unwrap(), revision)
    }

    #[test]
    fn a_key_admits_only_where_claim_and_record_agree() {
        let (alice, mallory) = (user("alice", 1), user("mallory", 1));
        let mut view = View::default();
        put(&mut view, &user_key(&alice.handle), &alice, 1).unwrap();
        assert!(view.user_of_key(&alice.sign_pub).is_none(), "no claim yet");
        put(&mut view, &claim_key(&alice.sign_pub), &alice.handle, 2).unwrap();
        assert_eq!(view.user_of_key(&alice.sign_pub), Some(&alice));
        put(&mut view, &user_key(&mallory.handle), &mallory, 3).unwrap();
        assert_eq!(view.user_of_key(&alice.sign_pub), Some(&alice), "a second record with the key changes nothing");
    }

    #[test]
    fn nonsense_is_an_error_and_not_skipped() {
        let mut view = View::default();
        assert!(view.apply(Bucket::Users, "user.alice", b"{}", 1).is_err());
        assert!(view.apply(Bucket::Users, "unknown.kind", b"{}", 1).is_err());
        assert!(put(&mut view, "user.bob", &user("alice", 1), 2).is_err(), "a record under another handle");
    }

    #[test]
    fn registers_of_load_decide_nothing() {
        let mut view = View::default();
        assert_eq!(view.apply(Bucket::Users, "probe.3", b"anything", 1).unwrap(), Change::None);
        assert_eq!(view.users().count(), 0);
    }
}
