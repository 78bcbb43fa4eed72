//! Slack: messages by an incoming webhook.
//!
//! The address of a webhook is its password: it comes by reference, and stands in no error and no
//! log. A webhook cannot tell that it saw a message before, so a message whose answer was lost is
//! posted a second time by the next run.

mod answer;
mod message;
mod notifier;

use mloop_platform::NotifierRegistry;
pub use notifier::{SlackNotifier, SlackSettings};

/// Registers every kind of this crate.
pub fn register_builtin(registry: &mut NotifierRegistry) {
    registry.register::<SlackSettings>();
}
