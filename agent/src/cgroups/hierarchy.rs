//! One tree of cgroups, seen from our own root in it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::Error;
use crate::containerizer::ContainerId;

/// What the names of programs begin with that entered a container: they end with it.
const ENTERED_PREFIX: &str = "enter-";
/// How long a directory may stay busy after its last process has ended.
const REMOVE_WAIT: Duration = Duration::from_secs(5);

/// The version of a hierarchy's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One tree for each controller.
    V1,
    /// The unified tree.
    V2,
}

/// A tree, with our own directory in it open.
#[derive(Debug)]
pub struct Hierarchy {
    /// Its interface.
    pub version: Version,
    /// Where it is mounted.
    mount: PathBuf,
    /// Our own directory, below which every container has one.
    root: PathBuf,
    /// What is handed down to containers, and from pods to theirs.
    controllers: Vec<String>,
    directory: OwnedFd,
}

impl Hierarchy {
    /// Creates our own directory, with `controllers` handed down to it in version 2.
    pub fn open(version: Version, mount: &Path, root: &str, controllers: &[&str]) -> Result<Self, Error> {
        let path = mount.join(root);
        let failed = |verb: &str| file_error(verb.to_owned(), &path);
        // Another agent's end may remove a shared parent just now.
        let created = (0..10).find_map(|_| match std::fs::create_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            result => Some(result),
        });
        created
            .unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
            .map_err(failed("create"))?;
        if version == Version::V2 && !controllers.is_empty() {
            let mut at = mount.to_path_buf();
            delegate(&at, controllers)?;
            for part in Path::new(root) {
                at.push(part);
                delegate(&at, controllers)?;
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(io::Error::from)
            .map_err(failed("open"))?;
        Ok(Hierarchy {
            version,
            mount: mount.to_path_buf(),
            root: path,
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            directory,
        })
    }

    /// The path of a file of a container's, for the launcher.
    pub fn path(&self, container: &ContainerId, file: &str) -> String {
        format!("{}/{}/{file}", self.root.display(), container.cgroup())
    }

    /// Creates the container's directory; one that exists is an error.
    pub fn create(&self, container: &ContainerId) -> Result<(), Error> {
        rustix::fs::mkdirat(&self.directory, container.cgroup(), Mode::from_raw_mode(0o755))
            .map_err(|errno| self.error("create".into(), container, "", errno.into()))
    }

    /// Creates the directory of a pod, for the containers in it; one that exists is no error.
    pub fn create_pod(&self, pod: &ContainerId) -> Result<(), Error> {
        match rustix::fs::mkdirat(&self.directory, pod.cgroup(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(self.error("create".into(), pod, "", errno.into())),
        }
        let request: Vec<String> = self.controllers.iter().map(|name| format!("+{name}")).collect();
        match request.is_empty() {
            true => Ok(()),
            false => self.write(pod, "cgroup.subtree_control", &request.join(" ")),
        }
    }

    /// Opens the container's directory.
    pub fn open_container(&self, container: &ContainerId) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, container.cgroup(), flags, Mode::empty())
            .map_err(|errno| self.error("open".into(), container, "", errno.into()))
    }

    /// Writes one value.
    pub fn write(&self, container: &ContainerId, file: &str, value: &str) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            let name = format!("{}/{file}", container.cgroup());
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?;
            std::fs::File::from(opened).write_all(value.as_bytes())
        };
        write().map_err(|source| self.error(format!("write {value} to"), container, file, source))
    }

    /// Reads a small file.
    pub fn read(&self, container: &ContainerId, file: &str) -> Result<String, Error> {
        let read = || -> io::Result<String> {
            let name = format!("{}/{file}", container.cgroup());
            let opened = rustix::fs::openat(&self.directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            let mut text = String::with_capacity(1024);
            std::fs::File::from(opened).read_to_string(&mut text)?;
            Ok(text)
        };
        read().map_err(|source| self.error("read".into(), container, file, source))
    }

    /// Whether a container's file exists.
    pub fn has(&self, container: &ContainerId, file: &str) -> bool {
        let name = format!("{}/{file}", container.cgroup());
        rustix::fs::accessat(&self.directory, name, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// Whether our own directory has a file.
    pub fn has_own(&self, file: &str) -> bool {
        rustix::fs::accessat(&self.directory, file, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// The pids in a container's directory.
    pub fn processes(&self, container: &ContainerId) -> Result<Vec<i32>, Error> {
        let text = self.read(container, "cgroup.procs")?;
        Ok(text
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(|pid| *pid > 1)
            .collect())
    }

    /// The containers that have a directory, pods and those in them.
    pub fn containers(&self) -> Result<Vec<ContainerId>, Error> {
        let list = |path: &Path| directories(path).map_err(file_error("list".into(), path));
        let mut found = Vec::new();
        for name in list(&self.root)? {
            let nested = list(&self.root.join(&name)).unwrap_or_default();
            let nested = nested.into_iter().filter(|own| !own.starts_with(ENTERED_PREFIX));
            found.extend(nested.map(|own| ContainerId(format!("{name}.{own}"))));
            found.push(ContainerId(name));
        }
        Ok(found)
    }

    /// Removes the container's directory with all below it, once its processes have ended; one that is not there is no error.
    pub fn remove(&self, container: &ContainerId) -> Result<(), Error> {
        remove_tree(&self.root.join(container.cgroup()), Instant::now() + REMOVE_WAIT)
    }

    /// The path of our own directory, in which those of the containers are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Our own directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    fn error(&self, verb: String, container: &ContainerId, file: &str, source: io::Error) -> Error {
        Error::File {
            verb,
            path: self.path(container, file),
            source,
        }
    }
}

impl Drop for Hierarchy {
    /// Our own directory, and its parents up to the root, go when they are empty; otherwise another agent or the containers that
    /// outlive us use them.
    fn drop(&mut self) {
        let mut path = self.root.as_path();
        while path != self.mount && std::fs::remove_dir(path).is_ok() {
            let Some(parent) = path.parent() else { break };
            path = parent;
        }
    }
}

fn directories(path: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_dir(), entry.file_name().into_string()) {
            found.push(name);
        }
    }
    Ok(found)
}

fn file_error(verb: String, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.display().to_string();
    move |source| Error::File { verb, path, source }
}

/// Hands controllers down to the children of a version 2 cgroup. Only a cgroup without processes of its own may do so: where we are
/// the only process in it, we move to a leaf.
fn delegate(cgroup: &Path, controllers: &[&str]) -> Result<(), Error> {
    let file = cgroup.join("cgroup.subtree_control");
    let enabled = std::fs::read_to_string(&file).map_err(file_error("read".into(), &file))?;
    let missing: Vec<_> = controllers
        .iter()
        .filter(|name| !enabled.split_whitespace().any(|on| on == **name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let request = missing
        .iter()
        .map(|name| format!("+{name}"))
        .collect::<Vec<_>>()
        .join(" ");
    let mut result = std::fs::write(&file, &request);
    let busy = |result: &io::Result<()>| {
        result
            .as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()))
    };
    if busy(&result) && move_to_leaf(cgroup).unwrap_or(false) {
        result = std::fs::write(&file, &request);
    }
    if busy(&result) {
        let reason = format!(
            "{} holds processes besides the agent, so its controllers cannot be handed down; start the agent in a cgroup of \
             its own (systemd: Delegate=yes)",
            cgroup.display()
        );
        return Err(Error::Missing { what: "cgroup", reason });
    }
    result.map_err(file_error(format!("write {request} to"), &file))
}

fn move_to_leaf(cgroup: &Path) -> io::Result<bool> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_to_string(cgroup.join("cgroup.procs"))?;
    if processes.lines().any(|pid| pid != own) {
        return Ok(false);
    }
    let leaf = cgroup.join("proffer-agent");
    std::fs::create_dir_all(&leaf)?;
    std::fs::write(leaf.join("cgroup.procs"), &own)?;
    Ok(true)
}

fn remove_tree(path: &Path, deadline: Instant) -> Result<(), Error> {
    loop {
        let error = match std::fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => error,
        };
        // The control files cannot be removed and need not be; directories below must go first.
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path(), deadline)?;
            }
        }
        if Instant::now() >= deadline {
            return Err(file_error("remove".into(), path)(error));
        }
        // A process that is gone for its parent may be a moment longer in its cgroup; nothing tells when in version 1.
        thread::sleep(Duration::from_millis(1));
    }
}
