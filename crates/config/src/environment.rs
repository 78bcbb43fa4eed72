//! The one door through which environment variables come in.

/// The value of a variable; `None` when it is not set, empty, or no UTF-8.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the only place that may read the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
