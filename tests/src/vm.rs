//! Boots a kernel of its own in an emulated machine with pure cgroup v2, and runs test binaries in it.
//!
//! The machine's root file system is made of busybox, the binaries and the libraries they are linked with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// Emulation is ten to twenty times slower than the machine it runs on.
const DEADLINE: Duration = Duration::from_secs(1_200);

/// The kernel's modules: with that of loop devices the machine has a disk.
const MODULES: &str = "modules";

/// Both processors take turns on one thread. On a thread each, one can go on executing the breakpoint with which the kernel guards code
/// that it changes (cgroup-BPF does, with its first program and after its last), after the other has changed it back: for ever.
const ACCELERATOR: &str = "tcg,thread=single";

/// A lock-up is a panic, after twice `watchdog_thresh` seconds, and a panic the end.
const PARAMETERS: &str =
    "quiet loglevel=5 panic=-1 softlockup_panic=1 watchdog_thresh=30 mitigations=off cgroup_no_v1=all";

/// What is put into the machine.
#[derive(Debug)]
pub struct Machine {
    /// Where files are gathered; removed afterwards.
    pub directory: PathBuf,
    /// Files and where they go below `/tests`.
    pub files: Vec<(PathBuf, String)>,
    /// Programs of this host, and where they go; those that are not here are left out.
    pub programs: Vec<(&'static str, &'static str)>,
    /// Run by `sh` in `/tests`; its exit status is the machine's.
    pub script: String,
}

/// What is missing for an emulated machine, if anything.
pub fn missing() -> Option<String> {
    let programs = ["qemu-system-x86_64", "busybox", "cpio", "gzip", "ldd", "strip"];
    let absent = programs.iter().find(|program| find(program).is_none())?;
    Some(format!(
        "`{absent}` is not installed (apt-get install qemu-system-x86 busybox-static cpio gcc)"
    ))
}

/// The kernel: `$PROFFER_VM_KERNEL`, or Debian's, fetched once below `target`. Its modules lie beside it.
///
/// # Errors
/// It cannot be fetched.
pub fn kernel(target: &Path) -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("PROFFER_VM_KERNEL") {
        return Ok(path.into());
    }
    let directory = target.join("vm");
    let kernel = directory.join("vmlinuz");
    if !kernel.is_file() || !directory.join(MODULES).is_dir() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm/fetch-kernel");
        let output = Command::new(script)
            .arg(&directory)
            .output()
            .context("cannot run vm/fetch-kernel")?;
        ensure!(
            output.status.success(),
            "no kernel package: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(kernel)
}

impl Machine {
    /// Boots, runs the script and returns everything that was printed.
    ///
    /// # Errors
    /// The machine could not be made, did not end in time, or the script failed.
    pub fn run(&self, kernel: &Path) -> anyhow::Result<String> {
        let root = self.directory.join("root");
        self.fill(&root)?;
        let modules = kernel.with_file_name(MODULES);
        if modules.is_dir() {
            std::fs::create_dir(root.join("tests").join(MODULES))?;
            for module in std::fs::read_dir(modules)? {
                let module = module?;
                std::fs::copy(module.path(), root.join("tests").join(MODULES).join(module.file_name()))?;
            }
        }
        let initrd = self.directory.join("initrd.gz");
        let pack = "find . | cpio -o -H newc --quiet | gzip -1 > ../initrd.gz";
        succeed(Command::new("sh").args(["-c", pack]).current_dir(&root))?;
        let output = self.directory.join("console");
        let mut child = Command::new("qemu-system-x86_64")
            .args(["-accel", ACCELERATOR, "-cpu", "max", "-m", "3072", "-smp", "2"])
            .args(["-nographic", "-no-reboot", "-nic", "none", "-append"])
            .arg(format!("console=ttyS0 {PARAMETERS}"))
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(&initrd)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&output)?)
            .stderr(Stdio::null())
            .spawn()?;
        let began = Instant::now();
        while child.try_wait()?.is_none() {
            if began.elapsed() > DEADLINE {
                child.kill()?;
                child.wait()?;
                bail!("the machine did not end in {DEADLINE:?}:\n{}", text(&output));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let printed = text(&output);
        ensure!(printed.contains("VM: status 0"), "failed in the machine:\n{printed}");
        std::fs::remove_dir_all(&self.directory)?;
        Ok(printed)
    }

    fn fill(&self, root: &Path) -> anyhow::Result<()> {
        if self.directory.exists() {
            std::fs::remove_dir_all(&self.directory)?;
        }
        for directory in ["bin", "sbin", "usr", "etc", "tests/deps"] {
            std::fs::create_dir_all(root.join(directory))?;
        }
        let busybox = find("busybox").context("checked before")?;
        std::fs::copy(&busybox, root.join("bin/busybox"))?;
        let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm/init");
        std::fs::copy(init, root.join("init"))?;
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n",
        )?;
        std::fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
        std::fs::write(root.join("tests/run"), &self.script)?;
        let mut libraries = BTreeSet::new();
        for (source, place) in &self.files {
            let target = root.join("tests").join(place);
            succeed(Command::new("strip").arg("-o").arg(&target).arg(source))?;
            libraries.extend(linked_with(source)?);
        }
        for (program, place) in &self.programs {
            if let Some(source) = find(program) {
                std::fs::copy(&source, root.join(place))?;
                libraries.extend(linked_with(&source)?);
            }
        }
        for library in libraries {
            let target = root.join(library.strip_prefix("/")?);
            std::fs::create_dir_all(target.parent().context("a library lies in a directory")?)?;
            std::fs::copy(&library, target)?;
        }
        Ok(())
    }
}

/// The shared libraries of a program, and its loader; none of a static one.
fn linked_with(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn find(program: &str) -> Option<PathBuf> {
    let mut path = std::env::var_os("PATH")?;
    // Where the programs of administrators are.
    path.push(":/usr/sbin:/sbin");
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
