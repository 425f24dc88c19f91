//! A changed value in the operator's own file: its place is found by parsing, and everything around it stays as it was typed.

use std::ops::Range;

use anyhow::{Context, Result};
use toml::de::DeTable;

use super::Topology;

/// The text of a topology with another number of copies, and the line where that stands.
pub fn with_replicas(text: &str, shown: &str, copies: u32) -> Result<(String, usize)> {
    let span = replicas(text).with_context(|| format!("{shown}: cluster.kv_replicas was not found"))?;
    let line = super::typed::line_of(text, span.start);
    let mut edited = text.to_owned();
    edited.replace_range(span, &copies.to_string());
    // Whatever the file looks like: what was meant must be what it says now, and nothing else.
    let (before, after) = (Topology::parse(text, shown)?, Topology::parse(&edited, shown)?);
    let mut meant = before;
    meant.cluster.kv_replicas = copies;
    anyhow::ensure!(after == meant, "{shown}:{line}: kv_replicas cannot be changed there; write {copies} by hand");
    Ok((edited, line))
}

fn replicas(text: &str) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let cluster = document.get_ref().get("cluster")?.get_ref();
    Some(cluster.get("kv_replicas")?.span())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../../../deploy/nodes.toml");

    fn filled() -> String {
        let mut text = SHIPPED.to_owned();
        let left = ["<MAGNUS_PUBLIC_IP>", "<MAGNUS_WG_IP>", "<HOMER_WG_IP>", "<DATARDOS_WG_IP>"];
        for (placeholder, last) in left.into_iter().zip(1..) {
            text = text.replace(placeholder, &format!("10.21.0.{last}"));
        }
        text
    }

    #[test]
    fn only_the_number_changes() {
        let text = filled().replace("kv_replicas = 3", "kv_replicas   =  1 # for now, 1 will do");
        let (edited, line) = with_replicas(&text, "nodes.toml", 3).unwrap();
        assert_eq!(edited, text.replace("=  1 # for now", "=  3 # for now"));
        assert!(text.lines().nth(line - 1).unwrap().starts_with("kv_replicas"));
        assert_eq!(with_replicas(&edited, "nodes.toml", 3).unwrap().0, edited);
    }

    #[test]
    fn it_is_found_however_it_is_written() {
        let text = filled().replace("kv_replicas = 3", "\"kv_replicas\" = 0x1");
        assert!(with_replicas(&text, "nodes.toml", 3).unwrap().0.contains("\"kv_replicas\" = 3\n"));
        let comment = filled().replace("kv_replicas = 3", "# kv_replicas = 1\nkv_replicas = 1");
        assert!(with_replicas(&comment, "nodes.toml", 3).unwrap().0.contains("# kv_replicas = 1\nkv_replicas = 3\n"));
    }

    #[test]
    fn what_would_be_no_topology_is_refused() {
        assert!(with_replicas(&filled(), "nodes.toml", 2).unwrap_err().to_string().contains("must be odd"));
        assert!(with_replicas(SHIPPED, "nodes.toml", 3).unwrap_err().to_string().contains("placeholder"));
        assert!(with_replicas("x = 1", "nodes.toml", 3).is_err());
    }
}
