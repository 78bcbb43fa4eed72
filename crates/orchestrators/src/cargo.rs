//! What a deployment carries: a version with its files.

use std::path::{Path, PathBuf};

use mloop_core::evaluation::GoldenCase;
use mloop_core::version::files;
use mloop_core::{ModelVersion, VersionRef};
use mloop_deployer::Invocation;

use crate::reference::{fetched, remove_unlisted};
use crate::{DeploymentConfig, DeploymentDeps, OrchestratorError, smoke};

/// A version with its files.
pub(crate) struct Cargo {
    pub(crate) version: ModelVersion,
    pub(crate) folder: PathBuf,
    pub(crate) golden: Vec<GoldenCase>,
}

impl Cargo {
    /// A request whose answer tells which version answers.
    pub(crate) fn probe(&self) -> Result<Invocation, OrchestratorError> {
        let Some(case) = self.golden.first() else {
            // A request without a body is refused, and the refusal carries the digest too.
            return Ok(Invocation {
                content_type: "image/png".to_owned(),
                fresh_connection: true,
                ..Invocation::default()
            });
        };
        Ok(Invocation { fresh_connection: true, ..self.sound(case)? })
    }

    /// The request that sends a golden case.
    pub(crate) fn sound(&self, case: &GoldenCase) -> Result<Invocation, OrchestratorError> {
        let doing = format!("reading the golden cases of {}", self.version.version);
        smoke::invocation(case).map_err(|problem| OrchestratorError::needs_person(doing, problem))
    }
}

/// Finds a version in the registry and has its files at hand, compared by their digests.
pub(crate) async fn cargo(
    deps: &DeploymentDeps,
    config: &DeploymentConfig,
    wanted: VersionRef,
) -> Result<Cargo, OrchestratorError> {
    let model = &config.subject.model;
    let versions = deps.registry.versions(model).await?;
    let version = versions.into_iter().find(|one| one.version == wanted).ok_or_else(|| {
        let problem = format!("the registry does not have {wanted} of `{model}`; restore it");
        OrchestratorError::needs_person("fetching a version", problem)
    })?;
    let registry = deps.registry.as_ref();
    // All files, compared by their digests: a deployer takes what lies in the folder.
    let folder = fetched(registry, &version, &config.work, None).await?;
    remove_unlisted(&folder)?;
    let golden = read_golden(&folder.join(files::GOLDEN))?;
    Ok(Cargo { version, folder, golden })
}

fn read_golden(path: &Path) -> Result<Vec<GoldenCase>, OrchestratorError> {
    if !path.is_file() {
        return Ok(vec![]);
    }
    let text = std::fs::read_to_string(path).map_err(OrchestratorError::io("reading", path))?;
    let parse = |line: &str| serde_json::from_str(line);
    let cases = text.lines().filter(|line| !line.is_empty()).map(parse);
    cases
        .collect::<Result<_, _>>()
        .map_err(OrchestratorError::damaged(format!("the file {}", path.display())))
}
