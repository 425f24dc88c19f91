//! An engine's list of connections (CONNZ), whole: of this node's engine or of another's.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Connections in one page of the list; the engine's own default.
const PAGE: usize = 1024;
/// Attempts at reading a list of several pages in which nothing ends meanwhile.
const READINGS: usize = 4;

/// What `read` makes of each connection that fits `query`, by the answers to `ask`.
///
/// The list is in the order of the ids and comes in pages by number. What ends meanwhile moves the rest forward, past us: so each
/// page begins with the last connection of the one before, or the reading begins again.
pub(crate) async fn list<T: PartialEq, A: Future<Output = Result<Value>>>(
    ask: impl Fn(Value) -> A,
    mut query: Value,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>> {
    for _ in 0..READINGS {
        let mut found: Vec<T> = Vec::new();
        loop {
            let offset = found.len().saturating_sub(1);
            if let Value::Object(map) = &mut query {
                map.extend([("offset".to_owned(), json!(offset)), ("limit".to_owned(), json!(PAGE))]);
            }
            let answer = ask(query.clone()).await?;
            let page = answer.pointer("/data/connections").and_then(Value::as_array);
            let page = page.context("the engine's list of connections is not understood")?;
            let entries = page.iter().map(|entry| read(entry).context("a connection is not understood"));
            let mut entries = entries.collect::<Result<Vec<_>>>()?.into_iter();
            if let Some(last) = found.last()
                && entries.next().as_ref() != Some(last)
            {
                break;
            }
            found.extend(entries);
            if page.len() < PAGE {
                return Ok(found);
            }
        }
    }
    bail!("connections end faster than they can be listed")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// An engine with these connections, of which the first ends after the first page was read.
    async fn listed(count: usize, ends: bool) -> Result<Vec<u64>> {
        let there = RefCell::new((1..=count).collect::<Vec<_>>());
        let ask = |query: Value| {
            let offset = usize::try_from(query["offset"].as_u64().unwrap()).unwrap();
            let page: Vec<_> = there.borrow().iter().skip(offset).take(PAGE).map(|id| json!({ "cid": id })).collect();
            if ends && offset == 0 && there.borrow().len() == count {
                there.borrow_mut().remove(0);
            }
            std::future::ready(Ok(json!({ "data": { "connections": page } })))
        };
        list(ask, json!({}), |entry| entry.get("cid")?.as_u64()).await
    }

    #[tokio::test]
    async fn a_list_of_several_pages_is_read_whole_although_connections_end_meanwhile() {
        for count in [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE] {
            assert_eq!(listed(count, false).await.unwrap().len(), count, "{count}");
        }
        let left = listed(3 * PAGE, true).await.unwrap();
        assert_eq!((left.len(), left.first().copied()), (3 * PAGE - 1, Some(2)));
    }
}
