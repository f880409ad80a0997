//! Files that only their owner may read, and who that owner is: a command that root types must not lock the service out
//! of files that it makes.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::iter::successors;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, lchown,
};
use std::path::{Path, PathBuf};

/// The rights that others than the owner have.
const OF_OTHERS: u32 = 0o077;

/// The directory that holds a file.
pub fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes an empty file with mode 0600, which must not be there; root gives it to the owner of its directory.
pub fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)?;
    give(&directory(path), |user, group| fchown(&file, user, group))?;
    Ok(file)
}

/// Makes the file as [`create`] does, where there is none.
pub fn create_if_missing(path: &Path) -> io::Result<()> {
    match create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Opens a file to which nobody else has rights, made as [`create`] does where it is missing.
pub fn open_private(path: &Path) -> io::Result<File> {
    create_if_missing(path)?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    make_private(path)?;
    Ok(file)
}

/// Takes away what others than the owner may do with a file; whether they could do something. By its path: closing a
/// descriptor of a database would let go of the locks that SQLite holds on it.
pub fn make_private(path: &Path) -> io::Result<bool> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & OF_OTHERS == 0 {
        return Ok(false);
    }
    fs::set_permissions(path, Permissions::from_mode(mode & 0o700))?;
    Ok(true)
}

/// Makes a directory and those on the way to it with mode 0700, durably; root gives them to the owner of the one that
/// was there.
pub fn create_directory(directory: &Path) -> io::Result<()> {
    let way = successors(Some(directory.to_owned()), |dir| Some(self::directory(dir)));
    let mut missing: Vec<PathBuf> = way.take_while(|dir| !dir.exists()).collect();
    missing.reverse();
    for dir in missing {
        let parent = self::directory(&dir);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made?,
        }
        give(&parent, |user, group| lchown(&dir, user, group))?;
        File::open(&parent)?.sync_all()?;
    }
    Ok(())
}

/// Nobody but root can give a file away, and nobody else has to.
fn give(directory: &Path, to: impl FnOnce(Option<u32>, Option<u32>) -> io::Result<()>) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(directory)?;
    if owner.uid() == 0 { Ok(()) } else { to(Some(owner.uid()), Some(owner.gid())) }
}

/// What to know about the rights to a file, for an error about it: whose it is, and who asks. Of the nearest directory
/// where there is no such file.
pub fn whose(path: &Path) -> String {
    let way = successors(Some(path.to_owned()), |dir| Some(directory(dir)).filter(|parent| parent != dir));
    let found = way.into_iter().find_map(|place| fs::metadata(&place).ok().map(|data| (place, data)));
    let me = rustix::process::geteuid().as_raw();
    let Some((place, data)) = found else { return format!("this process is user {me}") };
    let (place, owner, mode) = (place.display(), data.uid(), data.permissions().mode() & 0o7777);
    let group = data.gid();
    let todo = if owner == me { String::new() } else { format!("; `chown {me} {place}` gives it to this user") };
    format!(
        "{place} belongs to user {owner} and group {group} with mode {mode:04o}, and this process is user {me}{todo}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_made_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        drop(open_private(&path).unwrap());
        assert_eq!(mode(&path), 0o600);
        fs::write(&path, "kept").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        drop(open_private(&path).unwrap());
        assert_eq!((mode(&path), fs::read_to_string(&path).unwrap().as_str()), (0o600, "kept"));
        assert!(!make_private(&path).unwrap());
        assert_eq!(create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn what_root_makes_belongs_to_the_owner_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        if !rustix::process::geteuid().is_root() {
            return;
        }
        std::os::unix::fs::chown(dir.path(), Some(65_534), Some(65_533)).unwrap();
        let inner = dir.path().join("a/b");
        create_directory(&inner).unwrap();
        drop(create(&inner.join("file")).unwrap());
        for made in ["a", "a/b", "a/b/file"] {
            let data = fs::metadata(dir.path().join(made)).unwrap();
            assert_eq!((data.uid(), data.gid()), (65_534, 65_533), "{made}");
        }
        assert_eq!(mode(&inner), 0o700);
        let told = whose(&inner.join("file"));
        let me = "belongs to user 65534 and group 65533 with mode 0600, and this process is user 0";
        assert!(told.contains(me) && told.contains("chown 0 "), "{told}");
        assert!(
            whose(&inner.join("missing/file")).contains("a/b belongs to"),
            "{}",
            whose(&inner.join("missing/file"))
        );
    }
}
