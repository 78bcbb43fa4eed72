//! A version in memory, verified and warmed up.

use std::path::{Path, PathBuf};

use mloop_core::Sha256Digest;
use mloop_core::version::files;
use mloop_vision::{Classifier, LoadError, Pixels};

/// A version that is ready to answer.
#[derive(Debug)]
pub(crate) struct LoadedModel {
    classifier: Classifier,
}

/// A version that must not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    #[error("loading the version in {}", folder.display())]
    Load {
        folder: PathBuf,
        #[source]
        source: LoadError,
    },
    #[error(
        "the version in {} has no `{}`, and no digest was given: there is nothing to verify it \
         against", .0.display(), files::MANIFEST
    )]
    Unverifiable(PathBuf),
    #[error(
        "the version in {} has digest {found}, {expected} is wanted: fetch the version again",
        folder.display()
    )]
    Digest { folder: PathBuf, expected: Sha256Digest, found: Sha256Digest },
    #[error("the version in {} answers a blank image with numbers that are none", .0.display())]
    WarmUp(PathBuf),
}

impl LoadedModel {
    /// Reads a folder, verifies the bytes against the manifest in it and the `expected` digest (one
    /// of them there must be), and answers a first image, so that no caller pays for that. Blocks.
    pub(crate) fn load(folder: &Path, expected: Option<Sha256Digest>) -> Result<Self, ModelError> {
        let of = || folder.to_owned();
        let classifier =
            Classifier::load(folder).map_err(|source| ModelError::Load { folder: of(), source })?;
        let found = classifier.digest();
        match expected {
            None if !folder.join(files::MANIFEST).is_file() => {
                return Err(ModelError::Unverifiable(of()));
            }
            Some(expected) if expected != found => {
                return Err(ModelError::Digest { folder: of(), expected, found });
            }
            _ => {}
        }
        let model = Self { classifier };
        if !model.answers_a_blank_image() {
            return Err(ModelError::WarmUp(of()));
        }
        Ok(model)
    }

    fn answers_a_blank_image(&self) -> bool {
        let input = self.classifier.input();
        let Some(blank) = Pixels::new(input, vec![0; input.len()]) else { return false };
        let answers = self.classifier.classify(&[blank]);
        let [answer] = answers.as_slice() else { return false };
        answer.probabilities.len() == self.classifier.classes().len()
            && answer.probabilities.iter().all(|probability| probability.is_finite())
    }

    pub(crate) fn digest(&self) -> Sha256Digest {
        self.classifier.digest()
    }

    pub(crate) fn classifier(&self) -> &Classifier {
        &self.classifier
    }
}
