//! A Debian machine of its own, booted by systemd in a container: for what only an installed package shows.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::Process;
use super::{eventually_within, skip, skip_for_good};

/// Longer than the machine's own limit for what it runs.
const PATIENCE: Duration = Duration::from_secs(200);

/// Runs what is called `drive` in `shared`, which is `/test` in there, as root, and ends: its console. `None`, and said so,
/// where this machine boots no container.
pub async fn boot(shared: &Path) -> Option<String> {
    for tool in ["mmdebstrap", "systemd-nspawn"] {
        if Command::new(tool).arg("--version").output().is_err() {
            skip(tool);
            return None;
        }
    }
    let may = Command::new("unshare").args(["--mount", "mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        skip_for_good("root's right to mount, and so to boot a container");
        return None;
    }
    let tree = tree();
    let run = tempfile::tempdir().unwrap();
    let own = run.path().join("own");
    let wants = own.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    fs::write(own.join("etc/systemd/system/drive.service"), DRIVE).unwrap();
    symlink("../drive.service", wants.join("drive.service")).unwrap();
    let mut boot = Command::new("unshare");
    // However it ends, nothing of it stays: it dies with the first process of its own.
    boot.args(["--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "sh", "-ec", BOOT, "sh"]);
    boot.args([&tree, run.path(), shared]);
    let mut machine = Process::spawn(&mut boot);
    eventually_within(PATIENCE, "the machine's end", async || machine.ended().ok_or("it runs")).await;
    Some([machine.stdout.all(), machine.stderr.all()].concat().join("\n"))
}

const DRIVE: &str = "\
[Unit]
Description=The test
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
ExecStart=/bin/bash /test/drive
StandardOutput=append:/test/output
StandardError=inherit
TimeoutStartSec=150
";

/// Over a layer of its own, or over a copy where the layers cannot be had. Everything is gone when it ends.
const BOOT: &str = "
tree=$1 run=$2 shared=$3
mount -t cgroup2 none /sys/fs/cgroup
mkdir \"$run/work\" \"$run/root\"
if ! mount -t overlay -o \"lowerdir=$tree,upperdir=$run/own,workdir=$run/work\" none \"$run/root\"; then
    cp -a \"$tree/.\" \"$run/own/.\" \"$run/root/\"
fi
exec systemd-nspawn --quiet --directory \"$run/root\" --bind \"$shared:/test\" --register=no --keep-unit --private-network \
    --console=passive --boot
";

/// The file system that every run starts from: this machine's own release, from where this machine's packages come. Made
/// once; no service of its packages has ever run in it.
fn tree() -> PathBuf {
    let release = said(Command::new("sh").args(["-c", ". /etc/os-release && echo \"$VERSION_CODENAME\""]));
    let of_release = format!("Release: {release}");
    let mirrors = said(
        Command::new("apt-get")
            .args(["indextargets", "--format", "$(REPO_URI)", &of_release])
            .args(["Component: main", "Identifier: Packages"]),
    );
    let mirror = mirrors.lines().next().unwrap_or_else(|| panic!("no source of {release} in apt's lists"));
    let trees = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/booted");
    let tree = trees.join(&release);
    if !tree.exists() {
        fs::create_dir_all(&trees).unwrap();
        let unfinished = tempfile::tempdir_in(&trees).unwrap();
        let inside = unfinished.path().join("tree");
        let made = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--include=systemd-sysv,dbus", &release])
            .args([inside.as_os_str(), mirror.as_ref()])
            .output()
            .unwrap();
        assert!(made.status.success(), "no {release} of {mirror}: {}", String::from_utf8_lossy(&made.stderr));
        fs::rename(inside, &tree).unwrap();
    }
    tree
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
