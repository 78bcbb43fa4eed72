//! Where a ledger must not lie: on file systems whose locks are not those of one machine.

use std::path::Path;

use mloop_platform::PlatformError;

use crate::error::Failure;

/// Kinds of network file systems by the number that `statfs` tells (linux/magic.h and the sources of
/// the file systems).
const NETWORK: [(u64, &str); 11] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x5346_414F, "AFS"),
    (0x00C3_6400, "Ceph"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x7375_7245, "Coda"),
    (0x564C, "NCP"),
];

/// FUSE has one number for local and remote ones; only the mount's type tells them apart.
const FUSE: u64 = 0x6573_5546;

/// Types of FUSE mounts that reach over a network.
const REMOTE_FUSE: [&str; 10] = [
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.goofys",
    "fuse.gcsfuse",
    "fuse.mount-s3",
    "fuse.mountpoint-s3",
    "fuse.rclone",
    "fuse.glusterfs",
    "fuse.ceph-fuse",
    "fuse.juicefs",
];

/// Refuses a folder on a network file system. The folder exists.
pub(crate) fn refuse_network(folder: &Path, doing: &str) -> Result<(), Failure> {
    let Some(name) = network_name(folder)? else { return Ok(()) };
    let problem = format!(
        "{} lies on a network file system ({name}), whose locks do not keep two runs apart; put the ledger on a local disk",
        folder.display()
    );
    Err(PlatformError::invalid(doing, problem).into())
}

#[cfg(target_os = "linux")]
fn network_name(folder: &Path) -> Result<Option<String>, Failure> {
    let found = rustix::fs::statfs(folder).map_err(std::io::Error::from)?;
    // The type differs by architecture, and narrow ones sign-extend; the numbers have 32 bits.
    let magic = found.f_type as u64 & 0xFFFF_FFFF;
    if magic == FUSE {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let kind = mount_type(&mounts, &folder.canonicalize()?);
        return Ok(kind.filter(|kind| REMOTE_FUSE.contains(&kind.as_str())));
    }
    Ok(NETWORK.iter().find(|(number, _)| *number == magic).map(|(_, name)| (*name).to_owned()))
}

/// Elsewhere there is no such number; the documentation has to do.
#[cfg(not(target_os = "linux"))]
fn network_name(_folder: &Path) -> Result<Option<String>, Failure> {
    Ok(None)
}

/// The type of the mount that a path lies on: the last one with the longest mount point
/// (`proc_pid_mountinfo(5)`: the fifth field is the mount point, the type follows a lone hyphen).
fn mount_type(mounts: &str, path: &Path) -> Option<String> {
    let lines = mounts.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let point = front.split(' ').nth(4)?.replace("\\040", " ");
        let covers = path.starts_with(&point);
        covers.then(|| (point.len(), back.split(' ').next().unwrap_or_default().to_owned()))
    });
    lines.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_with_the_longest_point_counts() {
        let mounts = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 / /mnt/far\\040away rw shared:9 - fuse.sshfs me@host:/ rw
41 22 0:36 / /mnt rw shared:9 - fuse.ntfs-3g /dev/sdb1 rw
42 22 0:37 / /mnt rw - fuse.lxcfs lxcfs rw";
        let cases = [
            ("/mnt/far away/ledger", "fuse.sshfs"),
            ("/mnt/near", "fuse.lxcfs"),
            ("/mntx", "ext4"),
            ("/", "ext4"),
        ];
        for (path, kind) in cases {
            assert_eq!(mount_type(mounts, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
        assert_eq!(mount_type("rubbish", Path::new("/")), None);
    }

    #[test]
    fn a_local_disk_is_fine() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(refuse_network(folder.path(), "testing").is_ok());
    }
}
