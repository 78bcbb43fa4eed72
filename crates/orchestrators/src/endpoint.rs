//! Endpoints, watched: whether they became what they were asked to become.

use std::time::Duration;

use mloop_core::deployment::{EndpointDescription, EndpointState};
use mloop_core::{EndpointName, Sha256Digest, error_chain};
use mloop_deployer::{Answer, Endpoints, Invocation};
use tokio::time::Instant;

use crate::OrchestratorError;
use crate::lease::Held;

/// Looks in a row at which production shows the old version before a switch counts as undone: a
/// platform may take a moment before it shows a change that it accepted.
const UNDONE_LOOKS: u32 = 3;

/// How an endpoint stands to what it is to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    /// It serves what it should.
    There,
    /// A change is under way, or not yet to be seen.
    OnTheWay,
    /// It serves what it served before.
    Before,
    /// It will not answer by itself.
    Failed(String),
    /// It serves, or is about to serve, something that was never asked for.
    Stranger(Sha256Digest),
}

/// Looks at an endpoint that is to serve `wanted` and served `before` until now.
pub(crate) fn look(
    found: Option<&EndpointDescription>,
    wanted: Sha256Digest,
    before: Option<Sha256Digest>,
) -> Look {
    let Some(found) = found else {
        return if before.is_none() { Look::Before } else { Look::OnTheWay };
    };
    match (found.state, found.pending, found.configured) {
        (EndpointState::Failed, ..) => Look::Failed(found.detail.clone()),
        (_, Some(pending), _) if pending != wanted && Some(pending) != before => {
            Look::Stranger(pending)
        }
        (EndpointState::Changing, ..) | (_, Some(_), _) => Look::OnTheWay,
        (_, None, Some(configured)) if configured == wanted => Look::There,
        (_, None, configured) if configured == before => Look::Before,
        (_, None, Some(configured)) => Look::Stranger(configured),
        (_, None, None) => Look::OnTheWay,
    }
}

/// What an endpoint may serve until it serves what is wanted.
#[derive(Clone, Copy)]
pub(crate) enum Before {
    /// Whatever it is, it will be replaced.
    Anything,
    /// This, and nothing else; seen again for long, the change was undone.
    Exactly(Option<Sha256Digest>),
}

impl Before {
    fn look(self, found: Option<&EndpointDescription>, wanted: Sha256Digest) -> Look {
        match self {
            Self::Exactly(before) => look(found, wanted, before),
            Self::Anything => match look(found, wanted, None) {
                Look::Before | Look::Stranger(_) => Look::OnTheWay,
                seen => seen,
            },
        }
    }
}

/// Somebody else changed an endpoint.
pub(crate) fn stranger(
    endpoint: &EndpointName,
    digest: Sha256Digest,
    wanted: Sha256Digest,
) -> OrchestratorError {
    let doing = format!("changing {endpoint} to {}", wanted.short(12));
    let problem = format!(
        "it serves or is about to serve {}, which this deployment did not put there; find out who did, then run again",
        digest.short(12)
    );
    OrchestratorError::needs_person(doing, problem)
}

/// Watches endpoints for as long as patience lasts, and keeps the lease meanwhile.
pub(crate) struct Watch<'a> {
    pub(crate) endpoints: &'a Endpoints,
    pub(crate) held: &'a Held,
    pub(crate) patience: Duration,
    pub(crate) poll: Duration,
}

impl Watch<'_> {
    /// What an endpoint is configured to serve, and how it is.
    pub(crate) async fn describe(
        &self,
        endpoint: &EndpointName,
    ) -> Result<Option<EndpointDescription>, OrchestratorError> {
        Ok(self.endpoints.deployer.describe(endpoint).await?)
    }

    /// Waits until an endpoint serves `wanted`, failed, or is seen to have gone back.
    pub(crate) async fn settle(
        &self,
        endpoint: &EndpointName,
        wanted: Sha256Digest,
        before: Before,
    ) -> Result<Look, OrchestratorError> {
        let end = Instant::now() + self.patience;
        let mut undone_looks = 0;
        loop {
            self.held.renew().await?;
            let seen = match self.endpoints.deployer.describe(endpoint).await {
                Ok(found) => before.look(found.as_ref(), wanted),
                Err(error) if error.is_transient() => Look::OnTheWay,
                Err(error) => return Err(error.into()),
            };
            undone_looks = if seen == Look::Before { undone_looks + 1 } else { 0 };
            match seen {
                Look::There | Look::Failed(_) => return Ok(seen),
                Look::Before if undone_looks >= UNDONE_LOOKS => return Ok(seen),
                Look::Stranger(digest) => return Err(stranger(endpoint, digest, wanted)),
                Look::Before | Look::OnTheWay if Instant::now() < end => {}
                Look::Before | Look::OnTheWay => {
                    let doing = format!("waiting for {endpoint} to serve {}", wanted.short(12));
                    let problem = format!("it does not after {:?}", self.patience);
                    return Err(OrchestratorError::NotYet { doing, problem });
                }
            }
            self.held.pause(self.poll).await;
        }
    }

    /// Asks an endpoint over new connections until `n` answers in a row are sound.
    pub(crate) async fn answers(
        &self,
        endpoint: &EndpointName,
        probe: &Invocation,
        wanted: Sha256Digest,
        n: u32,
        sound: impl Fn(&Answer) -> bool,
    ) -> Result<(), OrchestratorError> {
        let end = Instant::now() + self.patience;
        let mut in_a_row = 0;
        while in_a_row < n {
            self.held.keep().await?;
            let found = match self.endpoints.client.invoke(endpoint, probe).await {
                Ok(answer) if sound(&answer) => {
                    in_a_row += 1;
                    continue;
                }
                Ok(Answer { status, digest, .. }) => {
                    let from = digest.map_or("no version".to_owned(), |digest| digest.short(12));
                    format!("status {status} from {from}")
                }
                Err(error) if error.is_transient() => error_chain(&error),
                Err(error) => return Err(error.into()),
            };
            if Instant::now() >= end {
                let expected = wanted.short(12);
                let doing = format!("asking {endpoint} for answers of {expected}");
                let problem = format!("after {:?} it still gives {found}", self.patience);
                return Err(OrchestratorError::NotYet { doing, problem });
            }
            in_a_row = 0;
            self.held.pause(self.poll).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_tells_how_far_a_change_has_come() {
        let [old, new, other] = [&b"old"[..], b"new", b"other"].map(Sha256Digest::of);
        let found = |state, configured, pending| {
            Some(EndpointDescription { state, configured, pending, detail: "why".to_owned() })
        };
        let (serving, changing) = (EndpointState::InService, EndpointState::Changing);
        let table = [
            ("there", found(serving, Some(new), None), Some(old), Look::There),
            ("not yet", found(changing, Some(old), Some(new)), Some(old), Look::OnTheWay),
            ("going back", found(changing, Some(new), Some(old)), Some(old), Look::OnTheWay),
            ("undone", found(serving, Some(old), None), Some(old), Look::Before),
            ("never made", None, None, Look::Before),
            ("gone", None, Some(old), Look::OnTheWay),
            (
                "a stranger serves",
                found(serving, Some(other), None),
                Some(old),
                Look::Stranger(other),
            ),
            (
                "a stranger is coming",
                found(changing, Some(old), Some(other)),
                Some(old),
                Look::Stranger(other),
            ),
            (
                "failed",
                found(EndpointState::Failed, Some(new), None),
                Some(old),
                Look::Failed("why".to_owned()),
            ),
        ];
        for (name, found, before, expected) in table {
            assert_eq!(look(found.as_ref(), new, before), expected, "{name}");
        }
        // A staging endpoint is ours, whatever it served.
        let stranger = found(serving, Some(other), None);
        assert_eq!(Before::Anything.look(stranger.as_ref(), new), Look::OnTheWay);
    }
}
