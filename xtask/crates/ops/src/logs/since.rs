//! From when on a log is read, as an operator types it.

use std::str::FromStr;

use thiserror::Error;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};

use crate::local_time::{local, moment_of};
use crate::verify::unix_ms;

/// A moment, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since(pub(super) i64);

/// What was typed is no moment.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "'{0}' is no moment: say how long ago (90s, 10m, 2h, 3d), a time of this machine's zone (02:14, 2026-11-30, '2026-11-30 02:14'), or \
     one with its offset (2026-11-30T02:14:00+02:00)"
)]
pub struct NoMoment(String);

impl FromStr for Since {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        let now = unix_ms();
        let moment = ago(text, now).or_else(|| moment(text, local(now)));
        moment.map(Self).ok_or_else(|| NoMoment(text.to_owned()))
    }
}

/// `10m` is ten minutes before `now`.
fn ago(text: &str, now: i64) -> Option<i64> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u32 = text.strip_suffix(unit)?.trim().parse().ok()?;
    Some(now.saturating_sub(i64::from(count).saturating_mul(seconds * 1_000)))
}

fn moment(text: &str, now: OffsetDateTime) -> Option<i64> {
    let ms = |at: OffsetDateTime| i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok();
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return ms(at);
    }
    let (day, time) = match text.split_once([' ', 'T']) {
        Some((day, time)) => (Some(date(day)?), clock(time)?),
        None => match clock(text) {
            Some(time) => (None, time),
            None => (Some(date(text)?), Time::MIDNIGHT),
        },
    };
    // A time that is still to come today was yesterday.
    let day = match day {
        Some(day) => day,
        None if time > now.time() => now.date().previous_day()?,
        None => now.date(),
    };
    ms(moment_of(PrimitiveDateTime::new(day, time)))
}

/// `2026-11-30`.
fn date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let month: u8 = month.parse().ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month.try_into().ok()?, day.parse().ok()?).ok()?;
    parts.next().is_none().then_some(date)
}

/// `02:14` or `02:14:07`.
fn clock(text: &str) -> Option<Time> {
    let mut parts = text.split(':');
    let (hour, minute) = (parts.next()?, parts.next()?);
    let second = parts.next().unwrap_or("0");
    let time = Time::from_hms(hour.parse().ok()?, minute.parse().ok()?, second.parse().ok()?).ok()?;
    parts.next().is_none().then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_types_is_a_moment() {
        let now = OffsetDateTime::parse("2026-11-30T12:00:00Z", &Rfc3339).unwrap();
        let now_ms = now.unix_timestamp() * 1000;
        assert_eq!(ago("90s", now_ms), Some(now_ms - 90_000));
        assert_eq!(ago("2h", now_ms), Some(now_ms - 7_200_000));
        assert_eq!(ago("3 d", now_ms), Some(now_ms - 259_200_000));
        assert_eq!(moment("2026-11-30T02:14:00+02:00", now), Some(now_ms - 11 * 3_600_000 - 46 * 60_000));
        let here = local(now_ms);
        let typed = |text: &str| local(moment(text, here).unwrap());
        let shown = |at: OffsetDateTime| (at.date(), at.time());
        let time = |hour, minute| Time::from_hms(hour, minute, 0).unwrap();
        let day = Date::from_calendar_date(2026, time::Month::November, 29).unwrap();
        assert_eq!(shown(typed("2026-11-29")), (day, Time::MIDNIGHT));
        assert_eq!(shown(typed("2026-11-29 02:14")), (day, time(2, 14)));
        assert_eq!(shown(typed("2026-11-29T02:14:00")), (day, time(2, 14)));
        let before = here - time::Duration::minutes(5);
        let text = format!("{:02}:{:02}", before.hour(), before.minute());
        assert_eq!(typed(&text), before, "today, or yesterday where that is shortly after midnight");
        let later = here + time::Duration::minutes(5);
        let text = format!("{:02}:{:02}", later.hour(), later.minute());
        assert_eq!(shown(typed(&text)), shown(later - time::Duration::DAY), "what is to come today was yesterday");
    }

    #[test]
    fn anything_else_is_refused_with_what_may_be_typed() {
        for text in
            ["", "yesterday", "10", "m", "10x", "25:00", "2026-13-01", "2026-11-30 25:00", "1:2:3:4", "-5m", "5mm", "é"]
        {
            assert_eq!(text.parse::<Since>(), Err(NoMoment(text.to_owned())), "{text}");
        }
        assert!("soon".parse::<Since>().unwrap_err().to_string().contains("10m"));
    }
}
