//! Progress of the training, shown by the command line's bar or lines.

use mloop_cli::ProgressLine;
use mloop_trainer::{Progress, ProgressUpdate};

/// Shows steps, and the validation accuracy of each epoch.
pub(crate) struct Epochs(ProgressLine);

impl Epochs {
    /// Nothing is done yet.
    pub(crate) fn new() -> Self {
        Self(ProgressLine::new("training"))
    }
}

impl Progress for Epochs {
    fn update(&self, update: &ProgressUpdate) {
        let ProgressUpdate { epoch, epochs, loss, images_per_second, .. } = *update;
        let mut text =
            format!("epoch {epoch}/{epochs} loss {loss:.4} {images_per_second:.0} images/s");
        if let Some(accuracy) = update.validation_accuracy {
            text.push_str(&format!(" validation accuracy {accuracy:.4}"));
        }
        let important = update.validation_accuracy.is_some();
        self.0.update(update.step as u64, update.steps as u64, &text, important);
    }
}
