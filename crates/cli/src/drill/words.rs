//! What both reports say in the same words.

use std::time::Duration;

pub fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// When all was well again, if it was.
pub fn all_ready(injected: Duration, healed: Duration, recovered: Option<Duration>) -> String {
    match recovered {
        Some(at) => format!(
            "{} after the repair, itself {} after the fault",
            seconds(at.saturating_sub(healed)),
            seconds(healed.saturating_sub(injected))
        ),
        None => "no".to_owned(),
    }
}

pub fn verdict(broken: &[String]) -> String {
    match broken {
        [] => "kept".to_owned(),
        broken => format!("broken: {}", broken.join("; ")),
    }
}
