//! "Did you mean".

use strsim::damerau_levenshtein;

/// Most suggestions for one name.
pub(crate) const SIMILAR_MAX: usize = 5;

/// Longer texts are no slip of the finger, and comparing takes time in proportion to both lengths.
const TEXT_BYTES_MAX: usize = 64;

/// The candidates (each with other words for it) that look like `text`, the likeliest first. Case,
/// `-` and `_` do not count.
pub(crate) fn similar<'a, 'b>(
    text: &str,
    candidates: impl IntoIterator<Item = (&'a str, &'b [&'b str])>,
) -> Vec<&'a str> {
    if text.len() > TEXT_BYTES_MAX {
        return Vec::new();
    }
    let text = plain(text);
    let mut found: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter(|(name, _)| name.len() <= TEXT_BYTES_MAX)
        .filter_map(|(name, also)| {
            if also.iter().any(|word| plain(word) == text) {
                return Some((0, name));
            }
            let candidate = plain(name);
            let distance = damerau_levenshtein(&text, &candidate);
            // As rustc does: a third of the longer one may differ.
            let distance_max = text.len().max(candidate.len()) / 3;
            (distance <= distance_max.max(1) && distance < candidate.len())
                .then_some((distance, name))
        })
        .collect();
    found.sort_by_key(|(distance, _)| *distance);
    found.truncate(SIMILAR_MAX);
    found.into_iter().map(|(_, name)| name).collect()
}

/// The likeliest one.
pub(crate) fn most_similar<'a, 'b>(
    text: &str,
    candidates: impl IntoIterator<Item = (&'a str, &'b [&'b str])>,
) -> Option<&'a str> {
    similar(text, candidates).into_iter().next()
}

fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [(&str, &[&str]); 3] = [
        ("address", &["ip", "bind"]),
        ("name", &["hostname"]),
        ("roles", &["role"]),
    ];

    #[test]
    fn finds_slips_and_other_words() {
        for (text, meant) in [
            ("adress", "address"),
            ("Address", "address"),
            ("naem", "name"),
            ("ip", "address"),
            ("host-name", "name"),
            ("rols", "roles"),
        ] {
            assert_eq!(most_similar(text, NAMES), Some(meant), "{text}");
        }
    }

    #[test]
    fn does_not_guess_wildly() {
        for text in ["", "x", "colour", "weight", &"address".repeat(20)] {
            assert_eq!(most_similar(text, NAMES), None, "{text}");
        }
    }
}
