//! Lists of the control socket, a page at a time.

use super::LIST_PAGE;

/// The first of `sorted` after `after`, `limit` and [`LIST_PAGE`] at most, and the one after which the next page begins; none: it is
/// the last page. Without a limit all of them are one page: a client of release 0.1.0 reads no other.
pub fn page<T, K: Ord + Clone>(
    sorted: impl Iterator<Item = T>,
    key: impl Fn(&T) -> &K,
    after: Option<&K>,
    limit: Option<usize>,
) -> (Vec<T>, Option<K>) {
    let mut rest = sorted.filter(|entry| after.is_none_or(|after| key(entry) > after));
    let Some(limit) = limit else { return (rest.collect(), None) };
    let shown: Vec<T> = rest.by_ref().take(limit.clamp(1, LIST_PAGE)).collect();
    let next = if rest.next().is_some() { shown.last().map(|last| key(last).clone()) } else { None };
    (shown, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Request;

    #[test]
    fn pages_together_are_the_whole_list_and_none_is_longer_than_asked() {
        let all: Vec<u32> = (0..2_500).collect();
        for limit in [0, 1, 7, 1_000, 1_000_000] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let (shown, next) = page(all.iter().copied(), |entry| entry, after.as_ref(), Some(limit));
                assert!((1..=LIST_PAGE.min(limit.max(1))).contains(&shown.len()), "{limit}: {}", shown.len());
                seen.extend(shown);
                match next {
                    Some(_) => after = next,
                    None => break,
                }
            }
            assert_eq!(seen, all);
        }
        assert_eq!(page(all.iter().copied(), |entry| entry, None, None), (all.clone(), None));
        assert_eq!(page(std::iter::empty(), |entry: &u32| entry, None, Some(5)), (vec![], None));
    }

    /// The requests of release 0.1.0, as far as they are about lists.
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    #[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
    enum Before {
        UserList,
        CopyRooms,
    }

    #[test]
    fn releases_understand_each_other() {
        let asked = |request: &Request| serde_json::to_string(request).unwrap();
        let users = Request::UserList { after: Some("bob".parse().unwrap()), limit: Some(9) };
        let rooms = Request::CopyRooms { after: Some("kitchen".parse().unwrap()), limit: Some(9) };
        assert_eq!(serde_json::from_str::<Before>(&asked(&users)).unwrap(), Before::UserList, "it answers with all");
        assert_eq!(serde_json::from_str::<Before>(&asked(&rooms)).unwrap(), Before::CopyRooms);
        let read = |before: &Before| serde_json::from_str(&serde_json::to_string(before).unwrap()).unwrap();
        assert!(matches!(read(&Before::UserList), Request::UserList { after: None, limit: None }));
        assert!(matches!(read(&Before::CopyRooms), Request::CopyRooms { after: None, limit: None }));
        assert!(serde_json::from_str::<Request>(r#"{"verb":"user-list","more":1}"#).is_err());
    }
}
