//! The shipped configurations, with the few lines that a small world needs otherwise.

use std::path::Path;

use crate::KitError;

const EMBEDDED: [(&str, &str); 4] = [
    ("monitoring_config.yaml", include_str!("../../../configs/monitoring_config.yaml")),
    ("retrain_config.yaml", include_str!("../../../configs/retrain_config.yaml")),
    ("training_config.yaml", include_str!("../../../configs/training_config.yaml")),
    ("deployment_config.yaml", include_str!("../../../configs/deployment_config.yaml")),
];

const SERVICES: [(&str, &str); 4] = [
    ("monitoring_config.yaml", include_str!("../../../configs/services/monitoring_config.yaml")),
    ("retrain_config.yaml", include_str!("../../../configs/services/retrain_config.yaml")),
    ("training_config.yaml", include_str!("../../../configs/services/training_config.yaml")),
    ("deployment_config.yaml", include_str!("../../../configs/services/deployment_config.yaml")),
];

/// One text that is needed otherwise: file, text as shipped, text instead.
pub type Change = (&'static str, &'static str, String);

/// Writes the four configurations with these changes, in their order.
///
/// # Errors
/// When a change no longer finds its text, so that nobody silently runs on something else; when a
/// file cannot be written.
pub fn write(folder: &Path, changes: &[Change]) -> Result<(), KitError> {
    write_all("configs", &EMBEDDED, folder, changes)
}

/// Writes the four configurations with every role on its own service, with these changes.
///
/// # Errors
/// As [`write()`].
pub fn write_services(folder: &Path, changes: &[Change]) -> Result<(), KitError> {
    write_all("configs/services", &SERVICES, folder, changes)
}

fn write_all(
    place: &str,
    files: &[(&str, &str)],
    folder: &Path,
    changes: &[Change],
) -> Result<(), KitError> {
    std::fs::create_dir_all(folder).map_err(KitError::io("making the folder of configurations"))?;
    for (name, shipped) in files {
        let mut text = (*shipped).to_owned();
        for (_, from, to) in changes.iter().filter(|(file, ..)| file == name) {
            if !text.contains(from) {
                return Err(KitError::Failed(format!("{place}/{name} no longer holds `{from}`")));
            }
            text = text.replace(from, to);
        }
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(KitError::io(format!("writing {}", path.display())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_without_its_text_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let gone = ("training_config.yaml", "no such line", String::new());
        let refusal = write(folder.path(), &[gone]).expect_err("refused").to_string();
        assert_eq!(refusal, "configs/training_config.yaml no longer holds `no such line`");
        let found = ("training_config.yaml", "epochs: 8", "epochs: 2".to_owned());
        write(folder.path(), &[found]).expect("written");
        let text = std::fs::read_to_string(folder.path().join("training_config.yaml"));
        assert!(text.expect("a file").contains("epochs: 2"));
    }
}
