//! The files of a container's output.

use std::fs;
use std::os::unix::fs::MetadataExt;

use proffer_agent::containerizer::{ContainerId, LogLimits};

use crate::host::{Host, UID, block_on, on_host};

/// A host whose containers keep little.
fn with_little(test: &str, bytes_max: u64, files: u32, run: impl AsyncFnOnce(Host)) {
    let change = |config: &mut proffer_agent::containerizer::Config| config.logs = LogLimits { bytes_max, files };
    if let Some(host) = Host::configured("/tmp", test, change) {
        block_on(run(host));
    }
}

/// The numbers of all lines that are kept, oldest first; every line must be whole.
fn numbers(host: &Host, id: &str, name: &str, files: u32, bytes_max: u64) -> Vec<u64> {
    let mut text = String::new();
    for number in (0..files).rev() {
        let name = if number == 0 {
            name.to_owned()
        } else {
            format!("{name}.{number}")
        };
        let path = host.sandbox(id).join(name);
        let Ok(part) = fs::read_to_string(&path) else { continue };
        assert!(
            part.len() as u64 <= bytes_max,
            "{} has {} bytes",
            path.display(),
            part.len()
        );
        assert!(
            part.is_empty() || part.ends_with('\n'),
            "{} ends in a line",
            path.display()
        );
        let owner = path.metadata().unwrap();
        assert_eq!((owner.uid(), owner.mode() & 0o777), (UID, 0o640));
        text += &part;
    }
    let numbers = text
        .lines()
        .map(|line| line.strip_prefix("line ").unwrap_or_else(|| panic!("torn: {line:?}")));
    numbers.map(|number| number.parse().unwrap()).collect()
}

#[test]
fn output_is_divided_at_the_ends_of_lines_and_nothing_of_the_newest_is_missing() {
    with_little("rotation", 200_000, 4, async |host| {
        let lines = "seq -f 'line %.0f' 1 100000 & seq -f 'line %.0f' 1 50000 >&2; wait";
        assert_eq!(host.run(&host.shell("c", lines)).await.code, Some(0));
        for (name, last) in [("stdout", 100_000), ("stderr", 50_000)] {
            let kept = numbers(&host, "c", name, 4, 50_000);
            // Three full files at least, each full but for a margin.
            assert!(kept.len() > 3 * 25_000 / 12, "{name}: {} lines", kept.len());
            assert_eq!(kept.last(), Some(&last), "{name}");
            assert!(
                kept.windows(2).all(|pair| pair[1] == pair[0] + 1),
                "{name} misses a line"
            );
            assert!(!host.sandbox("c").join(format!("{name}.4")).exists());
        }
        host.finish().await;
    });
}

#[test]
fn nothing_is_lost_where_there_is_room() {
    on_host("room", async |host| {
        // More than a pipe holds, from several writers, with an end in which they are killed.
        let script = "for n in 1 2 3; do seq -f \"$n %.0f\" 1 9000 | sed -u '' & done; wait; echo done; kill -9 $$";
        let exit = host.run(&host.shell("c", script)).await;
        assert_eq!(exit.signal, Some(9));
        let output = host.output("c");
        assert_eq!(output.lines().count(), 27_001);
        for writer in 1..=3 {
            let prefix = format!("{writer} ");
            let own = output.lines().filter_map(|line| line.strip_prefix(&prefix));
            assert!(own.map(|n| n.parse::<u32>().unwrap()).eq(1..=9_000), "writer {writer}");
        }
        host.finish().await;
    });
}

#[test]
fn a_line_without_end_is_bounded() {
    with_little("endless line", 40_000, 2, async |host| {
        let script = "head -c 299990 /dev/zero | tr '\\0' x; echo; echo end";
        assert_eq!(host.run(&host.shell("c", script)).await.code, Some(0));
        let size = |name: &str| fs::metadata(host.sandbox("c").join(name)).map_or(0, |file| file.len());
        assert!(size("stdout") <= 20_000 && size("stdout.1") <= 20_000 && size("stdout.2") == 0);
        let read = |name: &str| fs::read_to_string(host.sandbox("c").join(name)).unwrap();
        assert!(read("stdout.1").ends_with("x\n") && read("stdout") == "end\n");
        host.finish().await;
    });
}

#[test]
fn what_a_task_does_to_its_files_is_its_own_loss() {
    with_little("mischief", 40_000, 2, async |host| {
        // Directories and links where files belong; the supervisor is root.
        let script = "rm stdout; ln -s /etc/proffer-evil stdout; mkdir -p stdout.1/x; \
                      seq -f 'line %.0f' 1 20000; ls -ld /etc/proffer-evil >&2; echo still here > /dev/stderr";
        let exit = host.run(&host.shell("c", script)).await;
        assert_eq!(exit.code, Some(0));
        assert!(!std::path::Path::new("/etc/proffer-evil").exists());
        let errors = fs::read_to_string(host.sandbox("c").join("stderr")).unwrap();
        assert!(
            errors.contains("No such file") && errors.ends_with("still here\n"),
            "{errors}"
        );
        let last = fs::read_to_string(host.sandbox("c").join("stdout")).unwrap();
        assert!(last.len() <= 20_000 && last.ends_with("line 20000\n"));
        host.finish().await;
    });
}

#[test]
fn a_task_that_floods_can_be_killed() {
    with_little("flood", 1 << 20, 2, async |host| {
        host.launch(&host.program("c", &["yes", "a line that has no end"]))
            .await;
        crate::host::until(|| host.sandbox("c").join("stdout.1").exists().then_some(()), "rotation").await;
        host.containerizer().destroy(&ContainerId("c".into())).unwrap();
        assert_eq!(host.wait("c").await.signal, Some(9));
        host.finish().await;
    });
}

/// Not a check: prints what output costs.
#[test]
#[ignore = "a measurement"]
fn measure_output() {
    on_host("measure output", async |host| {
        let script = "dd if=/dev/zero bs=64k count=16384 2>/dev/null; dd if=/dev/zero bs=64k count=16384 of=direct 2>&1 | tail -1 >&2";
        for round in 0..3 {
            let id = format!("c{round}");
            let start = std::time::Instant::now();
            let exit = host.run(&host.shell(&id, script)).await;
            let log = fs::read_to_string(host.sandbox(&id).join("stderr")).unwrap();
            eprintln!(
                "1 GiB through the pipe and 1 GiB directly: {:?}, cpu {:?}; directly: {log}",
                start.elapsed(),
                exit.cpu_usec
            );
            fs::remove_dir_all(host.sandbox(&id)).unwrap();
        }
        host.finish().await;
    });
}
