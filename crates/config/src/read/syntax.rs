//! From bytes to TOML's tree.

use std::borrow::Cow;

use toml::de::DeTable;

use super::table::Context;
use crate::diagnostics::{Diagnostic, Severity};
use crate::limits::FILE_BYTES_MAX;

/// The text, as far as it is one.
pub(super) fn text<'t>(cx: &Context<'_>, content: &'t [u8]) -> Cow<'t, str> {
    if content.len() > FILE_BYTES_MAX {
        let message = format!("the file is longer than {} KiB", FILE_BYTES_MAX / 1024);
        cx.push(
            Diagnostic::about_file(Severity::Error, message)
                .with_help("is this really the config file?"),
        );
        return Cow::Borrowed("");
    }
    match std::str::from_utf8(content) {
        Ok(text) => Cow::Borrowed(text),
        Err(error) => {
            let at = error.valid_up_to();
            let text = String::from_utf8_lossy(content);
            cx.push(
                Diagnostic::error(at..at + '\u{fffd}'.len_utf8(), "this is not UTF-8")
                    .with_help("save the file as UTF-8"),
            );
            text
        }
    }
}

/// The tree. `None` when there already were errors or the text is not TOML.
pub(super) fn tree<'a>(cx: &Context<'_>, text: &'a str) -> Option<DeTable<'a>> {
    if cx.report.borrow().errors() > 0 {
        return None;
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        cx.push(Diagnostic::error(
            span,
            format!("SYNTAX {}", error.message()),
        ));
    }
    errors.is_empty().then(|| root.into_inner())
}
