//! The pages, as HTML. Everything that came from a visitor goes through [`escape`].

use std::fmt::Write;

use crate::entries::{Answerer, Entry, NewEntry};
use crate::settings::Settings;

pub fn front(
    settings: &Settings,
    entries: &[Entry],
    answerer: &Answerer,
    form: &NewEntry,
    problem: Option<&str>,
) -> String {
    let problem = problem.map_or(String::new(), |problem| {
        format!(r#"<p class="problem" role="alert">{}</p>"#, escape(problem))
    });
    let mut list = String::new();
    for entry in entries {
        push_entry(&mut list, entry);
    }
    if entries.is_empty() {
        list.push_str(r#"<p class="empty">Nobody has written yet. Be the first.</p>"#);
    }
    let role = if answerer.in_recovery {
        "replica"
    } else {
        "primary"
    };
    let main = format!(
        r#"<form class="card" action="/entries" method="post">
  <h2>Leave a word</h2>
  {problem}
  <label>Name
    <input name="name" maxlength="60" autocomplete="name" required value="{name}">
  </label>
  <label>Message
    <textarea name="message" maxlength="1000" rows="3" required>{message}</textarea>
  </label>
  <button>Sign the guest book</button>
</form>
<section aria-label="Entries">
{list}</section>"#,
        name = escape(&form.name),
        message = escape(&form.message),
    );
    let footer = format!(
        r#"<dl>
  <div><dt>Server</dt><dd>{server}</dd></div>
  <div><dt>Instance</dt><dd>{instance}</dd></div>
  <div><dt>Release</dt><dd>{release}</dd></div>
  <div><dt>Read from</dt><dd><span class="role {role}">{role}</span> {address}:{port}</dd></div>
</dl>
<p><a href="/whoami">Who am I?</a> · <a href="/entries.json">Entries as JSON</a></p>"#,
        server = escape(&settings.server),
        instance = escape(&settings.instance),
        release = escape(&settings.release),
        address = escape(&answerer.address),
        port = answerer.port,
    );
    document("The guest book of www.foobar.com", &main, &footer)
}

pub fn not_found() -> String {
    let main = r#"<div class="card notice">
  <h2>There is no such page</h2>
  <p><a href="/">To the guest book</a></p>
</div>"#;
    document("Not found · www.foobar.com", main, "")
}

pub fn unavailable() -> String {
    let main = r#"<div class="card notice">
  <h2>One moment, please</h2>
  <p>The database is not there yet. Try again in a few seconds.</p>
</div>"#;
    document("One moment · www.foobar.com", main, "")
}

fn document(title: &str, main: &str, footer: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="description" content="The guest book of www.foobar.com">
<title>{title}</title>
<link rel="icon" href="/assets/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/assets/site.css">
</head>
<body>
<header class="top">
  <a href="/"><img src="/assets/favicon.svg" alt="" width="44" height="44"></a>
  <div>
    <h1>Guest book</h1>
    <p>www.foobar.com</p>
  </div>
</header>
<main>
{main}
</main>
<footer>
{footer}
</footer>
</body>
</html>
"#
    )
}

fn push_entry(out: &mut String, entry: &Entry) {
    let initial: String = entry
        .name
        .chars()
        .take(1)
        .flat_map(char::to_uppercase)
        .collect();
    let hue = entry
        .name
        .bytes()
        .fold(0u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte))
        % 8;
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        r#"<article class="card entry" id="entry-{id}">
  <span class="avatar hue-{hue}" aria-hidden="true">{initial}</span>
  <div>
    <h3>{name}</h3>
    <time datetime="{time}" title="{time}">{ago}</time>
    <p>{message}</p>
  </div>
</article>
"#,
        id = entry.id,
        initial = escape(&initial),
        name = escape(&entry.name),
        time = entry.created_at,
        ago = ago(entry.age_s),
        message = escape(&entry.message),
    );
}

fn ago(seconds: i64) -> String {
    let count = |number: i64, unit: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {unit}{plural} ago")
    };
    match seconds {
        ..5 => "just now".to_owned(),
        5..60 => count(seconds, "second"),
        60..3_600 => count(seconds / 60, "minute"),
        3_600..86_400 => count(seconds / 3_600, "hour"),
        _ => count(seconds / 86_400, "day"),
    }
}

/// For text and for attribute values in double quotes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_visitors_write_is_text() {
        let entry = Entry {
            id: 7,
            name: "<script>\"x\"</script>".to_owned(),
            message: "a & b\n'c'".to_owned(),
            created_at: "2026-11-23T01:02:03Z".to_owned(),
            age_s: 61,
        };
        let mut html = String::new();
        push_entry(&mut html, &entry);
        assert!(
            html.contains("<h3>&lt;script&gt;&quot;x&quot;&lt;/script&gt;</h3>"),
            "{html}"
        );
        assert!(html.contains("<p>a &amp; b\n&#39;c&#39;</p>"), "{html}");
        assert!(html.contains(">1 minute ago<"), "{html}");
        assert!(html.contains("aria-hidden=\"true\">&lt;</span>"), "{html}");
    }

    #[test]
    fn tells_time_as_people_do() {
        for (seconds, text) in [
            (-3, "just now"),
            (4, "just now"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (7_200, "2 hours ago"),
            (86_400, "1 day ago"),
            (9_999_999, "115 days ago"),
        ] {
            assert_eq!(ago(seconds), text);
        }
    }
}
