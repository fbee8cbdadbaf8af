//! The `Date` field: formatted once a second and thread.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

thread_local! {
    static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Gives `use_date` the present time as an IMF-fixdate (RFC 9110 section 5.6.7).
pub(crate) fn with_date<T>(use_date: impl FnOnce(&str) -> T) -> T {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != now || text.is_empty() {
            *second = now;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
        }
        use_date(text)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_an_imf_fixdate() {
        super::with_date(|date| {
            assert_eq!(date.len(), 29);
            assert!(httpdate::parse_http_date(date).is_ok());
        });
    }
}
