//! A containerizer without an agent around it.

use std::path::PathBuf;

use proffer_agent::cgroups;
use proffer_agent::containerizer::{
    Config, Confinement, ContainerId, ContainerSpec, Containerizer, LogLimits, Policy, Resources, User,
};

/// `nobody`.
const UID: u32 = 65_534;

pub(crate) struct Host {
    pub(crate) containerizer: Containerizer,
    directory: PathBuf,
    cgroup_root: String,
}

impl Host {
    pub(crate) fn open(name: &str, isolation: &[&str]) -> anyhow::Result<Self> {
        let name = format!("proffer-bench-{}-{name}", std::process::id());
        let directory = PathBuf::from("/var/tmp").join(&name);
        let config = Config {
            runtime_dir: directory.join("runtime"),
            launcher_dir: directory.join("launcher"),
            cgroup_root: name.clone(),
            isolation: isolation.iter().map(|name| (*name).to_owned()).collect(),
            pids_max_default: 100,
            policy: Policy::default(),
            logs: LogLimits {
                bytes_max: 1 << 20,
                files: 2,
            },
        };
        std::fs::create_dir_all(&directory)?;
        std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let (containerizer, notes) = Containerizer::open(config)?;
        for note in notes.iter().filter(|note| !note.enforced) {
            eprintln!("{}: {}", note.isolator, note.text);
        }
        Ok(Host {
            containerizer,
            directory,
            cgroup_root: name,
        })
    }

    /// Gives all its containers together as much weight as there is, among whatever else wants a processor.
    pub(crate) fn outweigh_others(&self) -> anyhow::Result<()> {
        let mounted = cgroups::parse_mounts(&std::fs::read_to_string("/proc/self/mountinfo")?);
        let mounts = mounted.v1.into_iter().map(|(_, path)| path).chain(mounted.v2);
        for mount in mounts {
            let own = mount.join(&self.cgroup_root);
            for (file, most) in [("cpu.shares", "262144"), ("cpu.weight", "10000")] {
                if own.join(file).exists() {
                    std::fs::write(own.join(file), most)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn spec(&self, id: &str, argv: &[&str], cpus_thousandths: u64) -> ContainerSpec {
        // One sandbox for all: what is measured is not how a directory is made.
        let sandbox = self.directory.join("sandbox");
        if !sandbox.exists() {
            std::fs::create_dir(&sandbox).expect("make the sandbox");
            std::os::unix::fs::chown(&sandbox, Some(UID), Some(UID)).expect("own the sandbox");
        }
        ContainerSpec {
            id: ContainerId(id.to_owned()),
            argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            user: User {
                uid: UID,
                gid: UID,
                groups: Vec::new(),
            },
            root_allowed: true,
            sandbox,
            resources: Resources {
                cpus_thousandths,
                memory_bytes: 32 << 20,
                ..Resources::default()
            },
            confinement: Confinement::default(),
            input: Default::default(),
            shared: None,
            volumes: Vec::new(),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
