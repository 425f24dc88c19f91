//! Times for people: in the zone of this machine, and with its offset from UTC, since servers have zones of their own.

use std::env;
use std::sync::LazyLock;

use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};
use tz::TimeZone;

/// The zone that TZ names, else that of the machine; UTC where neither is known.
static ZONE: LazyLock<TimeZone> = LazyLock::new(|| {
    let named = env::var("TZ").ok().filter(|name| !name.is_empty());
    let zone = named.map_or_else(TimeZone::local, |name| TimeZone::from_posix_tz(&name));
    zone.unwrap_or_else(|_| TimeZone::utc())
});

fn offset_at(moment: OffsetDateTime) -> UtcOffset {
    let kind = ZONE.find_local_time_type(moment.unix_timestamp());
    let offset = kind.ok().and_then(|kind| UtcOffset::from_whole_seconds(kind.ut_offset()).ok());
    offset.unwrap_or(UtcOffset::UTC)
}

/// Milliseconds since 1970 as this machine's zone has them.
pub fn local(unix_ms: i64) -> OffsetDateTime {
    let utc = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    let utc = utc.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    utc.to_offset(offset_at(utc))
}

/// The moment at which the clocks of this machine's zone show `time`; of two such moments, the first.
pub fn moment_of(time: PrimitiveDateTime) -> OffsetDateTime {
    // The offset around that time, then the one that holds at the moment that this one leads to.
    let near = time.assume_offset(offset_at(time.assume_utc()));
    time.assume_offset(offset_at(near))
}

/// `2026-11-30 02:14:07 +02:00`.
pub fn date_and_time(unix_ms: i64) -> String {
    full(local(unix_ms))
}

/// The time of day, and the date where it is not that of `now_ms`: `02:14 +02:00`.
pub fn time_of_day(unix_ms: i64, now_ms: i64) -> String {
    brief(local(unix_ms), local(now_ms))
}

/// `2026-11-30 02:14:07.123 +02:00`, for logs.
pub fn precise(unix_ms: i64) -> String {
    let at = local(unix_ms);
    format!("{} {}.{:03} {}", date(at), clock(at), at.millisecond(), offset(at))
}

fn full(at: OffsetDateTime) -> String {
    format!("{} {} {}", date(at), clock(at), offset(at))
}

fn brief(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let time = format!("{:02}:{:02} {}", at.hour(), at.minute(), offset(at));
    if at.date() == now.date() { time } else { format!("{} {time}", date(at)) }
}

fn date(at: OffsetDateTime) -> String {
    format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day())
}

fn clock(at: OffsetDateTime) -> String {
    format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
}

fn offset(at: OffsetDateTime) -> String {
    let (hours, minutes, _) = at.offset().as_hms();
    match (hours, minutes) {
        (0, 0) => "UTC".to_owned(),
        _ => {
            let sign = if hours < 0 || minutes < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", hours.unsigned_abs(), minutes.unsigned_abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-30T00:14:07.123Z.
    const AT: i64 = 1_795_997_647_123;

    fn at(hours: i8, minutes: i8) -> OffsetDateTime {
        let utc = OffsetDateTime::from_unix_timestamp_nanos(i128::from(AT) * 1_000_000).unwrap();
        utc.to_offset(UtcOffset::from_hms(hours, minutes, 0).unwrap())
    }

    #[test]
    fn times_carry_their_offset() {
        assert_eq!(full(at(2, 0)), "2026-11-30 02:14:07 +02:00");
        assert_eq!(full(at(-3, -30)), "2026-11-29 20:44:07 -03:30");
        assert_eq!(full(at(0, 0)), "2026-11-30 00:14:07 UTC");
    }

    #[test]
    fn a_date_is_told_where_it_is_another() {
        assert_eq!(brief(at(2, 0), at(2, 0)), "02:14 +02:00");
        assert_eq!(brief(at(2, 0), at(2, 0) + time::Duration::DAY), "2026-11-30 02:14 +02:00");
    }

    #[test]
    fn a_time_in_this_zone_is_the_moment_that_it_was_made_of() {
        // Noon is never the hour that a change of the clocks skips or repeats.
        for day in 0..400_i64 {
            let noon = local(AT + day * 86_400_000).replace_time(time::Time::from_hms(12, 0, 0).unwrap());
            let shown = PrimitiveDateTime::new(noon.date(), noon.time());
            let again = moment_of(shown);
            assert_eq!(PrimitiveDateTime::new(again.date(), again.time()), shown);
            let ms = i64::try_from(again.unix_timestamp_nanos() / 1_000_000).unwrap();
            assert_eq!(local(ms), again);
        }
    }
}
