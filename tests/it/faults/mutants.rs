//! The patches of `tests/mutants`, which break one thing each: `tests/mutants/run` expects the test that a patch names to
//! fail. That takes minutes; here it is only seen to that each still applies and names a test.

use std::path::Path;
use std::process::Command;

use crate::harness::skip;

#[test]
fn every_mutant_applies_and_names_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let patches: Vec<_> = std::fs::read_dir(root.join("tests/mutants")).unwrap().map(|e| e.unwrap().path()).collect();
    let patches: Vec<_> = patches.iter().filter(|path| path.extension().is_some_and(|kind| kind == "patch")).collect();
    assert!(patches.len() >= 5, "{patches:?}");
    for patch in patches {
        let text = std::fs::read_to_string(patch).unwrap();
        let named = text.lines().next().and_then(|line| line.strip_prefix("Caught by: cargo test "));
        let in_it = named.and_then(|test| Some(("tests/it", test.strip_prefix("--test it ")?)));
        let in_lib = named.and_then(|test| Some(("src", test.strip_prefix("--lib ")?)));
        let (directory, test) = in_it.or(in_lib).expect("the first line names a test of it, or of the library");
        let (module, name) = test.rsplit_once("::").expect("a test is in a module");
        let source = root.join(format!("{directory}/{}.rs", module.replace("::", "/")));
        let source = std::fs::read_to_string(&source).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
        assert!(source.contains(&format!("fn {name}()")), "{}: no such test: {module}::{name}", patch.display());
        let Ok(check) = Command::new("git").args(["apply", "--check"]).arg(patch).current_dir(root).output() else {
            return skip("git");
        };
        assert!(check.status.success(), "{}: {}", patch.display(), String::from_utf8_lossy(&check.stderr));
    }
}
