//! What can be said of a refusal beyond the refusal: which room was meant, by the rooms that the user is in.

use unibus_client::api::{Client, Refused, Room};
use unibus_core::domain::MemberState;

/// Rooms that are named where none is like the one that was asked for.
const NAMED: usize = 5;
/// Letters that may be wrong in a room that was meant.
const WRONG: usize = 2;

/// The words of `refused` for people. Of a room that there is not, the user's own ones are named: nothing that a node tells no member.
pub(super) async fn refusal(client: &Client, refused: &Refused) -> String {
    let asked = refused.room().filter(|_| refused.is_no_such_room());
    let Some(asked) = asked else { return refused.to_string() };
    match client.list("/v1/rooms", "rooms").await {
        Ok(rooms) => {
            let rooms = rooms.into_iter().filter_map(|room| serde_json::from_value::<Room>(room).ok());
            let own = rooms.filter_map(|room| room.own.map(|own| (room.id.to_string(), own.state)));
            format!("{refused} ({})", meant(asked, &own.collect::<Vec<_>>()))
        }
        Err(_) => refused.to_string(),
    }
}

/// Which of the user's `own` rooms may be meant by `asked`.
fn meant(asked: &str, own: &[(String, MemberState)]) -> String {
    let of = |state| own.iter().filter(move |(_, is)| *is == state).map(|(id, _)| id.as_str());
    let like = |id: &&str| distance(asked, id) <= WRONG.min(asked.chars().count() / 2);
    let nearest = |state| of(state).filter(like).min_by_key(|id| distance(asked, id));
    if let Some(id) = nearest(MemberState::Joined) {
        return format!("you are in {id}");
    }
    if let Some(id) = nearest(MemberState::Invited) {
        return format!("you are invited to {id}");
    }
    let joined: Vec<&str> = of(MemberState::Joined).collect();
    match joined.split_at_checked(NAMED) {
        _ if joined.is_empty() => "you are in no room".to_owned(),
        Some((named, rest)) if !rest.is_empty() => format!("you are in {} and {} more", named.join(", "), rest.len()),
        _ => match joined.split_last() {
            Some((last, before)) if !before.is_empty() => format!("you are in {} and {last}", before.join(", ")),
            _ => format!("you are in {}", joined.join("")),
        },
    }
}

/// How many letters differ: put in, left out, or another one (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (at, a) in one.chars().enumerate() {
        let mut before = at;
        let mut left = at + 1;
        let mut next = vec![left];
        for (b, above) in other.chars().zip(row.iter().skip(1)) {
            left = (before + usize::from(a != b)).min(left + 1).min(above + 1);
            before = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_was_meant_is_the_nearest_of_ones_own() {
        let joined = |ids: &[&str]| ids.iter().map(|id| ((*id).to_owned(), MemberState::Joined)).collect::<Vec<_>>();
        let invited = ("cellar".to_owned(), MemberState::Invited);
        assert_eq!(meant("kitcen", &joined(&["hall", "kitchen"])), "you are in kitchen");
        assert_eq!(meant("celar", &[joined(&["hall"]), vec![invited]].concat()), "you are invited to cellar");
        assert_eq!(meant("attic", &joined(&["hall", "kitchen"])), "you are in hall and kitchen");
        assert_eq!(
            meant("attic", &joined(&["a", "b", "c", "d", "e", "f", "g"])),
            "you are in a, b, c, d, e and 2 more"
        );
        assert_eq!(meant("attic", &joined(&["hall"])), "you are in hall");
        assert_eq!(meant("ab", &joined(&["xy"])), "you are in xy");
        assert_eq!(meant("attic", &[]), "you are in no room");
    }

    #[test]
    fn distance_counts_letters() {
        for (one, other, letters) in [
            ("kitchen", "kitchen", 0),
            ("kitcen", "kitchen", 1),
            ("kichten", "kitchen", 2),
            ("", "abc", 3),
            ("abc", "", 3),
        ] {
            assert_eq!(distance(one, other), letters, "{one} {other}");
        }
    }
}
