//! No program that is released is built with what makes it fail.

use std::process::Command;

#[test]
fn nothing_that_is_released_can_be_armed() {
    for program in ["proffer", "proffer-master", "proffer-agent"] {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(cargo)
            .args([
                "tree",
                "--locked",
                "--offline",
                "--edges",
                "normal,features",
                "--prefix",
                "none",
            ])
            .args(["--package", program])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        let tree = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && tree.contains("proffer-faults "),
            "cargo tree: {}\n{tree}",
            String::from_utf8_lossy(&output.stderr)
        );
        let armed = |line: &&str| line.starts_with("proffer-faults feature") && line.contains("armed");
        assert_eq!(tree.lines().find(armed), None, "{program}");
    }
}
