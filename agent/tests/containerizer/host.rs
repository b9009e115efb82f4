//! A containerizer of a test's own, and the proof at its end that nothing was left behind.

use std::fs;
use std::future::Future;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use proffer_agent::cgroups;
use proffer_agent::containerizer::{
    Config, Confinement, ContainerId, ContainerInput, ContainerSpec, Containerizer, EnforcementNote, Error, Exit,
    ISOLATORS, Limit, LogLimits, Policy, Resources, User,
};

use crate::payload;

/// `nobody`.
pub(crate) const UID: u32 = 65534;
const DEADLINE: Duration = Duration::from_secs(60);
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A containerizer with its directories.
pub(crate) struct Host {
    directory: PathBuf,
    config: Config,
    containerizer: Option<Containerizer>,
    notes: Vec<EnforcementNote>,
}

impl Host {
    /// None, with the reason said, where the host cannot.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Host::below("/tmp", test)
    }

    pub(crate) fn below(parent: &str, test: &str) -> Option<Self> {
        Host::configured(parent, test, |_| {})
    }

    pub(crate) fn with_policy(parent: &str, test: &str, policy: Policy) -> Option<Self> {
        Host::configured(parent, test, |config| config.policy = policy)
    }

    pub(crate) fn configured(parent: &str, test: &str, change: impl FnOnce(&mut Config)) -> Option<Self> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("proffer-test-{}-{count}", std::process::id());
        let directory = Path::new(parent).join(&name);
        let mut config = Config {
            runtime_dir: directory.join("runtime"),
            launcher_dir: directory.join("launcher"),
            cgroup_root: format!("{name}/agent"),
            isolation: ISOLATORS.iter().map(|name| (*name).to_owned()).collect(),
            pids_max_default: 1000,
            policy: Policy::default(),
            logs: LogLimits {
                bytes_max: 100 << 20,
                files: 5,
            },
        };
        change(&mut config);
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: {test}: not root");
            return None;
        }
        fs::create_dir_all(&directory).expect("create the test's directory");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("open it to all");
        match Containerizer::open(config.clone()) {
            Ok((containerizer, notes)) => Some(Host {
                directory,
                config,
                containerizer: Some(containerizer),
                notes,
            }),
            Err(Error::Unenforceable { isolator, reason }) => {
                eprintln!("skipped: {test}: {isolator}: {reason}");
                let _ = fs::remove_dir_all(&directory);
                None
            }
            Err(error) => panic!("open: {error:?}"),
        }
    }

    pub(crate) fn containerizer(&self) -> &Containerizer {
        self.containerizer.as_ref().expect("open")
    }

    /// Whether the host enforces what an optional isolator does; says why not.
    pub(crate) fn enforces(&self, isolator: &str) -> bool {
        let note = self
            .notes
            .iter()
            .find(|note| note.isolator == isolator)
            .expect("a note");
        if !note.enforced {
            eprintln!("skipped: {isolator}: {}", note.text);
        }
        note.enforced
    }

    /// What was said of each isolator at the start.
    pub(crate) fn notes(&self) -> &[EnforcementNote] {
        &self.notes
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// As if the agent had died.
    pub(crate) fn close(&mut self) {
        self.containerizer = None;
    }

    pub(crate) fn reopen(&mut self) {
        self.containerizer = Some(Containerizer::open(self.config.clone()).expect("open again").0);
    }

    pub(crate) fn sandbox(&self, id: &str) -> PathBuf {
        self.directory.join("sandboxes").join(id)
    }

    pub(crate) fn records(&self, id: &str) -> PathBuf {
        self.config.runtime_dir.join("containers").join(id)
    }

    /// A program with its sandbox.
    pub(crate) fn program(&self, id: &str, argv: &[&str]) -> ContainerSpec {
        let sandbox = self.sandbox(id);
        fs::create_dir_all(&sandbox).expect("create the sandbox");
        chown(&sandbox, Some(UID), Some(UID)).expect("own the sandbox");
        ContainerSpec {
            id: ContainerId(id.to_owned()),
            argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
            environment: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())],
            user: User {
                uid: UID,
                gid: UID,
                groups: vec![UID],
            },
            root_allowed: false,
            sandbox,
            shared: None,
            resources: Resources {
                cpus_thousandths: 1000,
                memory_bytes: 256 << 20,
                memory_limit: Limit::Requested,
                ..Resources::default()
            },
            confinement: Confinement::default(),
            input: ContainerInput::Empty,
            volumes: Vec::new(),
        }
    }

    pub(crate) fn shell(&self, id: &str, script: &str) -> ContainerSpec {
        self.program(id, &["/bin/sh", "-c", script])
    }

    /// The words of a script that do some work of [`payload`], in the sandbox of that container.
    pub(crate) fn payload(&self, id: &str, work: &str) -> String {
        let binary = self.directory.join("payload");
        if !binary.exists() {
            fs::copy(std::env::current_exe().expect("this binary"), &binary).expect("copy this binary");
        }
        let sandbox = self.sandbox(id);
        fs::create_dir_all(&sandbox).expect("create the sandbox");
        if !sandbox.join("payload").exists() {
            fs::hard_link(&binary, sandbox.join("payload")).expect("link this binary");
        }
        format!(
            "{}='{work}' ./payload payload::payload --exact --nocapture",
            payload::VARIABLE
        )
    }

    pub(crate) async fn launch(&self, spec: &ContainerSpec) -> u32 {
        self.containerizer()
            .launch(spec)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
            .pid
    }

    /// Waits for its end with a deadline.
    pub(crate) async fn wait(&self, id: &str) -> Exit {
        let id = ContainerId(id.to_owned());
        let exit = tokio::time::timeout(DEADLINE, self.containerizer().wait(&id)).await;
        exit.expect("the container ends").expect("the exit is known")
    }

    pub(crate) async fn run(&self, spec: &ContainerSpec) -> Exit {
        self.launch(spec).await;
        self.wait(spec.id.as_str()).await
    }

    pub(crate) fn output(&self, id: &str) -> String {
        let read = |name| fs::read_to_string(self.sandbox(id).join(name)).unwrap_or_default();
        read("stdout") + &read("stderr")
    }

    /// Waits until the output holds a text.
    pub(crate) async fn output_with(&self, id: &str, text: &str) -> String {
        until(|| self.output(id).contains(text).then(|| self.output(id)), text).await
    }

    /// Forgets every container, and proves that nothing of ours is left.
    pub(crate) async fn finish(mut self) {
        for id in self.containerizer().containers() {
            self.wait(id.as_str()).await;
            self.containerizer().forget(&id).await.expect("forget");
        }
        for entry in fs::read_dir(self.config.runtime_dir.join("containers")).expect("records") {
            let name = entry.expect("a directory").file_name();
            assert!(name.to_string_lossy().starts_with(".spare-"), "{name:?} is left");
        }
        self.close();
        for path in self.cgroup_roots() {
            assert!(!path.exists(), "{} is left", path.display());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(
            !mounts.contains(&self.directory.display().to_string()),
            "a mount is left"
        );
    }

    /// The processes of our launcher's binary: itself and the supervisors.
    pub(crate) fn launchers(&self) -> Vec<u32> {
        let ours = |pid: &u32| {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path.starts_with(&self.directory)) && lives(*pid)
        };
        let processes = fs::read_dir("/proc").expect("processes").flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(ours).collect()
    }

    /// Our own directory in every hierarchy.
    pub(crate) fn cgroup_roots(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let mounted = cgroups::parse_mounts(&mounts);
        let mounts = mounted.v1.into_iter().map(|(_, path)| path).chain(mounted.v2);
        mounts.map(|path| path.join(&self.config.cgroup_root)).collect()
    }
}

impl Drop for Host {
    /// A test that failed leaves nothing running either.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.close();
            let config = self.config.clone();
            let clean = move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                let (containerizer, _) = Containerizer::open(config).expect("open to clean up");
                runtime.block_on(containerizer.recover(&[])).expect("clean up");
            };
            let _ = std::thread::spawn(clean).join();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Asks again until there is an answer.
pub(crate) async fn until<T>(mut ask: impl FnMut() -> Option<T>, what: &str) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a test where the host can.
pub(crate) fn on_host<F: Future<Output = ()>>(test: &str, run: impl FnOnce(Host) -> F) {
    if let Some(host) = Host::new(test) {
        block_on(run(host));
    }
}

pub(crate) fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future);
}

/// Whether a process lives; a zombie does not.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
