//! Files that adapters write: whole or not at all, and nothing of a killed writer stays. And folders that
//! one process at a time may work in.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Access;

/// What the unfinished copy of a file ends in, after the file's name and the writer's process id.
const UNFINISHED: &str = ".part";

/// An unfinished copy that is older is nobody's any more: writing takes seconds. Process ids do not
/// tell, since the folder may be another machine's too.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone.
    Owner,
    /// Whoever the process' umask allows.
    Anybody,
}

/// Replaces a file at once: a reader, and a restart after a power cut, see the old or the new. Its
/// folder must be there. Unfinished copies that killed writers left long ago, of this file and of others
/// with its extension, are removed.
///
/// # Errors
/// The file system's; the file is then as it was.
pub fn replace(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    sweep(path);
    let mut part = path.as_os_str().to_owned();
    // Two processes that replace one file must not share its unfinished copy.
    part.push(format!(".{}{UNFINISHED}", std::process::id()));
    let part = PathBuf::from(part);
    let mode = if readers == Readers::Owner { 0o600 } else { 0o666 };
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(mode);
    let write = || {
        let mut file = options.open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        fs::File::open(folder_of(path))?.sync_all()
    };
    write().inspect_err(|_| {
        // It may never have come to be; what counts is the error.
        fs::remove_file(&part).unwrap_or_default();
    })
}

/// Looks whether [`replace`] could write a file, its folders made if need be; changes nothing.
///
/// # Errors
/// As writing would fail, as far as permissions and what stands there tell.
pub fn replaceable(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let mut above = path.ancestors().skip(1).map(or_here);
    let nearest = above.find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    if !nearest.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    Ok(rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// The right to work in a folder, until it is dropped or its process ends, however it ends.
#[derive(Debug)]
#[must_use = "it is given back when dropped"]
pub struct Claim {
    path: PathBuf,
    // The system gives the lock back with the file.
    _held: File,
}

/// What stands behind a folder's name in that of its claim.
const CLAIM: &str = ".claim";

/// Claims a folder, which need not be there yet, for this process; none while another holds it. The
/// claim is a locked file beside the folder, so that the folder may be removed under it. The folder above is
/// made.
///
/// # Errors
/// The file system's.
pub fn claim(folder: &Path) -> io::Result<Option<Claim>> {
    fs::create_dir_all(folder_of(folder))?;
    let mut path = folder.as_os_str().to_owned();
    path.push(CLAIM);
    let path = PathBuf::from(path);
    loop {
        let held = OpenOptions::new().create(true).append(true).mode(0o666).open(&path)?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever held it may have removed it since it was opened: then the lock is of a file that
        // nobody else will find.
        let is_the_one = match fs::metadata(&path) {
            Ok(there) => there.ino() == held.metadata()?.ino(),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if is_the_one {
            return Ok(Some(Claim { path, _held: held }));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Still locked, so that it is ours to remove. One that stays hinders nobody.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().map_or(Path::new("/"), or_here)
}

/// The folder above a plain name is the current one.
fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Removes what was left unfinished long ago. What cannot be removed hinders nobody.
fn sweep(path: &Path) {
    let Ok(entries) = fs::read_dir(folder_of(path)) else { return };
    for entry in entries.flatten() {
        let is_unfinished =
            entry.file_name().to_str().is_some_and(|name| is_unfinished_copy(name, path));
        if is_unfinished && is_abandoned(&entry) {
            fs::remove_file(entry.path()).unwrap_or_default();
        }
    }
}

fn is_abandoned(entry: &fs::DirEntry) -> bool {
    let written = entry.metadata().and_then(|metadata| metadata.modified());
    written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED))
}

/// Whether a name is that of an unfinished copy of this file, or of another one with its extension.
fn is_unfinished_copy(name: &str, of: &Path) -> bool {
    let parts = name.strip_suffix(UNFINISHED).and_then(|name| name.rsplit_once('.'));
    let Some((name, writer)) = parts else { return false };
    let name = Path::new(name);
    let is_alike = match of.extension() {
        Some(extension) => name.extension() == Some(extension),
        None => Some(name.as_os_str()) == of.file_name(),
    };
    is_alike && !writer.is_empty() && writer.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_folder_has_one_claim_at_a_time_and_none_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let job = folder.path().join("work/job-1");
        let held = claim(&job).expect("asked").expect("free");
        assert!(claim(&job).expect("asked").is_none(), "held");
        let other = claim(&folder.path().join("work/job-2")).expect("asked").expect("another's");
        drop((held, other));
        let again = claim(&job).expect("asked").expect("given back");
        drop(again);
        assert_eq!(fs::read_dir(folder.path().join("work")).expect("listed").count(), 0);
    }

    #[test]
    fn of_many_that_claim_and_give_back_no_two_hold_it_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let job = folder.path().join("job-1");
        let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 400 {
                        let Some(held) = claim(&job).expect("asked") else { continue };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                        taken.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert!(taken.into_inner() >= 400);
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_for_its_readers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.json");
        for (readers, others) in [(Readers::Anybody, 0o044), (Readers::Owner, 0)] {
            replace(&path, b"old, and longer", readers).expect("written");
            replace(&path, b"new", readers).expect("written");
            assert_eq!(fs::read(&path).expect("there"), b"new");
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            // The umask of whoever runs the tests may take more away.
            assert_eq!(mode & 0o077 & !others, 0, "{readers:?}: {mode:o}");
            assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
        }
        let error = replace(&folder.path().join("no/report.json"), b"", Readers::Owner);
        assert_eq!(error.expect_err("no folder").kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_write_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.json");
        fs::create_dir(&path).expect("made");
        replace(&path, b"new", Readers::Anybody).expect_err("a folder stands there");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
    }

    #[test]
    fn what_killed_writers_left_long_ago_is_swept() {
        let folder = tempfile::tempdir().expect("a folder");
        let age = |name: &str, hours: u64| {
            let file = File::create(folder.path().join(name)).expect("made");
            let now = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
            file.set_modified(now - Duration::from_secs(hours * 3600)).expect("set");
        };
        let (swept, kept) = (
            ["run-1.json.17.part", "run-2.json.4194304.part"],
            [
                "run-1.json",
                "run-1.html.17.part",
                "run-1.json.part",
                "run-1.json.x17.part",
                "17.part",
            ],
        );
        for name in swept.iter().chain(&kept) {
            age(name, 2);
        }
        age("run-3.json.18.part", 0);
        replace(&folder.path().join("run-4.json"), b"{}", Readers::Anybody).expect("written");
        let is_there = |name: &str| folder.path().join(name).exists();
        assert_eq!(swept.map(is_there), [false; 2]);
        assert_eq!(kept.map(is_there), [true; 5]);
        assert!(is_there("run-3.json.18.part"), "its writer may be at work");
        // Without an extension, only copies of the very file.
        for name in ["lock.17.part", "pid.17.part"] {
            age(name, 2);
        }
        replace(&folder.path().join("lock"), b"", Readers::Anybody).expect("written");
        assert_eq!(["lock.17.part", "pid.17.part"].map(is_there), [false, true]);
    }

    #[test]
    fn a_look_tells_whether_a_file_could_be_written_and_makes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "").expect("written");
        fs::create_dir(path("folder")).expect("made");
        fs::create_dir(path("locked")).expect("made");
        fs::set_permissions(path("locked"), fs::Permissions::from_mode(0o555)).expect("set");
        for good in ["new.json", "a/b/new.json", "file", "folder/new.json"] {
            assert!(replaceable(&path(good)).is_ok(), "{good}");
        }
        for (bad, kind) in
            [("folder", ErrorKind::IsADirectory), ("file/new.json", ErrorKind::NotADirectory)]
        {
            assert_eq!(replaceable(&path(bad)).expect_err(bad).kind(), kind, "{bad}");
        }
        assert!(replaceable(Path::new("plain-name-in-this-folder.json")).is_ok());
        let may_all = rustix::process::geteuid().is_root();
        let locked = replaceable(&path("locked/a/new.json")).map_err(|error| error.kind());
        assert_eq!(locked, if may_all { Ok(()) } else { Err(ErrorKind::PermissionDenied) });
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 3, "nothing was made");
    }
}
