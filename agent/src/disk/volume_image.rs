//! On any file system: an ext4 of its own, in a file, for each persistent volume. Writes beyond its size fail with `ENOSPC`, root's too.
//!
//! The file system is larger than the limit by what it needs for itself; the rest is kept back by the kernel (`reserved_clusters`), so
//! that the limit is exact. It has a journal, and stays mounted. It grows with its file, while no container has it, and shrinks by
//! what is kept back. Nothing is tidied up here: an image is removed with its volume alone.
//!
//! An image gets its name when the file system in it is whole. A container that has the volume may keep its loop device in a mount
//! namespace that the agent does not see; so a device that has the file is used again, and the file never attached twice. Containers that
//! only started meanwhile do not keep it: see [`shared`].

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{MoveMountFlags, move_mount};

use super::image::file_system::{self, Keeping};
use super::{BackEnd, Limit, Unusable, is_mounted, make_plain, shared, unmount};

const BLOCK_BYTES: u64 = 4096;
/// A file for so many bytes, as usual.
const BYTES_PER_FILE: u64 = 16 << 10;
const FILES_MIN: u64 = 1024;
const FILE_RECORD_BYTES: u64 = 256;
/// The journal of a volume, the smallest that there is.
const JOURNAL_BYTES: u64 = 4 << 20;
/// How long a container that is only starting, or ending, may keep a volume from growing.
const BUSY_MAX: Duration = Duration::from_secs(2);
const BUSY_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct VolumeImages {
    directory: PathBuf,
    /// Where the volumes lie.
    volumes: PathBuf,
}

impl VolumeImages {
    pub(super) fn new(directory: PathBuf, volumes: PathBuf) -> Self {
        VolumeImages { directory, volumes }
    }

    /// At the path of the volume below its own root.
    fn image(&self, volume: &Path) -> PathBuf {
        let path = volume.strip_prefix(&self.volumes).unwrap_or(volume);
        let mut path = self.directory.join(path).into_os_string();
        path.push(".ext4");
        path.into()
    }

    /// Removes the image of a volume, and the directories that hold nothing else.
    fn remove_image(&self, image: &Path) -> io::Result<()> {
        for beside in [base(image), making(image)] {
            let _ = std::fs::remove_file(beside);
        }
        std::fs::remove_file(image)?;
        let own = |directory: &&Path| directory.starts_with(&self.directory) && **directory != self.directory;
        for parent in image.ancestors().skip(1).take_while(own) {
            if std::fs::remove_dir(parent).is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl BackEnd for VolumeImages {
    fn name(&self) -> &'static str {
        "image"
    }

    fn probe(&self, _: &Path) -> Result<String, Unusable> {
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&self.directory);
        made.map_err(|error| format!("make {}: {error}", self.directory.display()))?;
        for name in ["mkfs.ext4", "e2fsck"] {
            run(program(name).arg("-V"), name, &[0])
                .map_err(|error| format!("file systems in files need {name} (package e2fsprogs): {error}"))?;
        }
        let loops = OpenOptions::new().read(true).write(true).open("/dev/loop-control");
        loops.map_err(|error| format!("file systems in files need loop devices: /dev/loop-control: {error}"))?;
        Ok("an ext4 in a file for each volume, enforced by the kernel".into())
    }

    fn make_in_place(&self) -> bool {
        true
    }

    fn make(&self, volume: &Path, limit: Limit) -> io::Result<()> {
        let image = self.image(volume);
        shared::ensure(&self.volumes)?;
        if !image.exists() {
            make_image(&image, limit.bytes)?;
        }
        let mounted = make_plain(volume).and_then(|()| {
            let attached = attach(&image, volume, limit.bytes);
            if attached.is_err() {
                let _ = std::fs::remove_dir(volume);
            }
            attached
        });
        if mounted.is_err() {
            let _ = self.remove_image(&image);
        }
        mounted
    }

    fn resize(&self, volume: &Path, bytes: u64) -> io::Result<()> {
        let image = self.image(volume);
        if !is_mounted(volume)? {
            // The machine was started again, or the agent in another mount namespace.
            shared::ensure(&self.volumes)?;
            attach(&image, volume, 0)?;
        }
        if room(volume, &image)? < rounded(bytes) {
            unmount(volume)?;
            let grown = grow(&image, bytes);
            attach(&image, volume, 0)?;
            // The check of the file system makes one.
            let _ = std::fs::remove_dir(volume.join("lost+found"));
            grown?;
        }
        let kept = room(volume, &image)?
            .checked_sub(rounded(bytes))
            .ok_or_else(too_small)?;
        keep_back(rustix::fs::minor(std::fs::metadata(volume)?.dev()), kept)
    }

    fn has(&self, volume: &Path) -> bool {
        self.image(volume).is_file()
    }

    fn let_go(&self, volume: &Path) -> io::Result<()> {
        unmount(volume)?;
        shared::give_up(&self.volumes);
        Ok(())
    }

    fn used(&self, volume: &Path) -> io::Result<Option<u64>> {
        if !is_mounted(volume)? {
            return Ok(None);
        }
        let status = rustix::fs::statvfs(volume)?;
        Ok(Some((status.f_blocks - status.f_bfree) * status.f_frsize))
    }

    fn remove(&self, volume: &Path) -> io::Result<()> {
        match unmount(volume).and_then(|()| std::fs::remove_dir(volume)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let image = self.image(volume);
        // Other containers may have the mount still, and with it the file: the room that it takes is given back now.
        let emptied = OpenOptions::new().write(true).open(&image).and_then(|file| {
            let (length, flags) = (file.metadata()?.len(), rustix::fs::FallocateFlags::PUNCH_HOLE);
            let flags = flags | rustix::fs::FallocateFlags::KEEP_SIZE;
            Ok(rustix::fs::fallocate(&file, flags, 0, length)?)
        });
        if let Err(error) = emptied {
            tracing::debug!(image = %image.display(), %error, "the room of a removed volume is given back later");
        }
        shared::give_up(&self.volumes);
        self.remove_image(&image)
    }
}

/// Makes the image of a volume, whole or not at all.
fn make_image(image: &Path, bytes: u64) -> io::Result<()> {
    if let Some(parent) = image.parent() {
        DirBuilder::new().mode(0o700).recursive(true).create(parent)?;
    }
    let making = making(image);
    let options = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .clone();
    let file = options.open(&making)?;
    file.set_len(length(bytes))?;
    make_file_system(&making, files(bytes))?;
    std::fs::write(base(image), taken_when_empty(&file)?.to_string())?;
    file.sync_all()?;
    std::fs::rename(making, image)
}

/// Empties a file system that was just made; how much is taken of it nevertheless.
fn taken_when_empty(image: &File) -> io::Result<u64> {
    let (mount, _) = file_system::detached(image, Keeping::Lasting)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(&mount, c".", flags, Mode::empty())?;
    let _ = rustix::fs::unlinkat(&root, c"lost+found", AtFlags::REMOVEDIR);
    rustix::fs::fchmod(&root, Mode::from_raw_mode(0o700))?;
    let status = rustix::fs::fstatvfs(&root)?;
    Ok((status.f_blocks - status.f_bfree) * status.f_frsize)
}

/// Mounts an image at the directory of its volume. It holds so much from the first moment; nothing, where that is not known yet.
fn attach(image: &Path, volume: &Path, bytes: u64) -> io::Result<()> {
    let (mount, number) = mounted(image)?;
    let root = rustix::fs::openat(
        &mount,
        c".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let status = rustix::fs::fstatvfs(&root)?;
    let total = (status.f_blocks * status.f_frsize).saturating_sub(taken(image));
    drop(root);
    if bytes > 0 {
        keep_back(number, total.checked_sub(rounded(bytes)).ok_or_else(too_small)?)?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(&mount, c"", CWD, volume, flags)?)
}

/// A mount of an image that is attached nowhere, and its device: the one that a container has it on, if there is one.
fn mounted(image: &Path) -> io::Result<(OwnedFd, u32)> {
    let until = Instant::now() + BUSY_MAX;
    loop {
        let Some(number) = device_of(image)? else {
            let file = OpenOptions::new().read(true).write(true).open(image)?;
            return file_system::detached(&file, Keeping::Lasting);
        };
        match file_system::detached_device(number, Keeping::Lasting) {
            Ok(mount) => return Ok((mount, number)),
            // The device is about to be free.
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => std::thread::sleep(BUSY_PAUSE),
        }
    }
}

/// Makes the file system in an image larger that is mounted nowhere.
fn grow(image: &Path, bytes: u64) -> io::Result<()> {
    let until = Instant::now() + BUSY_MAX;
    while device_of(image)?.is_some() {
        if Instant::now() > until {
            let problem = "a container still has the volume, which cannot grow meanwhile";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, problem));
        }
        std::thread::sleep(BUSY_PAUSE);
    }
    let file = OpenOptions::new().write(true).open(image)?;
    let length = length(bytes).max(file.metadata()?.len());
    file.set_len(length)?;
    // 1: it has mended something.
    run(program("e2fsck").args(["-f", "-p"]).arg(image), "e2fsck", &[0, 1])?;
    run(program("resize2fs").arg("-f").arg(image), "resize2fs", &[0])?;
    file.sync_all()
}

/// The number of the loop device that has the file, of whatever mount namespace.
fn device_of(image: &Path) -> io::Result<Option<u32>> {
    let image = image.canonicalize()?;
    for device in std::fs::read_dir("/sys/block")? {
        let device = device?;
        let name = device.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix("loop")?.parse().ok()) else {
            continue;
        };
        let backing = std::fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if Path::new(backing.trim_end_matches('\n')) == image {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// How much an empty volume could hold, were nothing kept back.
fn room(volume: &Path, image: &Path) -> io::Result<u64> {
    let status = rustix::fs::statvfs(volume)?;
    Ok((status.f_blocks * status.f_frsize).saturating_sub(taken(image)))
}

/// How much is taken of the file system of an empty volume.
fn taken(image: &Path) -> u64 {
    let text = std::fs::read_to_string(base(image));
    text.ok().and_then(|text| text.parse().ok()).unwrap_or(BLOCK_BYTES)
}

/// Keeps so much of a mounted file system back.
fn keep_back(number: u32, bytes: u64) -> io::Result<()> {
    let control = format!("/sys/fs/ext4/loop{number}/reserved_clusters");
    std::fs::write(control, (bytes / BLOCK_BYTES).to_string())
}

fn too_small() -> io::Error {
    io::Error::other("the file system takes more for itself than was reckoned with")
}

fn rounded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES)
}

fn files(bytes: u64) -> u64 {
    (bytes / BYTES_PER_FILE).max(FILES_MIN)
}

/// How long the file of a file system is that holds so much: with its tables of files, maps of blocks, copies of its
/// description, and its journal.
fn length(bytes: u64) -> u64 {
    let own = files(bytes) * FILE_RECORD_BYTES + bytes / 1024 + (4 << 20) + JOURNAL_BYTES;
    rounded(bytes + own)
}

/// Where it stands how much of an empty volume's file system is taken.
fn base(image: &Path) -> PathBuf {
    image.with_extension("ext4.base")
}

/// What an image is called until it is whole.
fn making(image: &Path) -> PathBuf {
    image.with_extension("making")
}

/// A program of e2fsprogs, which is not always in the path of services.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command
        .env("PATH", "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

fn run(command: &mut Command, name: &str, successes: &[i32]) -> io::Result<()> {
    let output = command.output()?;
    if output.status.code().is_some_and(|code| successes.contains(&code)) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{name}: {}: {}", output.status, text.trim())))
}

fn make_file_system(image: &Path, files: u64) -> io::Result<()> {
    let journal = format!("size={}", JOURNAL_BYTES >> 20);
    let mut command = program("mkfs.ext4");
    command
        .args(["-q", "-F", "-b", "4096", "-m", "0"])
        .args(["-I", &FILE_RECORD_BYTES.to_string(), "-N", &files.to_string()])
        .args(["-O", "has_journal,^resize_inode", "-J", &journal])
        .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"])
        .arg(image);
    run(&mut command, "mkfs.ext4", &[0])
}
