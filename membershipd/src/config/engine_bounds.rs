//! What one user may have of a node's engine, and the engine of the node: settings with their defaults.

use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::errors::ConfigErrors;
use unibus_api_types::bound::Bound;

/// What was typed.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TypedEngineBounds {
    /// Connections to this node's bus that one user may have at once [default: 32]
    #[arg(long, env = "UNIBUS_CONNECTIONS_BY_USER", value_name = "N")]
    pub connections_by_user: Option<String>,
    /// Logins a second to this node's bus that one user may do, and four times as many at once [default: 50]
    #[arg(long, env = "UNIBUS_LOGINS_BY_USER", value_name = "N")]
    pub logins_by_user: Option<String>,
    /// Subscriptions that one connection may have; the engine refuses more [default: 4096]
    #[arg(long, env = "UNIBUS_SUBSCRIPTIONS_BY_CONNECTION", value_name = "N")]
    pub subscriptions_by_connection: Option<String>,
    /// Subscriptions that one user may have at this node, in all connections; above it connections are closed [default: 10000]
    #[arg(long, env = "UNIBUS_SUBSCRIPTIONS_BY_USER", value_name = "N")]
    pub subscriptions_by_user: Option<String>,
    /// Bytes that may wait at this node for one user to read them, in all connections; above it connections are closed
    /// [default: 67108864]
    #[arg(long, env = "UNIBUS_PENDING_BY_USER", value_name = "BYTES")]
    pub pending_by_user: Option<String>,
    /// Bytes of memory up to which the engine lets garbage lie (GOMEMLIMIT); the unit's MemoryMax has to lie above that
    /// [default: 1610612736]
    #[arg(long, env = "UNIBUS_ENGINE_MEMORY", value_name = "BYTES")]
    pub engine_memory: Option<String>,
}

/// What was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineBounds {
    /// Connections of a user at once.
    pub connections_by_user: u32,
    /// Logins of a user a second.
    pub logins_by_user: u32,
    /// Subscriptions of a connection.
    pub subscriptions_by_connection: u32,
    /// Subscriptions of a user, in all connections.
    pub subscriptions_by_user: u32,
    /// Bytes that wait for a user, in all connections.
    pub pending_by_user: u64,
    /// Bytes above which the engine collects its garbage as often as it takes.
    pub engine_memory: u64,
}

impl EngineBounds {
    /// What holds where no setting says otherwise.
    ///
    /// A user in 1,000 rooms, the most of which a connection is told, has three subscriptions for each and a few more. For one
    /// connection the engine lets 64 MiB wait, so a user with one is never disconnected by the daemon for being slow.
    pub const DEFAULT: Self = Self {
        connections_by_user: 32,
        logins_by_user: 50,
        subscriptions_by_connection: 4_096,
        subscriptions_by_user: 10_000,
        pending_by_user: 64 << 20,
        engine_memory: 1_536 << 20,
    };

    /// Makes sense of what was typed.
    pub(super) fn of(e: &mut ConfigErrors, typed: &TypedEngineBounds) -> Self {
        let usual = Self::DEFAULT;
        let most = 1_000_000;
        Self {
            connections_by_user: number(
                e,
                "--connections-by-user",
                typed.connections_by_user.as_deref(),
                1..=65_536,
                usual.connections_by_user,
            ),
            logins_by_user: number(
                e,
                "--logins-by-user",
                typed.logins_by_user.as_deref(),
                1..=most,
                usual.logins_by_user,
            ),
            subscriptions_by_connection: number(
                e,
                "--subscriptions-by-connection",
                typed.subscriptions_by_connection.as_deref(),
                // The daemon's own connections have as many at most.
                100..=most,
                usual.subscriptions_by_connection,
            ),
            subscriptions_by_user: number(
                e,
                "--subscriptions-by-user",
                typed.subscriptions_by_user.as_deref(),
                100..=most,
                usual.subscriptions_by_user,
            ),
            pending_by_user: number(
                e,
                "--pending-by-user",
                typed.pending_by_user.as_deref(),
                // A message of the largest size is no offence.
                4 << 20..=1 << 40,
                usual.pending_by_user,
            ),
            engine_memory: number(
                e,
                "--engine-memory",
                typed.engine_memory.as_deref(),
                256 << 20..=1 << 40,
                usual.engine_memory,
            ),
        }
    }

    /// The most that a user may have of this.
    pub fn most(&self, bound: Bound) -> u64 {
        match bound {
            Bound::Connections => self.connections_by_user.into(),
            Bound::Logins => self.logins_by_user.into(),
            Bound::Subscriptions => self.subscriptions_by_user.into(),
            Bound::Pending => self.pending_by_user,
            Bound::Later => u64::MAX,
        }
    }
}

fn number<T>(e: &mut ConfigErrors, flag: &'static str, value: Option<&str>, range: RangeInclusive<T>, usual: T) -> T
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    let Some(value) = value else { return usual };
    match value.parse() {
        Ok(number) if range.contains(&number) => number,
        _ => {
            let want = format!("a number from {} to {}", range.start(), range.end());
            e.add(flag, format!("'{value}' is not {want}"), format!("give {want}, or leave it out for {usual}"));
            usual
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A user in as many rooms as a connection is told of can subscribe to all of them.
    const _: () = assert!(
        3 * unibus_core::domain::limits::ROOMS_PER_CONNECTION
            < EngineBounds::DEFAULT.subscriptions_by_connection as usize
            && EngineBounds::DEFAULT.subscriptions_by_connection <= EngineBounds::DEFAULT.subscriptions_by_user
    );

    #[test]
    fn what_is_no_number_or_out_of_its_range_is_told() {
        let (mut e, typed) = (
            ConfigErrors::default(),
            TypedEngineBounds {
                connections_by_user: Some("0".to_owned()),
                logins_by_user: Some("7".to_owned()),
                pending_by_user: Some("all".to_owned()),
                ..TypedEngineBounds::default()
            },
        );
        let bounds = EngineBounds::of(&mut e, &typed);
        assert_eq!(bounds, EngineBounds { logins_by_user: 7, ..EngineBounds::DEFAULT });
        let told: Vec<String> = e.0.iter().map(|error| format!("{}: {}", error.flag, error.problem)).collect();
        let expected = [
            "--connections-by-user: '0' is not a number from 1 to 65536",
            "--pending-by-user: 'all' is not a number from 4194304 to 1099511627776",
        ];
        assert_eq!(told, expected);
    }
}
