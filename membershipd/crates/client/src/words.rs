//! Sizes and times as people read them: with units, and in the time of this machine.

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A number of bytes with its unit: `999 bytes`, `12.1 KiB`, `16 MiB`.
pub fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        1 => return "1 byte".to_owned(),
        0..KIB => return format!("{bytes} bytes"),
        KIB..MIB => (KIB, "KiB"),
        MIB..GIB => (MIB, "MiB"),
        _ => (GIB, "GiB"),
    };
    let (whole, tenth) = (bytes / unit, bytes % unit * 10 / unit);
    if tenth == 0 { format!("{whole} {name}") } else { format!("{whole}.{tenth} {name}") }
}

/// A time in milliseconds since 1970 to the second, as `2026-11-24 14:03:07`.
pub fn local(unix_ms: i64) -> String {
    let time = here(unix_ms);
    format!("{} {:02}:{:02}:{:02}", time.date(), time.hour(), time.minute(), time.second())
}

/// A time in milliseconds since 1970 as it is told at `now_ms`: `today at 14:03`, `on Tuesday at 14:03`, `on 24 November 2026`.
pub fn day(unix_ms: i64, now_ms: i64) -> String {
    let (time, today) = (here(unix_ms), here(now_ms).date());
    let days = |date: Date| i64::from(today.to_julian_day()) - i64::from(date.to_julian_day());
    let at = format!("at {:02}:{:02}", time.hour(), time.minute());
    match days(time.date()) {
        0 => format!("today {at}"),
        1 => format!("yesterday {at}"),
        2..7 => format!("on {} {at}", time.weekday()),
        _ => format!("on {} {} {}", time.day(), time.month(), time.year()),
    }
}

/// A time of this machine, as `2026-11-24` or `2026-11-24 14:03`, in milliseconds since 1970; none: it is not one.
pub fn parse_local(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(' ').unwrap_or((text, "00:00"));
    let numbers = |text: &str, sign: char| {
        let parts = text.split(sign).map(|part| part.parse::<u16>().ok());
        parts.collect::<Option<Vec<_>>>()
    };
    let [year, month, day]: [u16; 3] = numbers(date, '-')?.try_into().ok()?;
    let [hour, minute]: [u16; 2] = numbers(time, ':')?.try_into().ok()?;
    let byte = |number: u16| u8::try_from(number).ok();
    let date = Date::from_calendar_date(year.into(), Month::try_from(byte(month)?).ok()?, byte(day)?).ok()?;
    let naive = PrimitiveDateTime::new(date, Time::from_hms(byte(hour)?, byte(minute)?, 0).ok()?).assume_utc();
    // The offset then depends on the time, and the time on the offset: the second guess is right but for the hour of a change.
    let offset = |time| UtcOffset::local_offset_at(time).unwrap_or(UtcOffset::UTC);
    let guess = naive.replace_offset(offset(naive));
    Some(naive.replace_offset(offset(guess)).unix_timestamp().saturating_mul(1000))
}

/// A time in the zone of this machine, by the offset that is in force there then; in UTC where the machine tells none.
fn here(unix_ms: i64) -> OffsetDateTime {
    let time = OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.to_offset(UtcOffset::local_offset_at(time).unwrap_or(UtcOffset::UTC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_their_units() {
        for (bytes, words) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (999, "999 bytes"),
            (1_024, "1 KiB"),
            (12_400, "12.1 KiB"),
            (10 << 20, "10 MiB"),
            ((16 << 20) - 1, "15.9 MiB"),
            (5 << 30, "5 GiB"),
        ] {
            assert_eq!(size(bytes), words);
        }
    }

    #[test]
    fn days_are_named_for_a_week_and_dated_after_it() {
        // Noon here, so that an hour more or less is the same day in each zone.
        let noon = 1_795_521_600_000 - i64::from(here(1_795_521_600_000).offset().whole_seconds()) * 1_000;
        let (today, day_ms) = (here(noon), 86_400_000);
        assert_eq!(day(noon - 60_000, noon), "today at 11:59");
        assert_eq!(day(noon - day_ms, noon + 60_000), "yesterday at 12:00");
        let weekday = here(noon - 3 * day_ms).weekday();
        assert_eq!(day(noon - 3 * day_ms, noon), format!("on {weekday} at 12:00"));
        let then = here(noon - 30 * day_ms);
        assert_eq!(day(noon - 30 * day_ms, noon), format!("on {} {} {}", then.day(), then.month(), then.year()));
        assert_eq!(local(noon), format!("{} 12:00:00", today.date()));
    }
}
