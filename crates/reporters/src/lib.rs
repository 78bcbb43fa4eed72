//! The reporters that need no outside system of their own.
//!
//! | kind | what it does | default `when` |
//! |---|---|---|
//! | `alert` | tells people, over the configured notifiers | `alert` |
//! | `html` | writes one self-contained page a run | `always` |
//! | `json` | writes the report, one file a run | `always` |

mod alert;
mod file;
mod histogram;
mod html;
mod json;
mod rank;
mod terminal;
#[cfg(test)]
mod testing;
mod words;

pub use alert::{AlertConfig, AlertReporter};
pub use html::{HtmlConfig, HtmlReporter, page};
pub use json::{JsonConfig, JsonReporter};
use mloop_reporter::ReporterRegistry;
pub use terminal::{Screen, text};

/// Registers every kind of this crate.
pub fn register_builtin(registry: &mut ReporterRegistry) {
    registry.register::<AlertConfig>();
    registry.register::<HtmlConfig>();
    registry.register::<JsonConfig>();
}
