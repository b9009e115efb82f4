//! File systems that are made, and mounted nowhere, before somebody needs them: to make one takes some 15 ms, most of which the kernel
//! waits for itself; to take one from the stock a tenth of one.
//!
//! Each size that was asked for lately has a shelf, which is filled again by a thread. What is there lasts no longer than the agent: the
//! kernel lets go of what is mounted nowhere, and the files are removed, at the latest when the next agent process starts.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, move_mount};

use super::file_system::Keeping;
use super::shape::Shape;
use super::template::Template;
use super::{file_system, shape};

/// How many sizes have a shelf: those that were asked for last.
const SHELVES_MAX: usize = 4;
/// How many are ready on a shelf; as many as were asked for, up to this.
const READY_MAX: usize = 8;

/// The stock of one agent.
#[derive(Debug)]
pub(super) struct Stock {
    shared: Arc<Shared>,
    /// None until the first one is asked for.
    filler: Mutex<Option<Filler>>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    made: AtomicU64,
    /// The one that was asked for last at the end.
    shelves: Mutex<Vec<Shelf>>,
}

#[derive(Debug)]
struct Shelf {
    shape: Shape,
    template: Option<Arc<Template>>,
    asked: usize,
    ready: Vec<Prepared>,
}

/// The thread that fills shelves.
#[derive(Debug)]
struct Filler {
    orders: mpsc::Sender<Shape>,
    thread: JoinHandle<()>,
}

impl Stock {
    /// Files are made in this directory.
    pub(super) fn new(directory: PathBuf) -> Self {
        let shared = Shared {
            directory,
            made: AtomicU64::default(),
            shelves: Mutex::default(),
        };
        Stock {
            shared: Arc::new(shared),
            filler: Mutex::default(),
        }
    }

    /// Takes a file system, or makes one where none is ready.
    pub(super) fn take(&self, shape: Shape) -> io::Result<Prepared> {
        let (ready, template, forgotten) = self.shared.ask(shape);
        let taken = match ready {
            Some(ready) => Ok(ready),
            None => self.shared.prepare(shape, template),
        };
        if taken.is_ok() {
            self.fill(shape);
        }
        drop(forgotten);
        taken
    }

    fn fill(&self, shape: Shape) {
        let mut filler = self.filler.lock().unwrap_or_else(PoisonError::into_inner);
        if filler.is_none() {
            let (orders, incoming) = mpsc::channel();
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("disk-stock".into()).spawn(move || {
                for shape in incoming {
                    shared.fill(shape);
                }
            });
            match thread {
                Ok(thread) => *filler = Some(Filler { orders, thread }),
                Err(error) => tracing::debug!(%error, "no thread can be started to make file systems ahead of need"),
            }
        }
        if let Some(filler) = &*filler {
            let _ = filler.orders.send(shape);
        }
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        // What is on the shelves goes with them.
        self.shared.shelves().clear();
        let filler = self.filler.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(Filler { orders, thread }) = filler.take() {
            drop(orders);
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn shelves(&self) -> MutexGuard<'_, Vec<Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is ready, how to make another, and what makes room: to let go of it takes a while.
    fn ask(&self, shape: Shape) -> (Option<Prepared>, Option<Arc<Template>>, Option<Shelf>) {
        let mut shelves = self.shelves();
        let mut shelf = match shelves.iter().position(|shelf| shelf.shape == shape) {
            Some(place) => shelves.remove(place),
            None => Shelf {
                shape,
                template: None,
                asked: 0,
                ready: Vec::new(),
            },
        };
        shelf.asked = (shelf.asked + 1).min(READY_MAX);
        let answer = (shelf.ready.pop(), shelf.template.clone());
        shelves.push(shelf);
        let forgotten = (shelves.len() > SHELVES_MAX).then(|| shelves.remove(0));
        (answer.0, answer.1, forgotten)
    }

    /// Makes one, and remembers how.
    fn prepare(&self, shape: Shape, template: Option<Arc<Template>>) -> io::Result<Prepared> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let image = Image(self.directory.join(name(number)));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&image.0)?;
        match template {
            Some(template) => template.write(&file)?,
            None => {
                shape.make(&file, &image.0)?;
                if let Some(template) = Template::read(&file)? {
                    self.remember(shape, template);
                }
            }
        }
        let (mount, device) = file_system::detached(&file, Keeping::Passing)?;
        shape::limit(mount.as_fd(), device, shape.0.bytes)?;
        Ok(Prepared { mount, image })
    }

    fn remember(&self, shape: Shape, template: Template) {
        let mut shelves = self.shelves();
        if let Some(shelf) = shelves.iter_mut().find(|shelf| shelf.shape == shape) {
            shelf.template = Some(Arc::new(template));
        }
    }

    /// Fills a shelf, if it is there still.
    fn fill(&self, shape: Shape) {
        loop {
            let template = {
                let mut shelves = self.shelves();
                let shelf = shelves.iter_mut().find(|shelf| shelf.shape == shape);
                match shelf.filter(|shelf| shelf.ready.len() < shelf.asked) {
                    Some(shelf) => shelf.template.clone(),
                    None => return,
                }
            };
            let prepared = match self.prepare(shape, template) {
                Ok(prepared) => prepared,
                // Whoever needs one hears why there is none.
                Err(error) => return tracing::debug!(%error, "a file system cannot be made ahead of need"),
            };
            let mut shelves = self.shelves();
            match shelves.iter_mut().find(|shelf| shelf.shape == shape) {
                Some(shelf) => shelf.ready.push(prepared),
                None => {
                    drop(shelves);
                    drop(prepared);
                }
            }
        }
    }
}

/// A file system that is mounted nowhere yet. Dropped, nothing of it is left.
#[derive(Debug)]
pub(super) struct Prepared {
    mount: OwnedFd,
    image: Image,
}

impl Prepared {
    /// Gives its file a name of the same directory, which must not be taken.
    pub(super) fn name(&self, image: &Path) -> io::Result<()> {
        std::fs::hard_link(&self.image.0, image)
    }

    /// Mounts it at a directory.
    pub(super) fn attach(self, directory: &Path) -> io::Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(move_mount(&self.mount, c"", CWD, directory, flags)?)
    }
}

/// A file that is removed with this.
#[derive(Debug)]
struct Image(PathBuf);

impl Drop for Image {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(image = %self.0.display(), %error, "a file of the stock cannot be removed");
        }
    }
}

fn name(number: u64) -> String {
    format!("stock.{number}")
}
