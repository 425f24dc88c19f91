//! One self-contained HTML page about a rehearsal: what was carried out, how long it took, and what clients noticed.

mod timeline;

use std::fmt::Write as _;
use std::time::Duration;

pub(crate) use self::timeline::{Band, Lane, Mark, Outcome, Timeline};
use crate::ui::took;

/// What the page shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub(crate) title: String,
    /// What is worth knowing before reading on, as name and value.
    pub(crate) facts: Vec<(String, String)>,
    pub(crate) chapters: Vec<Chapter>,
    pub(crate) timelines: Vec<Timeline>,
}

/// A part of the runbook.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chapter {
    pub(crate) name: String,
    pub(crate) commands: Vec<Ran>,
}

/// A command that was carried out.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) line: String,
    pub(crate) time: Duration,
    /// Whether it did what was expected of it, which may be to fail.
    pub(crate) as_expected: bool,
    /// What it came to, in a few words.
    pub(crate) note: String,
}

/// Colours are named once, for light and for dark; nothing is fetched from anywhere.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2330; --dim: #667085; --paper: #fff; --line: #d9dee7; --bar: #c7d7f2;
  --ok: #2f9e62; --refused: #d0453e; --unknown: #e0a021; --band: #8895ab33; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ef; --dim: #98a2b3; --paper: #14181f; --line: #333b48; --bar: #2b4a7d;
  --ok: #46c07f; --refused: #ef6a62; --unknown: #f0b840; --band: #98a2b333; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; } .dim { color: var(--dim); }
table { border-collapse: collapse; width: 100%; } td { padding: .15rem .6rem .15rem 0; vertical-align: top; border-top: 1px solid var(--line); }
td.time { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; } td.bar { width: 22%; }
td.bar div { background: var(--bar); height: .8rem; margin-top: .35rem; border-radius: 2px; min-width: 1px; }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; } .bad { color: var(--refused); } .good { color: var(--ok); }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--ink); } svg .dim { fill: var(--dim); }
.ok { fill: var(--ok); } .refused { fill: var(--refused); } .unknown { fill: var(--unknown); } .band { fill: var(--band); }
.axis { stroke: var(--line); } .key span { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 1rem; border-radius: 2px; }
";

impl Page {
    /// The whole page.
    pub(crate) fn html(&self) -> String {
        let title = escape(&self.title);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        );
        // Writing to a String cannot fail, here and below.
        if !self.facts.is_empty() {
            out.push_str("<table>");
            for (name, value) in &self.facts {
                let _ = writeln!(out, "<tr><td class=\"dim\">{}</td><td>{}</td></tr>", escape(name), escape(value));
            }
            out.push_str("</table>\n");
        }
        for timeline in &self.timelines {
            out.push_str(&timeline.html());
        }
        let longest = self.chapters.iter().flat_map(|chapter| &chapter.commands).map(|ran| ran.time).max();
        for chapter in &self.chapters {
            out.push_str(&chapter.html(longest.unwrap_or_default()));
        }
        out.push_str("</body></html>\n");
        out
    }
}

impl Chapter {
    fn html(&self, longest: Duration) -> String {
        let total = self.commands.iter().map(|ran| ran.time).sum();
        let mut out = format!("<h2>{} <span class=\"dim\">{}</span></h2>\n<table>", escape(&self.name), took(total));
        for ran in &self.commands {
            let (class, word) = if ran.as_expected { ("good", "ok") } else { ("bad", "failed") };
            let share = 100.0 * ran.time.as_secs_f64() / longest.as_secs_f64().max(f64::MIN_POSITIVE);
            let _ = writeln!(
                out,
                "<tr><td class=\"{class}\">{word}</td><td><code>{}</code> <span class=\"dim\">{}</span></td>\
                 <td class=\"bar\"><div style=\"width:{share:.1}%\"></div></td><td class=\"time\">{}</td></tr>",
                escape(&ran.line),
                escape(&ran.note),
                took(ran.time)
            );
        }
        out.push_str("</table>\n");
        out
    }
}

/// Text as it may stand between tags and in quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let ran = |line: &str, seconds, as_expected| Ran {
            line: line.to_owned(),
            time: Duration::from_secs(seconds),
            as_expected,
            note: "<b>".to_owned(),
        };
        Page {
            title: "A & B".to_owned(),
            facts: vec![("engine".to_owned(), "2.15.1".to_owned())],
            chapters: vec![Chapter {
                name: "stage".to_owned(),
                commands: vec![ran("a \"b\"", 2, true), ran("c", 4, false)],
            }],
            timelines: Vec::new(),
        }
    }

    #[test]
    fn what_programs_said_cannot_become_markup() {
        let html = page().html();
        assert!(html.contains("A &amp; B") && html.contains("&lt;b&gt;") && html.contains("a &quot;b&quot;"), "{html}");
        assert!(!html.contains("<b>"));
    }

    #[test]
    fn bars_are_drawn_to_the_longest_command_and_failures_are_said() {
        let html = page().html();
        assert!(html.contains("width:50.0%") && html.contains("width:100.0%"), "{html}");
        assert!(html.contains("<td class=\"bad\">failed</td>"), "{html}");
    }

    #[test]
    fn nothing_is_fetched_from_anywhere() {
        let html = page().html();
        for reference in ["src=", "href=", "url(", "@import", "//"] {
            assert!(!html.contains(reference), "{reference}");
        }
    }
}
