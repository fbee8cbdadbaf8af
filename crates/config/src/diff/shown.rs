//! Values as they are shown: short, on one line, without what may be secret.

/// Longest value shown, in characters.
const CHARS_MAX: usize = 120;
const HIDDEN: &str = "(hidden)";
/// Parts of names whose values are not shown. Lower case.
const SECRET_WORDS: [&str; 8] = [
    "pass",
    "secret",
    "token",
    "key",
    "credential",
    "auth",
    "private",
    "salt",
];

/// A string as TOML, on one line.
pub(super) fn text(text: &str) -> String {
    let masked = masked(text);
    let mut out = String::from("\"");
    for (index, c) in masked.chars().enumerate() {
        if index == CHARS_MAX {
            out.push_str("...");
            break;
        }
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A list of strings as TOML.
pub(super) fn list<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| text(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A value that nobody is shown.
pub(super) fn hidden() -> String {
    HIDDEN.to_owned()
}

/// Whether a value of that name is likely to be secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Without passwords in URLs (`//user:password@host`), and without the values of assignments and flags
/// whose name says that they are secret (`TOKEN=...`, `--password ...`).
fn masked(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut hide_next = false;
    for word in line.split(' ') {
        if hide_next && !word.is_empty() && !word.starts_with('-') {
            words.push(HIDDEN.to_owned());
            hide_next = false;
            continue;
        }
        hide_next = false;
        words.push(match word.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
            Some(_) => without_password(word),
            None => {
                hide_next = word.starts_with("--") && is_secret(word);
                without_password(word)
            }
        });
    }
    words.join(" ")
}

fn without_password(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{scheme}://{user}:{HIDDEN}@{host}{path}")
        }
        None => word.to_owned(),
    }
}
