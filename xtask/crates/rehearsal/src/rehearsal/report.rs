//! The report of a rehearsal: one HTML page that needs nothing else.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::record::{Played, Record};
use super::timeline;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .6rem .2rem 0;vertical-align:top}\
    td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}code,pre{font:13px ui-monospace,monospace}\
    pre{white-space:pre-wrap;background:#8881;padding:.8rem}.bad{color:#b00020;font-weight:600}\
    svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:currentColor}svg .dim{opacity:.6}.axis{stroke:#8883}\
    .ok{fill:#2f9e62;color:#2f9e62}.refused{fill:#d0453e;color:#d0453e}.conflict{fill:#6b7fa8;color:#6b7fa8}.unknown{fill:#d99a1c;color:#d99a1c}.band{fill:#8883}.lost{fill:#8887}\
    .bar{background:#8882;position:relative;height:.9rem;min-width:12rem}.bar i{background:#36c;position:absolute;height:100%;\
    min-width:2px}.bar i.bad{background:#b00020}";

/// The page. The record itself is in it too, as JSON, for whoever compares two of them.
pub(super) fn html(record: &Record) -> Result<String> {
    let began = OffsetDateTime::from_unix_timestamp(record.began_unix).ok().and_then(|at| at.format(&Rfc3339).ok());
    let began = began.unwrap_or_default();
    let verdict = if record.ok { "passed" } else { "failed" };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>unibus: rehearsal {verdict}</title><style>{STYLE}</style>\n\
         <h1>Rehearsal {verdict}</h1>\n<p>Began {began}, took {:.1} s.{}</p>\n",
        record.seconds,
        record.boot_seconds.map(|s| format!(" The machines took logins after {s:.1} s.")).unwrap_or_default(),
    );
    if let Some(failure) = &record.failure {
        let _ = writeln!(page, "<pre class=\"bad\">{}</pre>", escape(failure));
    }
    for (command, verdict) in &record.verdicts {
        page.push_str(&timeline::html(command, verdict));
    }
    page.push_str("<h2>Chapters</h2>\n<table><tr><th>chapter<th>when<th>took</tr>\n");
    for chapter in &record.chapters {
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td class=\"n\">{:.1} s</tr>",
            escape(&chapter.name),
            bar(chapter, record.seconds),
            chapter.took().as_secs_f64()
        );
    }
    page.push_str("</table>\n<h2>Commands</h2>\n<table><tr><th>command<th>exit<th>took</tr>\n");
    for done in record.chapters.iter().flat_map(|chapter| &chapter.commands) {
        let class = if done.ok { "" } else { " class=\"bad\"" };
        let code = done.code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        let _ = writeln!(
            page,
            "<tr{class}><td><code>{}</code><td class=\"n\">{code}<td class=\"n\">{:.2} s</tr>",
            escape(&done.command),
            done.seconds
        );
    }
    // A '<' within a script could end it.
    let json = serde_json::to_string(record).context("writing JSON")?.replace('<', "\\u003c");
    let _ = writeln!(page, "</table>\n<script type=\"application/json\" id=\"record\">{json}</script>\n</html>");
    Ok(page)
}

/// When a chapter was, out of the whole.
fn bar(chapter: &Played, whole: f64) -> String {
    let percent = |seconds: f64| if whole > 0.0 { (seconds / whole * 100.0).clamp(0.0, 100.0) } else { 0.0 };
    let class = if chapter.ok() { "" } else { " class=\"bad\"" };
    format!(
        "<div class=\"bar\"><i{class} style=\"left:{:.2}%;width:{:.2}%\"></i></div>",
        percent(chapter.at_seconds),
        percent(chapter.took().as_secs_f64())
    )
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::record::Done;
    use super::*;

    #[test]
    fn nothing_that_a_command_said_becomes_markup() {
        let mut record = Record::begin();
        record.chapter("a <b>");
        record.command(Done { command: "echo </script>".to_owned(), seconds: 1.0, code: Some(1), ok: false });
        record.end(Some(&anyhow::anyhow!("1 < 2 & \"3\"")));
        let page = html(&record).unwrap();
        assert!(page.contains("Rehearsal failed") && page.contains("a &lt;b&gt;"), "{page}");
        assert!(page.contains("1 &lt; 2 &amp; &quot;3&quot;"), "{page}");
        assert_eq!(page.matches("</script>").count(), 1, "{page}");
        let json = page.split("id=\"record\">").nth(1).unwrap().split("</script>").next().unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["chapters"][0]["commands"][0]["command"], "echo </script>");
    }
}
