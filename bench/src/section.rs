//! `bench/RESULTS.md` is written by two programs: each keeps what the other one wrote.

const BEGIN: &str = "<!-- failover: written by `make bench-failover`; do not edit -->";
const END: &str = "<!-- end of failover -->";

/// `new` with the section about failover that `old` has.
#[allow(dead_code)]
pub fn keep(old: &str, new: &str) -> String {
    match find(old) {
        Some((begin, end)) => format!("{}\n\n{}\n", new.trim_end(), &old[begin..end]),
        None => new.to_owned(),
    }
}

/// `old` with this section about failover in place of the one it has.
#[allow(dead_code)]
pub fn replace(old: &str, section: &str) -> String {
    let section = format!("{BEGIN}\n\n{}\n\n{END}", section.trim());
    match find(old) {
        Some((begin, end)) => format!("{}{section}{}", &old[..begin], &old[end..]),
        None => format!("{}\n\n{section}\n", old.trim_end()),
    }
}

fn find(text: &str) -> Option<(usize, usize)> {
    let begin = text.find(BEGIN)?;
    let end = begin + text[begin..].find(END)? + END.len();
    Some((begin, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_keeps_what_the_other_wrote() {
        let first = replace("# Side by side\n\nspeed 1\n", "## Failover\n\none");
        assert!(first.starts_with("# Side by side\n\nspeed 1\n\n<!-- failover"));
        assert!(first.ends_with("one\n\n<!-- end of failover -->\n"));
        let second = keep(&first, "# Side by side\n\nspeed 2\n");
        assert!(
            second.contains("speed 2") && second.contains("one") && !second.contains("speed 1")
        );
        let third = replace(&second, "## Failover\n\ntwo");
        assert!(third.contains("speed 2") && third.contains("two") && !third.contains("one"));
        assert_eq!(keep("nothing", "new"), "new");
        assert_eq!(third.matches("end of failover").count(), 1);
    }
}
