//! A moment as it is typed: a date, a date with a time, or so long ago.

use std::str::FromStr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use unibus_core::clock;

/// How a moment is written.
const RULE: &str =
    "a number with s, m, h or d: so long ago; a date: 2026-11-30, in UTC; or a moment: 2026-11-30T14:00:00+01:00";

/// A moment, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(pub(super) i64);

impl Moment {
    /// What `text` means at `now_ms`.
    fn read(text: &str, now_ms: i64) -> Option<Self> {
        let unit = |unit: &str| match unit {
            "s" => Some(1),
            "m" => Some(60),
            "h" => Some(60 * 60),
            "d" => Some(24 * 60 * 60),
            _ => None,
        };
        let ago = text.split_at_checked(text.len().saturating_sub(1)).and_then(|(number, last)| {
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let seconds = number.parse::<i64>().ok().filter(|_| digits)?.checked_mul(unit(last)?)?;
            now_ms.checked_sub(seconds.checked_mul(1000)?)
        });
        let at = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
        let at = ago.or_else(|| {
            let at = at(text).or_else(|| at(&format!("{text}T00:00:00Z")))?;
            i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
        });
        at.filter(|at| *at >= 0).map(Self)
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text, clock::unix_ms()).ok_or_else(|| RULE.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_so_long_ago_or_a_date_and_nothing_else() {
        let now = 1_796_000_000_000;
        let read = |text| Moment::read(text, now).map(|Moment(at)| at);
        assert_eq!(read("90s"), Some(now - 90_000));
        assert_eq!(read("2h"), Some(now - 7_200_000));
        assert_eq!(read("3d"), Some(now - 3 * 86_400_000));
        assert_eq!(read("1970-01-02"), Some(86_400_000));
        assert_eq!(read("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(read("1970-01-01T00:00:01.5Z"), Some(1_500));
        for bad in [
            "",
            "h",
            "-2h",
            "2",
            "2w",
            "2 h",
            "14:00",
            "1970-13-01",
            "1970-01-01T00:00:00",
            "99999999999999999999d",
            "1969-01-01",
            "ä",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
