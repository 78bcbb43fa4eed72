//! What is done about each state of an endpoint.
//!
//! | state | staging | switch | rollback |
//! |---|---|---|---|
//! | none | create | create | create |
//! | `InService`, the wanted version | adopt | adopt | adopt |
//! | `InService`, another version | update | update from the expected one, else conflict | the same |
//! | `Creating`, `Updating` to the wanted version | adopt | adopt | adopt |
//! | `Creating`, `Updating` to another | later | conflict; later from the expected one | the same |
//! | `RollingBack` | later | later | adopt when it goes back to the wanted one, else later |
//! | `SystemUpdating` | later | later | later |
//! | `OutOfService`, `UpdateRollbackFailed` | delete, create | a person | update; a person for another than the two |
//! | `Failed` | delete, create | a person | a person |
//! | `Deleting` | wait, create | a person | a person |
//! | one that this release does not know | later | later | later |
//!
//! A staging endpoint that has, or is about to have, a configuration which mloop did not make is a person's
//! in every state but `Deleting`: the name in the settings may be another team's.
//!
//! Production is never deleted, although SageMaker permits nothing else of a failed endpoint.

use aws_sdk_sagemaker::types::EndpointStatus;
use mloop_core::Sha256Digest;
use mloop_core::deployment::{EndpointDescription, EndpointState};

/// An endpoint as SageMaker describes it, its configurations told by the version that they serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) status: EndpointStatus,
    /// What serves; none while it is created.
    pub(crate) configured: Option<Sha256Digest>,
    /// What a change under way leads to.
    pub(crate) pending: Option<Sha256Digest>,
    /// Whether a configuration of it is none of mloop's.
    pub(crate) foreign: bool,
    /// `FailureReason`, and what is odd about the configurations.
    pub(crate) detail: String,
}

/// What an endpoint is changed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Staging,
    Switch { current: Option<Sha256Digest> },
    Rollback { current: Option<Sha256Digest> },
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Nothing: it is so, or on its way there.
    Adopt,
    Create,
    Update,
    /// Delete it (if it is not being deleted already), wait until it is gone, create it.
    Recreate,
    /// Nothing can be done now; the same call may succeed later.
    Later(String),
    /// A person must look.
    Conflict(String),
}

pub(crate) fn react(found: Option<&Standing>, wanted: Sha256Digest, purpose: Purpose) -> Reaction {
    let Some(found) = found else { return Reaction::Create };
    let status = found.status.as_str();
    let later = |what: &str| Reaction::Later(format!("it is {status}: {what}"));
    let person = |what: &str| {
        let detail = if found.detail.is_empty() { "no reason given" } else { &found.detail };
        Reaction::Conflict(format!("it is {status} ({detail}): {what}"))
    };
    match found.status {
        EndpointStatus::Deleting if purpose == Purpose::Staging => Reaction::Recreate,
        _ if purpose == Purpose::Staging && found.foreign => {
            person("it is not mloop's; name another as `staging_endpoint`, or delete it")
        }
        EndpointStatus::InService if found.pending.is_none() => in_service(found, wanted, purpose),
        EndpointStatus::InService | EndpointStatus::Creating | EndpointStatus::Updating => {
            changing(found, wanted, purpose)
        }
        EndpointStatus::RollingBack
            if matches!(purpose, Purpose::Rollback { .. }) && found.configured == Some(wanted) =>
        {
            Reaction::Adopt
        }
        EndpointStatus::RollingBack => later("it goes back by itself, wait until it is there"),
        EndpointStatus::SystemUpdating => later("Amazon maintains it, wait until it is done"),
        EndpointStatus::OutOfService | EndpointStatus::UpdateRollbackFailed => match purpose {
            Purpose::Staging => Reaction::Recreate,
            Purpose::Rollback { current }
                if found.configured != Some(wanted) && found.configured != current =>
            {
                Reaction::Conflict(stranger(found, found.configured, current))
            }
            Purpose::Rollback { .. } => Reaction::Update,
            Purpose::Switch { .. } => person("go back with `rollback` first"),
        },
        EndpointStatus::Failed => match purpose {
            Purpose::Staging => Reaction::Recreate,
            _ => person(
                "SageMaker permits only its deletion, and mloop never deletes production; delete \
                 it, then run again",
            ),
        },
        EndpointStatus::Deleting => {
            person("somebody deletes production; find out who, then run again")
        }
        _ => later("a state that this release of mloop does not know"),
    }
}

fn in_service(found: &Standing, wanted: Sha256Digest, purpose: Purpose) -> Reaction {
    match purpose {
        _ if found.configured == Some(wanted) => Reaction::Adopt,
        Purpose::Switch { current } | Purpose::Rollback { current }
            if found.configured != current =>
        {
            Reaction::Conflict(stranger(found, found.configured, current))
        }
        _ => Reaction::Update,
    }
}

fn changing(found: &Standing, wanted: Sha256Digest, purpose: Purpose) -> Reaction {
    if found.pending == Some(wanted) {
        return Reaction::Adopt;
    }
    match purpose {
        Purpose::Switch { current } | Purpose::Rollback { current }
            if found.pending.is_some() && found.pending != current =>
        {
            Reaction::Conflict(stranger(found, found.pending, current))
        }
        _ => Reaction::Later(format!(
            "it is {} with something else, and cannot be changed until that is done",
            found.status.as_str()
        )),
    }
}

fn stranger(
    found: &Standing,
    there: Option<Sha256Digest>,
    current: Option<Sha256Digest>,
) -> String {
    let name = |digest: Option<Sha256Digest>| {
        digest.map_or("nothing".to_owned(), |digest| digest.short(12))
    };
    let detail =
        if found.detail.is_empty() { String::new() } else { format!(" ({})", found.detail) };
    format!(
        "it serves or is about to serve {}{detail}, and mloop left {} there; find out who changed it",
        name(there),
        name(current)
    )
}

/// The standing in the words of the contract.
pub(crate) fn describe(found: Standing) -> EndpointDescription {
    let Standing { status, configured, pending, detail, .. } = found;
    let state = match status {
        EndpointStatus::InService => EndpointState::InService,
        EndpointStatus::OutOfService
        | EndpointStatus::UpdateRollbackFailed
        | EndpointStatus::Failed => EndpointState::Failed,
        // Everything that passes by itself, and what is not known.
        _ => EndpointState::Changing,
    };
    let status = status.as_str();
    let detail = match (state, detail.is_empty()) {
        (EndpointState::InService, _) => detail,
        (_, true) => format!("SageMaker says {status}"),
        (_, false) => format!("SageMaker says {status}: {detail}"),
    };
    EndpointDescription { state, configured, pending, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 10] = [
        "Creating",
        "Updating",
        "SystemUpdating",
        "RollingBack",
        "InService",
        "OutOfService",
        "UpdateRollbackFailed",
        "Failed",
        "Deleting",
        "Dreaming",
    ];

    /// The first letter of what is done.
    fn letter(reaction: &Reaction) -> char {
        match reaction {
            Reaction::Adopt => 'A',
            Reaction::Create => 'C',
            Reaction::Update => 'U',
            Reaction::Recreate => 'R',
            Reaction::Later(_) => 'L',
            Reaction::Conflict(_) => 'P',
        }
    }

    #[test]
    fn every_state_has_its_reaction() {
        let [old, new, other] = [&b"old"[..], b"new", b"other"].map(Sha256Digest::of);
        let current = Some(old);
        let purposes =
            [Purpose::Staging, Purpose::Switch { current }, Purpose::Rollback { current }];
        let row = |status: &str, configured, pending| -> String {
            let (status, detail) = (EndpointStatus::from(status), String::new());
            let found = Standing { status, configured, pending, foreign: false, detail };
            purposes.iter().map(|purpose| letter(&react(Some(&found), new, *purpose))).collect()
        };
        // For each state in their order: it serves the old version and goes nowhere else, or to the
        // new one; the letters are staging, switch, rollback.
        let expected = ["AAA", "AAA", "LLL", "LLL", "UUU", "RPU", "RPU", "RPP", "RPP", "LLL"];
        for (status, expected) in ALL.into_iter().zip(expected) {
            let pending = ["Creating", "Updating"].contains(&status).then_some(new);
            assert_eq!(row(status, Some(old), pending), expected, "{status}");
        }
        for (status, configured, pending, expected) in [
            ("InService", Some(new), None, "AAA"),
            ("InService", Some(other), None, "UPP"),
            ("Creating", None, Some(other), "LPP"),
            ("Updating", Some(old), Some(other), "LPP"),
            ("Updating", Some(other), Some(old), "LLL"),
            ("Updating", Some(old), None, "LLL"),
            ("RollingBack", Some(new), Some(old), "LLA"),
            ("OutOfService", Some(new), None, "RPU"),
            ("UpdateRollbackFailed", Some(other), None, "RPP"),
        ] {
            assert_eq!(row(status, configured, pending), expected, "{status} {configured:?}");
        }
        for purpose in purposes {
            assert_eq!(react(None, new, purpose), Reaction::Create);
        }
        for status in ALL {
            let found = Standing {
                status: EndpointStatus::from(status),
                configured: Some(other),
                pending: None,
                foreign: true,
                detail: "not mloop's".to_owned(),
            };
            let expected = if status == "Deleting" { 'R' } else { 'P' };
            assert_eq!(letter(&react(Some(&found), new, Purpose::Staging)), expected, "{status}");
        }
        let foreign = Standing {
            status: EndpointStatus::InService,
            configured: Some(other),
            pending: None,
            foreign: true,
            detail: String::new(),
        };
        let first = react(Some(&foreign), new, Purpose::Switch { current: None });
        assert_eq!(letter(&first), 'P', "what mloop did not put there is never replaced");
    }

    #[test]
    fn every_state_is_described() {
        use EndpointState::{Changing, Failed, InService};
        let expected = [
            Changing, Changing, Changing, Changing, InService, Failed, Failed, Failed, Changing,
            Changing,
        ];
        for (status, expected) in ALL.into_iter().zip(expected) {
            let standing = Standing {
                status: EndpointStatus::from(status),
                configured: None,
                pending: None,
                foreign: false,
                detail: "why".to_owned(),
            };
            let told = describe(standing);
            assert_eq!(told.state, expected, "{status}");
            assert!(told.detail.contains("why"), "{status}");
        }
    }
}
