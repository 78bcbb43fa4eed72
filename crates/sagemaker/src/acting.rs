//! Calls that change something.
//!
//! SageMaker has no token by which a repeat would be known for one. So the SDK repeats none of them: after
//! a failure that may pass, or that leaves open what became of the call, a look decides whether it is made
//! again.

use std::time::Duration;

use mloop_http::Policy;
use tokio::time::sleep;

use crate::connection::Clients;
use crate::failure::{Class, Failure};

/// Tries of a call that may not see yet what was made a moment before, and the pause after the
/// first; each further pause is twice as long. Twelve seconds in all.
const SIGHT_TRIES: u32 = 7;
const SIGHT_PAUSE: Duration = Duration::from_millis(200);

/// Longest pause after the first failure that may pass, and at all: AWS's own clients wait about as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// How it is known that it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// The call was answered so.
    Called,
    /// A look found it.
    Found,
}

/// What a look after a failed call finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is so, or on its way there.
    Done,
    /// All is as it was when the call was made.
    AsBefore,
    /// Neither.
    Changed,
}

impl Look {
    /// Of something that there is or is not.
    pub(crate) fn of(is_done: bool) -> Self {
        if is_done { Self::Done } else { Self::AsBefore }
    }
}

/// Makes a call that follows a look, and looks again before each further try. Throttling, errors of the
/// server and lost answers are tried as often as the settings say; what cannot be found, [`SIGHT_TRIES`]
/// times: give it as [`Failure::for_good`] where the call names nothing that was just made.
///
/// # Errors
/// The last failure, where the look does not find it done; the look's own.
pub(crate) async fn act<C, L>(
    clients: &Clients,
    call: impl Fn() -> C,
    look: impl Fn() -> L,
) -> Result<Done, Failure>
where
    C: Future<Output = Result<(), Failure>>,
    L: Future<Output = Result<Look, Failure>>,
{
    let mut after_failures = pauses(clients.tries);
    let mut unseen = sight_pauses();
    loop {
        let Err(failure) = call().await else { return Ok(Done::Called) };
        let pause = match failure.class {
            Class::Busy => after_failures.next(),
            Class::Missing => unseen.next(),
            Class::Exists | Class::InProgress | Class::Refused => None,
            Class::Denied | Class::Unfit | Class::Withdrawn => return Err(failure),
        };
        if let Some(pause) = pause {
            sleep(pause).await;
        }
        match look().await? {
            Look::Done => return Ok(Done::Found),
            Look::AsBefore if pause.is_some() => {
                tracing::info!(
                    "SageMaker said `{}`; nothing came of it: tried again",
                    failure.said
                );
            }
            Look::AsBefore | Look::Changed => return Err(failure.not_seen_yet()),
        }
    }
}

/// Pauses between so many tries.
fn pauses(tries: u32) -> impl Iterator<Item = Duration> {
    let policy =
        Policy { first_pause: FIRST_PAUSE, longest_pause: LONGEST_PAUSE, ..Policy::default() };
    (1..tries).map(move |tried| policy.pause(tried))
}

/// Pauses between tries of a call that names what was made a moment before.
pub(crate) fn sight_pauses() -> impl Iterator<Item = Duration> {
    (0..SIGHT_TRIES).map(|count| SIGHT_PAUSE * 2_u32.pow(count))
}
