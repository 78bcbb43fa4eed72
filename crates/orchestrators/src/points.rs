//! Names of the fail points: every place at which the loop may be killed and must resume.

use mloop_core::deployment::Step;

/// Fail points of a deployment: for each step the moment after its intent is journaled, after the
/// outside calls, and after its outcome is journaled. In the order of [`Step::ALL`].
pub const DEPLOYMENT_POINTS: [[&str; 3]; 14] = [
    ["deployment.planned.intent", "deployment.planned.called", "deployment.planned.outcome"],
    [
        "deployment.staging_verified.intent",
        "deployment.staging_verified.called",
        "deployment.staging_verified.outcome",
    ],
    [
        "deployment.smoke_passed.intent",
        "deployment.smoke_passed.called",
        "deployment.smoke_passed.outcome",
    ],
    [
        "deployment.production_submitted.intent",
        "deployment.production_submitted.called",
        "deployment.production_submitted.outcome",
    ],
    [
        "deployment.production_verified.intent",
        "deployment.production_verified.called",
        "deployment.production_verified.outcome",
    ],
    [
        "deployment.alias_moved.intent",
        "deployment.alias_moved.called",
        "deployment.alias_moved.outcome",
    ],
    [
        "deployment.staging_removed.intent",
        "deployment.staging_removed.called",
        "deployment.staging_removed.outcome",
    ],
    ["deployment.notified.intent", "deployment.notified.called", "deployment.notified.outcome"],
    [
        "deployment.rollback_submitted.intent",
        "deployment.rollback_submitted.called",
        "deployment.rollback_submitted.outcome",
    ],
    [
        "deployment.rollback_verified.intent",
        "deployment.rollback_verified.called",
        "deployment.rollback_verified.outcome",
    ],
    [
        "deployment.rollback_alias_moved.intent",
        "deployment.rollback_alias_moved.called",
        "deployment.rollback_alias_moved.outcome",
    ],
    [
        "deployment.rollback_staging_removed.intent",
        "deployment.rollback_staging_removed.called",
        "deployment.rollback_staging_removed.outcome",
    ],
    [
        "deployment.rollback_notified.intent",
        "deployment.rollback_notified.called",
        "deployment.rollback_notified.outcome",
    ],
    [
        "deployment.production_restored.intent",
        "deployment.production_restored.called",
        "deployment.production_restored.outcome",
    ],
];

/// Directly before a remote change, after the last look at the endpoint and at the lease: whoever is
/// stopped here and goes on later still makes that one call.
pub const DEPLOYMENT_CALLS: [&str; 6] = [
    CALLING_DEPLOY,
    CALLING_SWITCH,
    CALLING_ROLLBACK,
    CALLING_RESTORE,
    CALLING_ALIASES,
    CALLING_REMOVE,
];
/// Before the staging endpoint is brought up.
pub const CALLING_DEPLOY: &str = "deployment.calling.deploy_model";
/// Before production is asked to serve the version.
pub const CALLING_SWITCH: &str = "deployment.calling.switch_to_production";
/// Before production is asked to serve the version before.
pub const CALLING_ROLLBACK: &str = "deployment.calling.rollback";
/// Before production is asked to serve what it should, in place of what a late call put there.
pub const CALLING_RESTORE: &str = "deployment.calling.restore";
/// Before the aliases are changed.
pub const CALLING_ALIASES: &str = "deployment.calling.aliases";
/// Before the staging endpoint is removed.
pub const CALLING_REMOVE: &str = "deployment.calling.remove_endpoint";

/// After it is written that a deployment goes back, before anything is done about it.
pub const DEPLOYMENT_TURNED: &str = "deployment.turned";

/// After the verdict of a deployment is written, before the run is.
pub const DEPLOYMENT_CONCLUDED: &str = "deployment.concluded";
/// After a deployment run is written.
pub const DEPLOYMENT_RECORDED: &str = "deployment.recorded";

/// After the intent to submit a job is journaled.
pub const RETRAINING_INTENT: &str = "retraining.intent";
/// After the job was accepted, before that is journaled.
pub const RETRAINING_CALLED: &str = "retraining.called";
/// After the acceptance is journaled and its message queued, before that is sent.
pub const RETRAINING_OUTCOME: &str = "retraining.outcome";
/// After later evidence is added to an open episode.
pub const RETRAINING_ATTACHED: &str = "retraining.attached";
/// After the job of a cause that is gone was cancelled, before its episode is closed.
pub const RETRAINING_CANCELLED: &str = "retraining.cancelled";
/// After the version of a finished job is recorded, before its episode is closed.
pub const RETRAINING_CLOSING: &str = "retraining.closing";
/// After an episode is closed and its messages are queued, before they are sent.
pub const RETRAINING_CLOSED: &str = "retraining.closed";
/// After it is journaled that no attempt is left and that message is queued, before it is sent.
pub const RETRAINING_LAST_TOLD: &str = "retraining.last_told";
/// After a retraining run is written.
pub const RETRAINING_RECORDED: &str = "retraining.recorded";

/// After the traffic is read and the version's key is known.
pub const TRAINING_PLANNED: &str = "training.planned";
/// After the network is trained.
pub const TRAINING_TRAINED: &str = "training.trained";
/// After the gate decided.
pub const TRAINING_EVALUATED: &str = "training.evaluated";
/// After all files of the version lie in its folder.
pub const TRAINING_ASSEMBLED: &str = "training.assembled";
/// After the version is registered.
pub const TRAINING_REGISTERED: &str = "training.registered";

/// All fail points of retraining.
pub const RETRAINING_POINTS: [&str; 9] = [
    RETRAINING_INTENT,
    RETRAINING_CALLED,
    RETRAINING_OUTCOME,
    RETRAINING_ATTACHED,
    RETRAINING_CANCELLED,
    RETRAINING_CLOSING,
    RETRAINING_CLOSED,
    RETRAINING_LAST_TOLD,
    RETRAINING_RECORDED,
];

/// All fail points of training.
pub const TRAINING_POINTS: [&str; 5] = [
    TRAINING_PLANNED,
    TRAINING_TRAINED,
    TRAINING_EVALUATED,
    TRAINING_ASSEMBLED,
    TRAINING_REGISTERED,
];

/// All fail points of all flows.
pub fn all() -> impl Iterator<Item = &'static str> {
    let deployment = DEPLOYMENT_POINTS.into_iter().flatten();
    deployment
        .chain(DEPLOYMENT_CALLS)
        .chain([DEPLOYMENT_TURNED, DEPLOYMENT_CONCLUDED, DEPLOYMENT_RECORDED])
        .chain(RETRAINING_POINTS)
        .chain(TRAINING_POINTS)
}

/// The three points of a deployment's step.
pub(crate) fn of_step(step: Step) -> [&'static str; 3] {
    DEPLOYMENT_POINTS[step as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_own_points() {
        for step in Step::ALL {
            let name = step.as_str();
            let expected =
                ["intent", "called", "outcome"].map(|moment| format!("deployment.{name}.{moment}"));
            assert_eq!(of_step(step).map(str::to_owned), expected);
        }
        let names: std::collections::BTreeSet<_> = all().collect();
        assert_eq!(names.len(), all().count(), "two points share a name");
    }
}
