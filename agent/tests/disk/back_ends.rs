//! Each back end of the disk isolation on a file system of its own, which the test makes in a file and mounts.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proffer_agent::disk::{Choice, Disk, Limit};
use proffer_shim::loopback;
use rustix::mount::{MountFlags, UnmountFlags};

use super::volumes::volumes_are_kept;

pub(super) const MIB: u64 = 1 << 20;
/// `nobody`.
pub(super) const UID: u32 = 65534;

#[test]
fn xfs_keeps_a_sandbox_within_its_limit() {
    let Some(host) = Host::new(
        "xfs",
        Some((
            "mkfs.xfs",
            &["-q", "--unsupported", "-s", "size=4096"],
            64 * MIB,
            "prjquota",
        )),
    ) else {
        return;
    };
    keeps_within(&host, "xfs");
    volumes_are_kept(&host, "xfs");
}

#[test]
fn ext4_keeps_a_sandbox_within_its_limit() {
    let flags = &["-q", "-b", "4096", "-O", "project,quota", "-E", "quotatype=prjquota"];
    let Some(host) = Host::new("ext4", Some(("mkfs.ext4", flags, 64 * MIB, "prjquota"))) else {
        return;
    };
    keeps_within(&host, "ext4");
    volumes_are_kept(&host, "ext4");
}

#[test]
fn btrfs_keeps_a_sandbox_within_its_limit() {
    let Some(host) = Host::new("btrfs", Some(("mkfs.btrfs", &["-q"], 512 * MIB, ""))) else {
        return;
    };
    let refused = Disk::open(&host.sandboxes(), host.path("images"), Choice::parse("btrfs").unwrap());
    let refused = refused.expect_err("quotas are off").to_string();
    assert!(refused.contains("btrfs quota enable"), "{refused}");
    let enabled = Command::new("btrfs")
        .args(["quota", "enable"])
        .arg(host.sandboxes())
        .status();
    if !enabled.is_ok_and(|status| status.success()) {
        eprintln!("skipped: btrfs: quotas cannot be enabled");
        return;
    }
    keeps_within(&host, "btrfs");
    volumes_are_kept(&host, "btrfs");
}

#[test]
fn a_file_system_in_a_file_keeps_a_sandbox_within_its_limit() {
    let Some(host) = Host::new("image", None) else { return };
    keeps_within(&host, "image");
    // Large and small ones are as exact.
    let disk = host.open("image").unwrap();
    for bytes in [MIB, 300 * MIB] {
        let sandbox = host.make(&disk, &format!("sized-{bytes}"), bytes);
        assert_exact(write(&sandbox.join("file"), u64::MAX), bytes);
        disk.ended(&sandbox);
        disk.remove(&sandbox).unwrap();
    }
}

#[test]
fn what_ended_is_shown_again_and_not_all_of_it_stays_mounted() {
    let Some(host) = Host::new("shown", None) else { return };
    let Some(disk) = host.open("image") else { return };
    let sandboxes: Vec<_> = (0..34)
        .map(|number| host.make(&disk, &format!("c{number}"), MIB))
        .collect();
    for sandbox in &sandboxes {
        fs::write(sandbox.join("file"), "kept").unwrap();
        disk.ended(sandbox);
    }
    assert_eq!(host.mounts(), 0, "nothing is read");
    // Another agent process.
    let disk = host.open("image").unwrap();
    for sandbox in sandboxes.iter().chain(&sandboxes) {
        disk.show(sandbox).unwrap();
        assert_eq!(fs::read_to_string(sandbox.join("file")).unwrap(), "kept");
        assert!(
            fs::write(sandbox.join("file"), "changed").is_err(),
            "nothing changes any more"
        );
    }
    assert!(host.mounts() <= 32, "{} are mounted", host.mounts());
    drop(disk);
    assert_eq!(host.mounts(), 0, "the agent has ended");
    // Images without their sandboxes are swept away by the next one.
    fs::write(host.path("images/nobody.ext4"), "left").unwrap();
    let disk = host.open("image").unwrap();
    assert!(!host.path("images/nobody.ext4").exists());
    for sandbox in &sandboxes {
        disk.remove(sandbox).unwrap();
    }
    assert_eq!(host.mounts(), 0);
}

/// `cargo test -p proffer-agent --test disk -- --ignored --nocapture how_long`
#[test]
#[ignore = "a measurement"]
fn how_long_it_takes_to_make_a_sandbox() {
    let Some(host) = Host::new("timed", None) else { return };
    let Some(disk) = host.open("image") else { return };
    let mut made = Vec::new();
    for number in 0..40 {
        let sandbox = host.sandboxes().join("f/t").join(format!("c{number}"));
        let began = std::time::Instant::now();
        disk.make(&sandbox, Some(Limit::fixed(64 * MIB))).unwrap();
        made.push(began.elapsed());
        disk.ended(&sandbox);
        disk.remove(&sandbox).unwrap();
        // One task after the other: the stock is filled again.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    made.sort();
    eprintln!("make: p50 {:?}, p90 {:?}, most {:?}", made[20], made[36], made[39]);
    let began = std::time::Instant::now();
    let sandboxes: Vec<_> = (0..100)
        .map(|number| host.sandboxes().join("f/t").join(format!("d{number}")))
        .collect();
    std::thread::scope(|scope| {
        for part in sandboxes.chunks(25) {
            let disk = &disk;
            scope.spawn(move || {
                part.iter()
                    .for_each(|sandbox| disk.make(sandbox, Some(Limit::fixed(64 * MIB))).unwrap())
            });
        }
    });
    eprintln!("make: 100 on four threads {:?}", began.elapsed());
    let began = std::time::Instant::now();
    sandboxes.iter().for_each(|sandbox| disk.ended(sandbox));
    eprintln!("ended: 100 one by one {:?}", began.elapsed());
    sandboxes.iter().for_each(|sandbox| disk.remove(sandbox).unwrap());
}

#[test]
fn a_host_without_any_of_it_is_told_so() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let open = |choice: &str| {
        let images = directory.path().join("images");
        Disk::open(
            &directory.path().join("sandboxes"),
            images,
            Choice::parse(choice).unwrap(),
        )
    };
    for name in ["xfs", "ext4", "btrfs"] {
        let error = open(name).unwrap_err().to_string();
        assert!(error.contains("another file system"), "{name}: {error}");
    }
    let disk = open("du").unwrap();
    assert!(!disk.is_enforced());
    assert!(
        disk.note().contains("not") || disk.note().contains("no limit"),
        "{}",
        disk.note()
    );
    let sandbox = directory.path().join("sandboxes/c");
    let limit = Some(Limit::fixed(MIB));
    disk.make(&sandbox, limit).unwrap();
    assert!(disk.make(&sandbox, limit).is_err(), "it is there");
    disk.remove(&sandbox).unwrap();
    assert!(!sandbox.exists());
}

/// What holds for every back end that the kernel enforces.
fn keeps_within(host: &Host, name: &str) {
    let Some(disk) = host.open(name) else { return };
    assert!(disk.is_enforced() && disk.note().starts_with(name), "{}", disk.note());
    let bytes = 16 * MIB;
    let (first, second) = (host.make(&disk, "first", bytes), host.make(&disk, "second", bytes));
    assert_exact(write(&first.join("a"), u64::MAX), bytes);
    assert!(write(&first.join("b"), MIB) < MIB, "it is full");
    assert_eq!(write(&second.join("a"), MIB), MIB, "another one is not");

    // What is removed may be written again, in directories too, and after the agent was started again.
    let disk = {
        drop(disk);
        host.open(name).unwrap()
    };
    assert!(
        as_nobody("rm")
            .arg("-rf")
            .args([first.join("a"), first.join("b")])
            .status()
            .unwrap()
            .success()
    );
    assert!(as_nobody("mkdir").arg(first.join("inner")).status().unwrap().success());
    rustix::fs::syncfs(File::open(&first).unwrap()).unwrap();
    assert_exact(write(&first.join("inner/a"), u64::MAX), bytes);
    rustix::fs::syncfs(File::open(&first).unwrap()).unwrap();
    let used = disk.used(&first).unwrap().expect("it is counted");
    assert!(
        (bytes - MIB..=bytes + MIB).contains(&used),
        "{used} of {bytes} are used"
    );

    // One without a limit is a plain directory.
    let plain = host.sandboxes().join("f/t/plain");
    disk.make(&plain, None).unwrap();
    assert_eq!(disk.used(&plain).unwrap(), None);
    for sandbox in [first, second, plain] {
        disk.ended(&sandbox);
        disk.remove(&sandbox).unwrap();
        assert!(!sandbox.exists());
    }
    let again = host.make(&disk, "first", 2 * bytes);
    assert_exact(write(&again.join("a"), u64::MAX), 2 * bytes);
    disk.ended(&again);
    disk.remove(&again).unwrap();
    grows_and_shrinks(host, &disk);
    assert_eq!(host.mounts(), 0, "a mount is left");
    drop(disk);
    let left = fs::read_dir(host.path("images")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "an image is left");
}

/// One whose limit changes while its container runs.
fn grows_and_shrinks(host: &Host, disk: &Disk) {
    let limit = Limit {
        bytes: 8 * MIB,
        bytes_max: 1 << 30,
    };
    let sandbox = host.make_with(disk, "grown", limit);
    assert_exact(write(&sandbox.join("a"), u64::MAX), 8 * MIB);
    disk.resize(&sandbox, 24 * MIB).unwrap();
    assert_exact(write(&sandbox.join("b"), u64::MAX), 16 * MIB);
    // Nothing of what is there is taken, and nothing can be added until enough of it is gone.
    disk.resize(&sandbox, 12 * MIB).unwrap();
    assert_exact(fs::metadata(sandbox.join("a")).unwrap().len(), 8 * MIB);
    assert_eq!(write(&sandbox.join("c"), MIB), 0, "it holds too much already");
    let removed = as_nobody("rm")
        .arg("-f")
        .args([sandbox.join("b"), sandbox.join("c")])
        .status();
    assert!(removed.unwrap().success());
    rustix::fs::syncfs(File::open(&sandbox).unwrap()).unwrap();
    let left = write(&sandbox.join("d"), u64::MAX);
    assert!((3 * MIB..=5 * MIB).contains(&left), "{left} of 4 MiB");
    disk.ended(&sandbox);
    disk.resize(&sandbox, MIB).unwrap();
    disk.remove(&sandbox).unwrap();
}

pub(super) fn assert_exact(written: u64, limit: u64) {
    assert!(
        (limit - MIB..=limit).contains(&written),
        "{written} of {limit} were written"
    );
}

/// Writes until it is enough, or refused; returns how much there is then.
pub(super) fn write(path: &Path, bytes: u64) -> u64 {
    let blocks = (bytes / (64 << 10)).min(1 << 20);
    let output = as_nobody("dd")
        .arg("if=/dev/zero")
        .arg(format!("of={}", path.display()))
        .args(["bs=65536", &format!("count={blocks}")])
        .output()
        .expect("run dd");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let refused = text.contains("No space left") || text.contains("quota exceeded") || text.contains("Quota exceeded");
    assert!(output.status.success() || refused, "{text}");
    fs::metadata(path).map_or(0, |status| status.len())
}

fn as_nobody(program: &str) -> Command {
    let mut command = Command::new(program);
    command.uid(UID).gid(UID).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// A directory of the test's own, with a file system of its own where one is wanted.
pub(super) struct Host {
    directory: PathBuf,
    mounted: bool,
}

impl Host {
    /// None, with the reason said, where the host cannot. The file system is made by a program with flags, of so many bytes, and
    /// mounted with options.
    pub(super) fn new(name: &str, file_system: Option<(&str, &[&str], u64, &str)>) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: {name}: not root");
            return None;
        }
        let directory = PathBuf::from(format!("/var/tmp/proffer-disk-{}-{name}", std::process::id()));
        fs::create_dir_all(directory.join("mount")).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let mut host = Host {
            directory,
            mounted: false,
        };
        if let Some((program, flags, bytes, options)) = file_system {
            let mounted = host.mount(name, (program, flags, bytes), options);
            if let Err(reason) = mounted {
                eprintln!("skipped: {name}: {reason}");
                return None;
            }
        }
        fs::create_dir_all(host.sandboxes().join("f/t")).unwrap();
        Some(host)
    }

    fn mount(
        &mut self,
        name: &str,
        (program, flags, bytes): (&str, &[&str], u64),
        options: &str,
    ) -> Result<(), String> {
        let image = self.path("image");
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        let made = Command::new(program)
            .args(flags)
            .arg(&image)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .output();
        let made =
            made.map_err(|error| format!("{program} (apt-get install xfsprogs btrfs-progs e2fsprogs): {error}"))?;
        assert!(
            made.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let file = OpenOptions::new().read(true).write(true).open(&image).unwrap();
        let device = loopback::attach(file.as_fd(), false).map_err(|error| format!("loop devices: {error}"))?;
        let source = CString::new(format!("/dev/loop{}", device.number)).unwrap();
        let kind = CString::new(name).unwrap();
        let options = CString::new(options).unwrap();
        rustix::mount::mount(
            &source,
            self.path("mount"),
            &kind,
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .map_err(|error| format!("this kernel does not mount it with {options:?}: {error}"))?;
        self.mounted = true;
        Ok(())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn volumes(&self) -> PathBuf {
        self.path("mount/volumes")
    }

    fn sandboxes(&self) -> PathBuf {
        self.path("mount/sandboxes")
    }

    /// None where this kernel does not allow it.
    fn open(&self, name: &str) -> Option<Disk> {
        match Disk::open(&self.sandboxes(), self.path("images"), Choice::parse(name).unwrap()) {
            Ok(disk) => {
                assert_eq!(disk.name(), Some(name));
                Some(disk)
            }
            Err(error) => {
                eprintln!("skipped: {name}: {error}");
                None
            }
        }
    }

    /// Makes a sandbox for `nobody`.
    fn make(&self, disk: &Disk, name: &str, bytes: u64) -> PathBuf {
        self.make_with(disk, name, Limit::fixed(bytes))
    }

    fn make_with(&self, disk: &Disk, name: &str, limit: Limit) -> PathBuf {
        let sandbox = self.sandboxes().join("f/t").join(name);
        disk.make(&sandbox, Some(limit)).unwrap();
        chown(&sandbox, Some(UID), Some(UID)).unwrap();
        sandbox
    }

    /// How many sandboxes are mounted.
    pub(super) fn mounts(&self) -> usize {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let below = format!(" {}/", self.sandboxes().display());
        text.lines().filter(|line| line.contains(&below)).count()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points: Vec<_> = text.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        for point in points
            .iter()
            .rev()
            .filter(|point| Path::new(point).starts_with(&self.directory))
        {
            let _ = rustix::mount::unmount(*point, UnmountFlags::DETACH);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
