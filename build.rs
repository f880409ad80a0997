//! Passes the commit on to `build_info` and `--version`.

use std::process::Command;

fn main() {
    // A build without .git, such as an image's, is told.
    let told = std::env::var("RALIO_RELAY_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = told.or_else(|| git(&["rev-parse", "--short=12", "HEAD"])).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=RALIO_RELAY_COMMIT={commit}");
    println!("cargo:rerun-if-env-changed=RALIO_RELAY_COMMIT");
    // Where these files are differs between a clone and a worktree; without git there is nothing to watch.
    println!("cargo:rerun-if-changed=build.rs");
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
}

fn git(args: &[&str]) -> Option<String> {
    let out = Command::new("git").args(args).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}
