//! What standard output is, for text that people read.

use console::Term;

/// Columns where there is no terminal.
const DEFAULT_WIDTH: u16 = 100;

/// Columns of characters that text on standard output has: those of the terminal.
#[must_use]
pub fn screen_width() -> usize {
    let width = Term::stdout().size_checked().map_or(DEFAULT_WIDTH, |(_, columns)| columns);
    usize::from(if width == 0 { DEFAULT_WIDTH } else { width })
}

/// Whether text on standard output may have colours: on a terminal that has some, unless the caller's
/// environment says `NO_COLOR` (no-color.org).
#[must_use]
pub fn screen_has_colors() -> bool {
    let variable = mloop_config::environment::variable;
    let is_dumb = variable("TERM").is_some_and(|term| term == "dumb");
    Term::stdout().is_term() && !is_dumb && variable("NO_COLOR").is_none()
}
