//! E-mail over SMTP: one mail for each message, to a list of recipients.
//!
//! - Encrypted unless the server is this machine or plain text is allowed by name.
//! - The `Message-ID` derives from the message's own id, so that mail programs and people recognise a
//!   mail that came twice. SMTP itself does not: a mail whose receipt was lost is sent again.
//! - A recipient that is refused keeps the mail from no other; the mail itself tells the others. One
//!   that is refused for now gets it later, alone.

mod failure;
mod html;
mod mail;
mod notifier;
mod session;
mod settings;

use mloop_platform::NotifierRegistry;
pub use notifier::EmailNotifier;
pub use settings::{EmailSettings, Tls};

/// Registers every kind of this crate.
pub fn register_builtin(registry: &mut NotifierRegistry) {
    registry.register::<EmailSettings>();
}
