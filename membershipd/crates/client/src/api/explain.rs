//! What a client adds to a refusal from what it knows itself: its own clock beside that of the node, and the name that it signed for.

use http::HeaderMap;
use http::header::DATE;

use super::url::NodeUrl;
use unibus_core::clock;

/// Refusals that a clock that is off brings about.
const OF_TIME: [&str; 3] = ["signature-created-in-future", "signature-created-too-old", "signature-expired"];
/// What two clocks that are right may differ by, in seconds: the field has whole ones, and the answer was on its way.
const APART_S: i64 = 3;

/// What is known of a refusal here, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Explanation {
    pub(super) more: String,
    pub(super) remedy: &'static str,
}

/// The explanation of the refusal `slug` by `node`, whose answer has these fields and came at `now_unix`; none: nothing is known besides.
pub(super) fn explain(slug: &str, node: &NodeUrl, fields: &HeaderMap, now_unix: i64) -> Option<Explanation> {
    if OF_TIME.contains(&slug) {
        let date = fields.get(DATE)?.to_str().ok().and_then(clock::unix_of_http)?;
        let ahead = now_unix.saturating_sub(date);
        let direction = if ahead > 0 { "ahead of" } else { "behind" };
        let more = format!("this machine's clock is {} s {direction} {}'s", ahead.unsigned_abs(), node.host());
        let remedy = "set this machine's clock, or the node's where the other nodes agree with this machine (timedatectl set-ntp true)";
        return (ahead.saturating_abs() >= APART_S).then_some(Explanation { more, remedy });
    }
    let remedy = match slug {
        "authority-foreign" => {
            "say a --url that the node is called by, or name the other one on the node, where a proxy stands before it: --public-names"
        }
        "signature-invalid" => {
            "where both names differ a proxy has changed the request: it has to hand on method, path, query and Host as they came"
        }
        _ => return None,
    };
    Some(Explanation { more: format!("this client signed it for {}", node.authority()), remedy })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 784_111_777;

    fn explained(slug: &str, date: Option<&str>, now: i64) -> Option<String> {
        let mut fields = HeaderMap::new();
        if let Some(date) = date {
            fields.insert(DATE, date.parse().unwrap());
        }
        explain(slug, &"https://homer:8470".parse().unwrap(), &fields, now).map(|explanation| explanation.more)
    }

    #[test]
    fn clock_that_is_off_is_named_with_how_far_and_whose() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let says = |text: &str| Some(format!("this machine's clock is {text} homer's"));
        assert_eq!(explained("signature-created-in-future", date, NOW + 35), says("35 s ahead of"));
        assert_eq!(explained("signature-created-too-old", date, NOW - 300), says("300 s behind"));
        // A body that was long on its way ends in the same refusal, and no clock is to blame.
        assert_eq!(explained("signature-expired", date, NOW + 2), None);
        for odd in [None, Some("yesterday"), Some("")] {
            assert_eq!(explained("signature-created-too-old", odd, NOW), None, "{odd:?}");
        }
    }

    #[test]
    fn name_that_was_signed_for_is_told_where_names_can_differ() {
        for slug in ["authority-foreign", "signature-invalid"] {
            assert_eq!(explained(slug, None, NOW).as_deref(), Some("this client signed it for homer:8470"));
        }
        assert_eq!(explained("not-admin", None, NOW), None);
    }
}
