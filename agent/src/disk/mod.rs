//! Keeps what lies in a sandbox within the task's `disk`.
//!
//! A back end a file, tried in this order at start: `xfs`, `ext4`, `btrfs`, `image`, `du`. The first that the file system of the
//! sandboxes allows makes the sandboxes of tasks that name a `disk`; a task that names none has no limit of its own. Which back
//! end a sandbox belongs to is seen by looking at it, so that sandboxes of a former agent with other settings are still known.
//!
//! Life of a limited sandbox: `make` -> its container runs -> `ended` -> (`show`, whenever somebody wants to read it)* -> `remove`.

mod btrfs;
mod du;
mod ext4;
mod image;
mod project;
mod shared;
mod volume_image;
mod xfs;

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

pub(crate) use du::watch;

/// Names of the back ends, in the order in which they are tried.
pub const BACK_ENDS: [&str; 5] = ["xfs", "ext4", "btrfs", "image", "du"];

/// Why a back end cannot be used, for the operator.
type Unusable = String;

/// One way to keep a sandbox within a limit. Methods block.
trait BackEnd: Send + Sync + fmt::Debug {
    /// As operators write it.
    fn name(&self) -> &'static str;

    /// Whether, and how, it can be used below this directory, which exists.
    fn probe(&self, sandboxes: &Path) -> Result<String, Unusable>;

    /// Makes the directory of a sandbox, whose parent exists, with a limit. It belongs to the agent.
    fn make(&self, sandbox: &Path, limit: Limit) -> io::Result<()>;

    /// Whether what it makes cannot be moved. Then it makes it whole or not at all.
    fn make_in_place(&self) -> bool {
        false
    }

    /// Changes the limit of what it made, to no more than it was made to grow to.
    fn resize(&self, sandbox: &Path, bytes: u64) -> io::Result<()>;

    /// Whether it made this sandbox.
    fn has(&self, sandbox: &Path) -> bool;

    /// How much the sandbox holds, where that is known without looking at each file.
    fn used(&self, sandbox: &Path) -> io::Result<Option<u64>>;

    /// Its container has ended: nothing changes any more.
    fn ended(&self, sandbox: &Path) {
        let _ = sandbox;
    }

    /// Nobody needs it for the time being.
    fn let_go(&self, sandbox: &Path) -> io::Result<()> {
        let _ = sandbox;
        Ok(())
    }

    /// Sees to it that its files can be read.
    fn show(&self, sandbox: &Path) -> io::Result<()> {
        let _ = sandbox;
        Ok(())
    }

    /// Removes the sandbox and what there is for it.
    fn remove(&self, sandbox: &Path) -> io::Result<()>;
}

/// The limits of the sandboxes of one agent.
#[derive(Debug)]
pub struct Disk {
    back_ends: Vec<Box<dyn BackEnd>>,
    /// The one that makes sandboxes; none where nothing limits them.
    chosen: Option<usize>,
    note: String,
}

/// How much a sandbox may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// For now.
    pub bytes: u64,
    /// The most that it can be changed to; not less.
    pub bytes_max: u64,
}

impl Limit {
    /// One that stays.
    pub fn fixed(bytes: u64) -> Self {
        Limit {
            bytes,
            bytes_max: bytes,
        }
    }
}

/// What is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first that can be used.
    #[default]
    Best,
    /// This one, by its place in [`BACK_ENDS`], or an error.
    Named(usize),
    /// None.
    None,
}

impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Choice::Best => "auto",
            Choice::Named(place) => BACK_ENDS[*place],
            Choice::None => "none",
        })
    }
}

impl Choice {
    /// Reads `auto` or the name of a back end.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "auto" {
            return Some(Choice::Best);
        }
        let place = BACK_ENDS.iter().position(|name| *name == text)?;
        Some(Choice::Named(place))
    }
}

impl Disk {
    /// Chooses the back end for sandboxes below a directory, which is made. `images` is where file systems in files lie.
    ///
    /// # Errors
    /// A back end that is named cannot be used, or a directory cannot be made.
    pub fn open(sandboxes: &Path, images: PathBuf, choice: Choice) -> io::Result<Self> {
        Self::choose(sandboxes, Box::new(image::Images::new(images)), choice)
    }

    /// The same for persistent volumes, which must outlive power cuts and of which nothing is tidied up.
    ///
    /// # Errors
    /// A back end that is named cannot be used, or a directory cannot be made.
    pub fn open_for_volumes(volumes: &Path, images: PathBuf, choice: Choice) -> io::Result<Self> {
        let images = volume_image::VolumeImages::new(images, volumes.to_owned());
        Self::choose(volumes, Box::new(images), choice)
    }

    fn choose(sandboxes: &Path, images: Box<dyn BackEnd>, choice: Choice) -> io::Result<Self> {
        std::fs::create_dir_all(sandboxes)?;
        let back_ends: Vec<Box<dyn BackEnd>> = vec![
            Box::new(xfs::Xfs),
            Box::new(ext4::Ext4),
            Box::new(btrfs::Btrfs),
            images,
            Box::new(du::Du),
        ];
        let mut disk = Disk {
            back_ends,
            chosen: None,
            note: "not asked for: nothing keeps a task within its `disk`".into(),
        };
        let mut refusals = Vec::new();
        let wanted = |place: &usize| match choice {
            Choice::Best => true,
            Choice::Named(named) => *place == named,
            Choice::None => false,
        };
        for place in (0..disk.back_ends.len()).filter(wanted) {
            let back_end = &disk.back_ends[place];
            match back_end.probe(sandboxes) {
                Ok(text) => {
                    disk.note = format!("{}: {text}", back_end.name());
                    // What a better one lacks, as far as something can be done about it.
                    refusals.retain(|refusal: &String| !refusal.is_empty());
                    if !refusals.is_empty() {
                        disk.note = format!("{} ({})", disk.note, refusals.join("; "));
                    }
                    disk.chosen = Some(place);
                    return Ok(disk);
                }
                Err(reason) if choice == Choice::Best => refusals.push(reason),
                Err(reason) => {
                    let reason = if reason.is_empty() {
                        format!("{} lies on another file system", sandboxes.display())
                    } else {
                        reason
                    };
                    return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
                }
            }
        }
        Ok(disk)
    }

    /// What enforces limits.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// The name of the back end that makes sandboxes.
    pub fn name(&self) -> Option<&'static str> {
        self.chosen.map(|place| self.back_ends[place].name())
    }

    /// Whether the kernel itself refuses what goes beyond a limit.
    pub fn is_enforced(&self) -> bool {
        self.name().is_some_and(|name| name != du::NAME)
    }

    /// Makes the directory of a sandbox, whose parent exists; it belongs to the agent.
    ///
    /// # Errors
    /// It cannot be made; nothing of it is left.
    pub fn make(&self, sandbox: &Path, limit: Option<Limit>) -> io::Result<()> {
        match (self.chosen, limit) {
            (Some(place), Some(limit)) => self.back_ends[place].make(sandbox, limit),
            _ => make_plain(sandbox),
        }
    }

    /// Changes the limit of a sandbox; one that was made without a limit gets none.
    ///
    /// # Errors
    /// It cannot be changed, and stays as it was.
    pub fn resize(&self, sandbox: &Path, bytes: u64) -> io::Result<()> {
        self.of(sandbox)
            .map_or(Ok(()), |back_end| back_end.resize(sandbox, bytes))
    }

    /// Makes a directory, whose parent exists, or gives the one that is there its limit. What nothing limits stays so.
    ///
    /// # Errors
    /// It cannot be made, or its limit not be changed.
    pub fn ensure(&self, directory: &Path, bytes: u64) -> io::Result<()> {
        match std::fs::symlink_metadata(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_whole(directory, bytes),
            Err(error) => Err(error),
            Ok(_) => self.resize(directory, bytes),
        }
    }

    /// Makes a directory so that it never has its name without its limit, whenever the agent ends.
    fn make_whole(&self, directory: &Path, bytes: u64) -> io::Result<()> {
        if self.chosen.is_some_and(|place| self.back_ends[place].make_in_place()) {
            return self.make(directory, Some(Limit::fixed(bytes)));
        }
        let making = directory.with_extension("making");
        if making.exists() {
            self.remove(&making)?;
        }
        self.make(&making, Some(Limit::fixed(bytes)))?;
        std::fs::rename(making, directory)
    }

    /// How much a sandbox holds, where that is known without looking at each file.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn used(&self, sandbox: &Path) -> io::Result<Option<u64>> {
        self.of(sandbox).map_or(Ok(None), |back_end| back_end.used(sandbox))
    }

    /// The container of a sandbox has ended.
    pub fn ended(&self, sandbox: &Path) {
        if let Some(back_end) = self.of(sandbox) {
            back_end.ended(sandbox);
        }
    }

    /// Nobody needs a directory before it is ensured again.
    ///
    /// # Errors
    /// What keeps it at hand stays.
    pub fn let_go(&self, directory: &Path) -> io::Result<()> {
        self.of(directory).map_or(Ok(()), |back_end| back_end.let_go(directory))
    }

    /// Sees to it that the files of a sandbox can be read.
    ///
    /// # Errors
    /// They cannot.
    pub fn show(&self, sandbox: &Path) -> io::Result<()> {
        self.of(sandbox).map_or(Ok(()), |back_end| back_end.show(sandbox))
    }

    /// Removes a sandbox with all that it holds.
    ///
    /// # Errors
    /// Something of it cannot be removed.
    pub fn remove(&self, sandbox: &Path) -> io::Result<()> {
        match self.of(sandbox) {
            Some(back_end) => back_end.remove(sandbox),
            None => crate::sandbox::remove::remove(sandbox),
        }
    }

    fn of(&self, sandbox: &Path) -> Option<&dyn BackEnd> {
        let found = self.back_ends.iter().find(|back_end| back_end.has(sandbox));
        found.map(AsRef::as_ref)
    }
}

/// A directory without a limit that the kernel knows.
fn make_plain(sandbox: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(sandbox)
}

fn open_directory(path: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The file system that a directory lies on, `f_type` of statfs(2).
fn file_system(path: &Path) -> i64 {
    #[allow(clippy::unnecessary_cast, reason = "its type is another one on other architectures")]
    rustix::fs::statfs(path).map_or(0, |status| status.f_type as i64)
}

/// What is not mounted is left alone.
fn unmount(directory: &Path) -> io::Result<()> {
    while is_mounted(directory)? {
        rustix::mount::unmount(directory, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

fn is_mounted(directory: &Path) -> io::Result<bool> {
    let parent = directory.parent().unwrap_or(Path::new("/"));
    Ok(std::fs::symlink_metadata(directory)?.dev() != std::fs::metadata(parent)?.dev())
}
