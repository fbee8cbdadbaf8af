//! What is wrong with a file, where, and what to write instead.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::limits::DIAGNOSTICS_MAX;

/// How much of a line is pointed at.
const LINE_SHOWN_BYTES_MAX: usize = 200;

/// Everything there is to say about a file, in file order.
///
/// Displays as plain text; [`Diagnostics::render`] colours it.
#[derive(Clone)]
pub struct Diagnostics {
    file_name: Arc<str>,
    text: Arc<str>,
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

/// One thing that is wrong or doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    label: String,
    /// Bytes of the file that are meant; `None` for the file as a whole.
    span: Option<Range<usize>>,
    context: Vec<(Range<usize>, String)>,
    help: Vec<String>,
    line: usize,
    column: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is used; it may not do what was meant.
    Warning,
}

impl Diagnostics {
    /// One error about a file as a whole, of what only shows where it is used.
    pub fn about_file(file_name: &str, message: &str, help: Option<&str>) -> Self {
        let mut report = Report::default();
        let diagnostic = Diagnostic::about_file(Severity::Error, message);
        report.push(match help {
            Some(help) => diagnostic.with_help(help),
            None => diagnostic,
        });
        report.finish(file_name, "")
    }

    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many errors there are, also those past [`DIAGNOSTICS_MAX`] that were not kept.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// How many warnings there are, also those that were not kept.
    pub fn warnings(&self) -> usize {
        self.warnings
    }

    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// `2 errors and 1 warning in trilith.toml`.
    pub fn summary(&self) -> String {
        let count = |number: usize, noun: &str| match number {
            0 => None,
            1 => Some(format!("1 {noun}")),
            _ => Some(format!("{number} {noun}s")),
        };
        let counts = [count(self.errors, "error"), count(self.warnings, "warning")];
        let counts: Vec<_> = counts.into_iter().flatten().collect();
        let counts = if counts.is_empty() {
            "nothing wrong".to_owned()
        } else {
            counts.join(" and ")
        };
        format!("{counts} in {}", printable(&self.file_name))
    }

    /// All of them, each with its lines of the file and a caret, an empty line between two; ends
    /// with a newline unless there is nothing to say. `colour` adds terminal colours.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut out = String::new();
        for diagnostic in &self.list {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&self.render_one(diagnostic, &renderer));
            out.push('\n');
        }
        let left_out = self.errors + self.warnings - self.list.len();
        if left_out > 0 {
            out.push_str(&format!("\n... and {left_out} more like these\n"));
        }
        out
    }

    fn render_one(&self, diagnostic: &Diagnostic, renderer: &Renderer) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level.primary_title(&*diagnostic.message).elements(
            diagnostic
                .span
                .as_ref()
                .map(|span| self.snippet(diagnostic, span)),
        );
        if diagnostic.span.is_none() {
            let origin = annotate_snippets::Origin::path(printable(&self.file_name));
            group = group.element(origin);
        }
        for help in &diagnostic.help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }

    /// Only the lines from the first to the last place, so that a long file costs nothing.
    fn snippet<'a>(
        &'a self,
        diagnostic: &'a Diagnostic,
        span: &Range<usize>,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let places = || {
            diagnostic
                .context
                .iter()
                .map(|(span, _)| span)
                .chain([span])
        };
        let first = places().map(|span| span.start).min().unwrap_or(0);
        let last = places().map(|span| span.end).max().unwrap_or(0);
        let start = self.text[..first].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[last..]
            .find('\n')
            .map_or(self.text.len(), |at| last + at);
        let shift = |span: &Range<usize>| span.start - start..span.end - start;
        let label = Some(diagnostic.label.as_str()).filter(|label| !label.is_empty());
        Snippet::source(&self.text[start..end])
            .path(printable(&self.file_name))
            .line_start(line_of(&self.text, start))
            .annotation(AnnotationKind::Primary.span(shift(span)).label(label))
            .annotations(diagnostic.context.iter().map(|(span, label)| {
                AnnotationKind::Context
                    .span(shift(span))
                    .label(label.as_str())
            }))
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Diagnostics {
    /// As displayed: this is what a failed `unwrap` in a test prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{self}", self.summary())
    }
}

impl std::error::Error for Diagnostics {}

impl Diagnostic {
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What stands beside the caret; may be empty.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Line from 1 and column from 1 (in characters); `None` when the file as a whole is meant.
    pub fn position(&self) -> Option<(usize, usize)> {
        self.span.as_ref().map(|_| (self.line, self.column))
    }

    /// What to write instead; may be empty.
    pub fn help(&self) -> &[String] {
        &self.help
    }
}

/// A diagnostic in the making.
impl Diagnostic {
    pub(crate) fn error(span: Range<usize>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, Some(span), message.into())
    }

    pub(crate) fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, Some(span), message.into())
    }

    /// About the file as a whole: something is missing.
    pub(crate) fn about_file(severity: Severity, message: impl Into<String>) -> Self {
        Self::new(severity, None, message.into())
    }

    fn new(severity: Severity, span: Option<Range<usize>>, message: String) -> Self {
        Self {
            severity,
            message,
            label: String::new(),
            span,
            context: Vec::new(),
            help: Vec::new(),
            line: 0,
            column: 0,
        }
    }

    pub(crate) fn starts_at(&self) -> Option<usize> {
        self.span.as_ref().map(|span| span.start)
    }

    pub(crate) fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Another place that has to do with it.
    pub(crate) fn with_context(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.context.push((span, label.into()));
        self
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// Collects diagnostics while a file is read.
#[derive(Debug, Default)]
pub(crate) struct Report {
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Report {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let count = match diagnostic.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if !self.is_full() {
            self.list.push(diagnostic);
        }
    }

    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= DIAGNOSTICS_MAX
    }

    /// Sorts into file order and binds to the text.
    pub(crate) fn finish(mut self, file_name: &str, text: &str) -> Diagnostics {
        let inside = |span: &Range<usize>| clamp(text, span);
        for diagnostic in &mut self.list {
            diagnostic.message = printable(&diagnostic.message);
            diagnostic.label = printable(&diagnostic.label);
            for help in &mut diagnostic.help {
                *help = printable(help);
            }
            for (span, label) in &mut diagnostic.context {
                *span = inside(span);
                *label = printable(label);
            }
            if let Some(span) = &mut diagnostic.span {
                *span = inside(span);
                diagnostic.line = line_of(text, span.start);
                let line_start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
                diagnostic.column = text[line_start..span.start].chars().count() + 1;
                // Both places of a line are shown with all that is between them.
                let near = |other: &Range<usize>| {
                    let (first, last) = (other.start.min(span.start), other.start.max(span.start));
                    last - first <= LINE_SHOWN_BYTES_MAX || text[first..last].contains('\n')
                };
                diagnostic.context.retain(|(other, _)| near(other));
            }
        }
        // What is about the file as a whole comes last.
        let start = |span: &Option<Range<usize>>| span.as_ref().map_or(usize::MAX, |s| s.start);
        self.list.sort_by_key(|diagnostic| start(&diagnostic.span));
        Diagnostics {
            file_name: file_name.into(),
            text: text.into(),
            list: self.list,
            errors: self.errors,
            warnings: self.warnings,
        }
    }
}

/// What the file's author wrote, for use inside a message: in backticks, on one line, not long.
pub(crate) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    if text.is_empty() {
        return "`\"\"`".to_owned();
    }
    let mut out = String::from("`");
    for (index, c) in text.chars().enumerate() {
        if index == CHARS_MAX {
            out.push_str("...");
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

/// Without control characters, which could drive a terminal, and not endless.
fn printable(text: &str) -> String {
    const CHARS_MAX: usize = 500;
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut out: String = text.chars().take(CHARS_MAX).map(plain).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        out.push_str("...");
    }
    out
}

/// Line number from 1.
fn line_of(text: &str, at: usize) -> usize {
    text[..at].bytes().filter(|b| *b == b'\n').count() + 1
}

/// A span that certainly lies in the text, on character boundaries, and on one line, of which it is
/// not too much: long rows of carets help nobody.
fn clamp(text: &str, span: &Range<usize>) -> Range<usize> {
    let floor = |at: usize| {
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    let end = floor(span.end.min(start.saturating_add(LINE_SHOWN_BYTES_MAX))).max(start);
    let end = text[start..end]
        .find(['\n', '\r'])
        .map_or(end, |at| start + at);
    start..end
}

#[cfg(test)]
mod tests;
