//! Paths as a configuration means them.

use std::path::{Component, Path, PathBuf};

/// A path that counts from a folder, without the `..` that it begins with, so that messages name places
/// as people know them: `../var` in `/srv/mloop/configs` is `/srv/mloop/var`. A `..` further in stays,
/// since what stands before it may be a link. An absolute `folder` must go through no link; from another
/// one the path is left as it is.
#[must_use]
pub fn from_folder(folder: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() || !folder.is_absolute() {
        return folder.join(path);
    }
    let (mut start, mut parts) = (folder, path.components());
    loop {
        let rest = parts.as_path();
        match parts.next() {
            Some(Component::CurDir) => {}
            Some(Component::ParentDir) => match (start.parent(), start.file_name()) {
                (Some(parent), Some(_)) => start = parent,
                // The root is its own parent.
                (None, _) => {}
                (Some(_), None) => return start.join(rest),
            },
            Some(_) => return start.join(rest),
            None => return start.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_steps_up_are_taken_and_others_left() {
        let table = [
            ("/srv/configs", "../var/ledger.sqlite", "/srv/var/ledger.sqlite"),
            ("/srv/configs", "var", "/srv/configs/var"),
            ("/srv/configs", "./../../var", "/var"),
            ("/srv/configs", "../../../var", "/var"),
            ("/srv/configs", "data/../var", "/srv/configs/data/../var"),
            ("/srv/configs", "/other/../var", "/other/../var"),
            ("/srv/configs", "..", "/srv"),
            ("/srv/configs", ".", "/srv/configs"),
            ("/srv/configs", "", "/srv/configs"),
            (".", "../var", "./../var"),
            ("/srv/configs/..", "../var", "/srv/configs/../../var"),
        ];
        for (folder, path, expected) in table {
            let found = from_folder(Path::new(folder), Path::new(path));
            assert_eq!(found, Path::new(expected), "{path} in {folder}");
        }
    }
}
