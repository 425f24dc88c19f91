//! A time from which on messages are shown, as people say it: so long ago, or a time of this machine.

use std::str::FromStr;
use std::time::Duration;

use unibus_client::words;
use unibus_core::clock;

/// Since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// So long ago.
    Ago(Duration),
    /// A time, in milliseconds since 1970.
    At(i64),
}

impl Since {
    /// In milliseconds since 1970.
    pub(super) fn unix_ms(self) -> u64 {
        let ago = |ago: Duration| clock::unix_ms().saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX));
        let at = match self {
            Since::Ago(duration) => ago(duration),
            Since::At(at) => at,
        };
        u64::try_from(at).unwrap_or_default()
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ago = |text: &str| {
            let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
            let seconds = match unit {
                "m" => 60,
                "h" => 3_600,
                "d" => 86_400,
                "w" => 604_800,
                _ => return None,
            };
            let number: u64 = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())??;
            Some(Since::Ago(Duration::from_secs(number.checked_mul(seconds)?)))
        };
        let since = ago(text).or_else(|| words::parse_local(text).map(Since::At));
        since.ok_or_else(|| {
            "say how long ago, as 30m, 2h, 3d or 1w; or a time here, as 2026-11-24 or '2026-11-24 14:00'".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_said_as_people_say_it() {
        for (text, seconds) in [("30m", 1_800), ("2h", 7_200), ("3d", 259_200), ("1w", 604_800), ("0m", 0)] {
            assert_eq!(text.parse(), Ok(Since::Ago(Duration::from_secs(seconds))), "{text}");
        }
        let [Ok(Since::At(day)), Ok(Since::At(hour))] = ["2026-11-24", "2026-11-24 14:30"].map(str::parse::<Since>)
        else {
            panic!("no times")
        };
        assert_eq!(hour - day, (14 * 60 + 30) * 60_000);
        assert_eq!(words::local(hour), "2026-11-24 14:30:00");
        for bad in [
            "",
            "m",
            "-1m",
            "+1m",
            "1.5h",
            "1y",
            "yesterday",
            "2026-13-01",
            "2026-11-24 25:00",
            "2026-11-24T14:00Z",
            "é",
        ] {
            assert!(bad.parse::<Since>().is_err(), "{bad}");
        }
    }
}
