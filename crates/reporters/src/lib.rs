//! The reporters that need no outside system of their own.
//!
//! | kind | what it does | default `when` |
//! |---|---|---|
//! | `alert` | tells people, over the configured notifiers | `alert` |
//! | `html` | writes one self-contained page a run | `always` |
//! | `json` | writes the report, one file a run | `always` |

mod alert;
mod file;
mod html;
mod json;

pub use alert::{AlertConfig, AlertReporter};
pub use html::{HtmlConfig, HtmlReporter, page};
pub use json::{JsonConfig, JsonReporter};
use mloop_reporter::ReporterRegistry;

/// Registers every kind of this crate.
pub fn register_builtin(registry: &mut ReporterRegistry) {
    registry.register::<AlertConfig>();
    registry.register::<HtmlConfig>();
    registry.register::<JsonConfig>();
}
