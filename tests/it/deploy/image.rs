//! The Dockerfile, as far as it can be seen without building it: `tests/image` does that.

use super::{ours, python_tool, read};

/// The words after an instruction, of each line that begins with it.
fn instructions<'a>(dockerfile: &'a str, name: &str) -> Vec<&'a str> {
    dockerfile.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::trim).collect()
}

/// A value of `Cargo.toml`'s first table.
pub fn of_package(key: &str) -> String {
    let manifest = read("Cargo.toml");
    let line = manifest.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    line.unwrap().trim_matches('"').to_owned()
}

#[test]
fn hadolint_finds_nothing_in_the_dockerfile() {
    if let Some((clean, said)) = python_tool("hadolint", &["--no-color", "Dockerfile"]) {
        assert!(clean && said.is_empty(), "{said}");
    }
}

#[test]
fn the_dockerfile_builds_with_the_rust_that_the_crate_asks_for() {
    let version = format!("ARG RUST_VERSION={}", of_package("rust-version"));
    assert!(read("Dockerfile").lines().any(|line| line == version), "{version}");
}

/// Without a shell in the image every command has to be a list, and Kubernetes compares the user with 0.
#[test]
fn the_image_needs_no_shell_and_no_root() {
    let dockerfile = read("Dockerfile");
    let last = &dockerfile[dockerfile.rfind("\nFROM ").unwrap()..];
    assert!(last.starts_with("\nFROM scratch\n"));
    let one = |name| match instructions(last, name)[..] {
        [one] => one.to_owned(),
        ref other => panic!("{name}: {other:?}"),
    };
    assert!(one("HEALTHCHECK").ends_with(r#" CMD ["/usr/bin/ralio-relay", "health"]"#));
    assert_eq!((one("ENTRYPOINT"), one("CMD")), (r#"["/usr/bin/ralio-relay"]"#.into(), r#"["serve"]"#.into()));
    let user = one("USER");
    assert!(user.split(':').all(|id| id.parse::<u32>().unwrap() > 0), "{user}");
    assert!(dockerfile.contains(&format!("COPY --from=build --chown={user} /state /var/lib")));
    for label in ["title", "description", "licenses", "version", "revision", "source"] {
        assert!(last.contains(&format!("org.opencontainers.image.{label}=")), "{label}");
    }
}

/// What is copied is let through by `.dockerignore`, and nothing else is.
#[test]
fn the_build_sees_what_it_copies_and_no_more() {
    let ignore = read(".dockerignore");
    let mut rules = ignore.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(rules.next(), Some("*"));
    let mut let_in: Vec<_> = rules.map(|rule| rule.strip_prefix('!').unwrap()).collect();
    let dockerfile = read("Dockerfile");
    let copies = instructions(&dockerfile, "COPY").into_iter().filter(|copy| !copy.starts_with("--from"));
    let mut copied: Vec<_> = copies.flat_map(|copy| copy.rsplit_once(' ').unwrap().0.split(' ')).collect();
    let_in.sort_unstable();
    copied.sort_unstable();
    assert_eq!(let_in, copied);
    assert!(copied.iter().all(|file| ours(file).exists()), "{copied:?}");
}
