use super::*;

fn output(directory: &tempfile::TempDir, check: Option<&str>) -> Output {
    Output {
        path: directory.path().join("out.cfg"),
        check: check.map(str::to_owned),
        reload: Some(format!("cat $FILE >> {}/told", directory.path().display())),
    }
}

fn read(output: &Output) -> String {
    std::fs::read_to_string(&output.path).unwrap_or_default()
}

fn names(directory: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(directory.path()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_text_that_is_the_same_is_not_written() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let directory = tempfile::tempdir().unwrap();
    let output = output(&directory, None);
    assert_eq!(output.install("one").await.unwrap(), Installed::Changed);
    std::fs::set_permissions(&output.path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let inode = std::fs::metadata(&output.path).unwrap().ino();
    assert_eq!(output.install("one").await.unwrap(), Installed::Same);
    assert_eq!(std::fs::metadata(&output.path).unwrap().ino(), inode);
    assert_eq!(output.install("two").await.unwrap(), Installed::Changed);
    let known = std::fs::metadata(&output.path).unwrap();
    assert_ne!(known.ino(), inode, "it is replaced as a whole");
    assert_eq!(known.permissions().mode() & 0o777, 0o640);
    output.reload().await.unwrap();
    assert_eq!(std::fs::read_to_string(directory.path().join("told")).unwrap(), "two");
    assert_eq!(names(&directory), ["out.cfg", "told"]);
}

#[tokio::test]
async fn what_the_check_refuses_does_not_stay() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.cfg");
    let in_place = format!("echo checked; ! grep bad {}", out.display());
    for check in ["! grep bad $FILE >&2", &in_place] {
        let output = output(&directory, Some(check));
        let error = output.install("bad first").await.unwrap_err().to_string();
        assert!(error.contains("ended with 1") && error.contains("bad first"), "{error}");
        assert!(names(&directory).is_empty());
        output.install("good").await.unwrap();
        output.install("bad again").await.unwrap_err();
        assert_eq!(read(&output), "good");
        assert_eq!(names(&directory), ["out.cfg"]);
        std::fs::remove_file(&output.path).unwrap();
    }
}

#[tokio::test]
async fn a_command_that_fails_is_told_with_what_it_said_last() {
    let directory = tempfile::tempdir().unwrap();
    let mut output = output(&directory, None);
    output.reload = Some("yes | head -c 100000; echo the end >&2; exit 3".to_owned());
    let error = output.reload().await.unwrap_err().to_string();
    assert!(
        error.contains("ended with 3: ") && error.ends_with("the end") && error.len() < 10_000,
        "{error}"
    );
    // What it leaves running is not waited for.
    output.reload = Some("sleep 100000 & echo $! > $FILE".to_owned());
    output.reload().await.unwrap();
    let left = read(&output).trim().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(left).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    output.path = directory.path().join("none/out.cfg");
    let error = output.install("x").await.unwrap_err().to_string();
    assert!(error.contains("none/out.cfg"), "{error}");
}
