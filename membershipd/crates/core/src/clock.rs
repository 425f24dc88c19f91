//! Wall-clock time, for certificates and people. Decisions use the monotonic clock, and take it as a parameter.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use crate::faults::Fault;

/// Milliseconds since 1970.
pub fn unix_ms() -> i64 {
    let ahead = if Fault::ClockAhead.active() { 10_000 } else { 0 };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_add(ahead)
}

/// Seconds since 1970.
pub fn unix() -> i64 {
    unix_ms() / 1000
}

/// `seconds` since 1970 as RFC 3339 in UTC.
pub fn rfc3339(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("@{seconds}"))
}

/// Milliseconds since 1970 of a time in RFC 3339; none: it is not one.
pub fn unix_ms_of(rfc3339: &str) -> Option<i64> {
    let nanoseconds = OffsetDateTime::parse(rfc3339, &Rfc3339).ok()?.unix_timestamp_nanos();
    i64::try_from(nanoseconds.div_euclid(1_000_000)).ok()
}

/// Seconds since 1970 of a time in a field of HTTP (RFC 9110 section 5.6.7); none: it is not one.
pub fn unix_of_http(date: &str) -> Option<i64> {
    OffsetDateTime::parse(date, &Rfc2822).ok().map(OffsetDateTime::unix_timestamp)
}
