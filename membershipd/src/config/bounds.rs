//! What the API lets a user, an address and all together take of a node: the settings, what they mean, and what is usual.

use serde::{Deserialize, Serialize};

use super::errors::ConfigErrors;

/// How much of something there is at once, and the part of it that a single user or address may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// In all.
    pub all: usize,
    /// Of a user; and of a room, where it is about rooms.
    pub user: usize,
    /// Of an address.
    pub address: usize,
}

/// How often something may be done in an hour; as much may be done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hourly {
    /// Epochs that a user may begin.
    pub epochs: u32,
    /// Envelopes in them.
    pub envelopes: u32,
    /// Denied changes of a user, and of an address, that have a record each.
    pub denied: u32,
    /// Denied changes of all users that have a record each.
    pub denied_all: u32,
}

/// The bounds of a node's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Connections. No user is known before a request is proven.
    pub connections: Share,
    /// Signed requests that are under way.
    pub requests: Share,
    /// Bytes of their bodies.
    pub body_bytes: Share,
    /// Answers with messages of a room.
    pub readings: Share,
    /// Uploads of attachments.
    pub uploads: Share,
    /// Downloads of attachments.
    pub downloads: Share,
    /// Lists that are read from the store: of attachments, and of the audit.
    pub lists: Share,
    /// What counts by the hour.
    pub hourly: Hourly,
}

/// The settings as they are typed.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TypedBounds {
    /// Connections to the API at once: in all, and of an address, such as that of an office with hundreds of people. A connection
    /// without a request under way makes room for a new one [default: 2048,256]
    #[arg(long, env = "UNIBUS_API_CONNECTIONS", value_name = "ALL,ADDRESS")]
    pub api_connections: Option<String>,
    /// Signed requests at once: in all, of a user, and of an address [default: 512,64,256]
    #[arg(long, env = "UNIBUS_API_REQUESTS", value_name = "ALL,USER,ADDRESS")]
    pub api_requests: Option<String>,
    /// Bytes of their bodies: in all, of a user, and of an address [default: 33554432,8388608,16777216]
    #[arg(long, env = "UNIBUS_API_BODY_BYTES", value_name = "ALL,USER,ADDRESS")]
    pub api_body_bytes: Option<String>,
    /// Answers with messages of rooms at once: in all, of a user or a room, and of an address [default: 16,4,8]
    #[arg(long, env = "UNIBUS_API_READINGS", value_name = "ALL,USER,ADDRESS")]
    pub api_readings: Option<String>,
    /// Uploads of attachments at once: in all, of a user, and of an address [default: 64,8,32]
    #[arg(long, env = "UNIBUS_API_UPLOADS", value_name = "ALL,USER,ADDRESS")]
    pub api_uploads: Option<String>,
    /// Downloads of attachments at once: in all, of a user, and of an address [default: 128,16,64]
    #[arg(long, env = "UNIBUS_API_DOWNLOADS", value_name = "ALL,USER,ADDRESS")]
    pub api_downloads: Option<String>,
    /// Lists of attachments and of the audit at once: in all, of a user, and of an address [default: 8,2,4]
    #[arg(long, env = "UNIBUS_API_LISTS", value_name = "ALL,USER,ADDRESS")]
    pub api_lists: Option<String>,
    /// Epochs of room keys that a user may begin in an hour at this node, and envelopes in them; they are kept for good
    /// [default: 300,30000]
    #[arg(long, env = "UNIBUS_ROTATIONS_BY_USER", value_name = "EPOCHS,ENVELOPES")]
    pub rotations_by_user: Option<String>,
    /// Denied changes in an hour that have a record of their own in the audit, of a user or an address and of all; those beyond are
    /// counted in one record [default: 10,200]
    #[arg(long, env = "UNIBUS_DENIED_RECORDS", value_name = "USER,ALL")]
    pub denied_records: Option<String>,
}

impl Bounds {
    /// What a node allows whose operator says nothing.
    ///
    /// An idle TLS connection takes 40 KiB. A body is at most 1 MiB. A reading holds 1 MiB of messages, or one that is larger, which
    /// base64 makes a third longer, and for a moment there are three copies of it. An upload holds half a MiB: a chunk that
    /// gathers, one that is written in two copies, and what is read of its connection; a download a chunk, and once more in base64.
    /// For a list of attachments the names of all that there are come from the engine, 4 MiB at most.
    pub const DEFAULT: Self = Self {
        connections: Share { all: 2048, user: 256, address: 256 },
        requests: Share { all: 512, user: 64, address: 256 },
        body_bytes: Share { all: 32 << 20, user: 8 << 20, address: 16 << 20 },
        readings: Share { all: 16, user: 4, address: 8 },
        uploads: Share { all: 64, user: 8, address: 32 },
        downloads: Share { all: 128, user: 16, address: 64 },
        lists: Share { all: 8, user: 2, address: 4 },
        hourly: Hourly { epochs: 300, envelopes: 30_000, denied: 10, denied_all: 200 },
    };

    /// What was meant, as far as it makes sense.
    pub(super) fn of(e: &mut ConfigErrors, typed: &TypedBounds) -> Self {
        let usual = Self::DEFAULT;
        let share = |e: &mut ConfigErrors, flag, typed: &Option<String>, usual: Share, least| {
            let Some(typed) = typed.as_deref() else { return usual };
            let usual = [usual.all, usual.user, usual.address];
            let [all, user, address] = numbers(e, flag, typed).unwrap_or(usual);
            shares(e, flag, Share { all, user, address }, least)
        };
        let connections = match typed.api_connections.as_deref() {
            None => usual.connections,
            Some(typed) => {
                let flag = "--api-connections";
                let pair = [usual.connections.all, usual.connections.address];
                let [all, address] = numbers(e, flag, typed).unwrap_or(pair);
                if all > MOST_CONNECTIONS {
                    e.add(
                        flag,
                        format!("{all} is more than {MOST_CONNECTIONS}"),
                        "a process has that many files at most",
                    );
                }
                shares(e, flag, Share { all, user: address, address }, 1)
            }
        };
        let hourly = |e: &mut ConfigErrors, flag, typed: &Option<String>, usual: [u32; 2]| {
            let Some(typed) = typed.as_deref() else { return usual };
            let found = numbers(e, flag, typed).unwrap_or(usual);
            if found.contains(&0) {
                e.add(flag, "0 would allow none", "give numbers from 1 on");
            }
            found
        };
        let Hourly { epochs, envelopes, denied, denied_all } = usual.hourly;
        let [epochs, envelopes] = hourly(e, "--rotations-by-user", &typed.rotations_by_user, [epochs, envelopes]);
        let [denied, denied_all] = hourly(e, "--denied-records", &typed.denied_records, [denied, denied_all]);
        Self {
            connections,
            requests: share(e, "--api-requests", &typed.api_requests, usual.requests, 1),
            body_bytes: share(e, "--api-body-bytes", &typed.api_body_bytes, usual.body_bytes, LARGEST_BODY),
            readings: share(e, "--api-readings", &typed.api_readings, usual.readings, 1),
            uploads: share(e, "--api-uploads", &typed.api_uploads, usual.uploads, 1),
            downloads: share(e, "--api-downloads", &typed.api_downloads, usual.downloads, 1),
            lists: share(e, "--api-lists", &typed.api_lists, usual.lists, 1),
            hourly: Hourly { epochs, envelopes, denied, denied_all },
        }
    }
}

/// The unit lets a process have 65,536 files, of which the daemon's engine, store and connections to it take few.
const MOST_CONNECTIONS: usize = 60_000;
/// A body that does not say how long it is may have this many bytes.
const LARGEST_BODY: usize = 1 << 20;

/// So many numbers, separated by commas; none where they are not that.
fn numbers<T: std::str::FromStr, const N: usize>(
    e: &mut ConfigErrors,
    flag: &'static str,
    typed: &str,
) -> Option<[T; N]> {
    let found: Option<Vec<T>> = typed.split(',').map(|number| number.trim().parse().ok()).collect();
    let found = found.and_then(|found| found.try_into().ok());
    if found.is_none() {
        e.add(flag, format!("'{typed}' is not {N} numbers separated by commas"), "give them as --help shows");
    }
    found
}

/// One user or address must never have all.
fn shares(e: &mut ConfigErrors, flag: &'static str, share: Share, least: usize) -> Share {
    let Share { all, user, address } = share;
    if user.min(address) < least {
        e.add(
            flag,
            format!("a share of {} is less than {least}", user.min(address)),
            "give each of them enough for a request",
        );
    }
    if user.max(address) >= all {
        let problem = format!("a share of {} of {all} is all of it", user.max(address));
        e.add(flag, problem, "give a user and an address less than all, or one of them shuts all others out");
    }
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut TypedBounds, &str), typed: &str) -> Result<Bounds, String> {
        let (mut e, mut all) = (ConfigErrors::default(), TypedBounds::default());
        change(&mut all, typed);
        let bounds = Bounds::of(&mut e, &all);
        e.0.first().map_or(Ok(bounds), |error| Err(format!("{}: {}", error.flag, error.problem)))
    }

    #[test]
    fn shares_are_read_and_nobody_may_have_all() {
        assert_eq!(of(|_, _| {}, "").unwrap(), Bounds::DEFAULT);
        let requests = |typed| of(|all, typed| all.api_requests = Some(typed.to_owned()), typed);
        assert_eq!(requests("10, 2,5").unwrap().requests, Share { all: 10, user: 2, address: 5 });
        for bad in ["", "10", "10,2", "10,2,5,1", "10,0,5", "10,10,5", "10,2,10", "10,2,-1", "x,2,5"] {
            let refused = requests(bad).unwrap_err();
            assert!(refused.contains("--api-requests"), "{bad}: {refused}");
        }
        let connections = |typed| of(|all, typed| all.api_connections = Some(typed.to_owned()), typed);
        assert_eq!(connections("100,9").unwrap().connections.address, 9);
        assert!(connections("100000,9").is_err() && connections("9,9").is_err());
        assert!(of(|all, typed| all.api_body_bytes = Some(typed.to_owned()), "3000000,4096,1048576").is_err());
        let rotations = |typed| of(|all, typed| all.rotations_by_user = Some(typed.to_owned()), typed);
        assert_eq!(rotations("5,50").unwrap().hourly.envelopes, 50);
        assert!(rotations("0,50").is_err());
    }
}
