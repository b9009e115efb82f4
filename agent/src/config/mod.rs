//! What an operator says, turned once into a validated [`Config`].
//!
//! Flag > environment (`PROFFER_AGENT_…`) > default. No other part of the agent reads flags or the environment.

mod detect;
mod devices;
mod fetch;
mod ports;
mod text;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proffer_proto::v1::capability_info::Capability;
use proffer_proto::{domain, v1};

use crate::containerizer::{CAPABILITY_ENUM_BASE, DeviceUnit, ISOLATORS, LogLimits, Policy};
use crate::core::Timeouts;
use crate::disk::{BACK_ENDS, Choice};

pub use fetch::{Fetch, FetchArgs};

/// The isolator that is not the containerizer's.
const DISK: &str = "disk";

/// The flags of the agent.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The masters, `HOST:PORT[,HOST:PORT…]`; the agent finds the leading one among them.
    #[arg(
        long,
        env = "PROFFER_AGENT_MASTER",
        value_delimiter = ',',
        required = true,
        value_name = "HOST:PORT"
    )]
    pub master: Vec<String>,
    /// Where to listen for the operator API; port 0 lets the kernel choose.
    #[arg(
        long,
        env = "PROFFER_AGENT_LISTEN",
        default_value = "127.0.0.1:5051",
        value_name = "IP:PORT"
    )]
    pub listen: SocketAddr,
    /// The `HOST:PORT` at which others reach this agent, where it is not the listening address.
    #[arg(long, env = "PROFFER_AGENT_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// The host name in offers; by default the advertised or listening address, or the system's host name.
    #[arg(long, env = "PROFFER_AGENT_HOSTNAME")]
    pub hostname: Option<String>,
    /// Where the agent keeps what must survive it: its journal and the sandboxes.
    #[arg(
        long,
        env = "PROFFER_AGENT_WORK_DIR",
        default_value = "/var/lib/proffer/agent",
        value_name = "DIR"
    )]
    pub work_dir: PathBuf,
    /// Where the containers' state lives, which need not survive a reboot; by default below /run/proffer, by the work dir.
    #[arg(long, env = "PROFFER_AGENT_RUNTIME_DIR", value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// The resources to offer, such as `cpus:4;mem:8192;disk:10240;ports:[31000-31999]`; mem and disk in MiB. Those of cpus,
    /// mem, disk and ports that are not named are detected.
    #[arg(long, env = "PROFFER_AGENT_RESOURCES", default_value = "")]
    pub resources: String,
    /// Facts for frameworks to place by, such as `rack:r1;zone:a`.
    #[arg(long, env = "PROFFER_AGENT_ATTRIBUTES", default_value = "")]
    pub attributes: String,
    /// The region and the zone that this agent is in, for frameworks that spread over them.
    #[arg(long, env = "PROFFER_AGENT_DOMAIN", value_name = "REGION/ZONE")]
    pub domain: Option<String>,
    /// The isolators to use, comma-separated; by default all that this host has. One that is named and cannot be enforced is an
    /// error.
    #[arg(long, env = "PROFFER_AGENT_ISOLATION", value_delimiter = ',', value_name = "NAME")]
    pub isolation: Vec<String>,
    /// What keeps a sandbox within the task's `disk`: auto (the best that the file system of the work dir allows), xfs, ext4,
    /// btrfs, image, or du.
    #[arg(
        long,
        env = "PROFFER_AGENT_DISK_ISOLATION",
        default_value = "auto",
        value_name = "NAME"
    )]
    pub disk_isolation: String,
    /// The agent's own control group below each hierarchy; by default `proffer/agent-…`, by the work dir.
    #[arg(long, env = "PROFFER_AGENT_CGROUP_ROOT", value_name = "PATH")]
    pub cgroup_root: Option<String>,
    /// Let tasks run as root.
    #[arg(long, env = "PROFFER_AGENT_ALLOW_ROOT_TASKS")]
    pub allow_root_tasks: bool,
    /// The Linux capabilities that tasks may ask for, such as `NET_RAW,SYS_PTRACE`; none by default.
    #[arg(
        long,
        env = "PROFFER_AGENT_ALLOW_CAPABILITIES",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub allow_capabilities: Vec<String>,
    /// Let tasks ask to have their system calls unfiltered.
    #[arg(long, env = "PROFFER_AGENT_ALLOW_UNCONFINED_TASKS")]
    pub allow_unconfined_tasks: bool,
    /// Directories of the host in which tasks may write besides their sandbox, as far as permissions let them.
    #[arg(long, env = "PROFFER_AGENT_WRITABLE", value_delimiter = ',', value_name = "DIR")]
    pub writable: Vec<PathBuf>,
    /// Directories of the host that tasks may mount as volumes, with all below them, to read and to write as far as permissions let
    /// them; `/` for all.
    #[arg(long, env = "PROFFER_AGENT_HOST_VOLUMES", value_delimiter = ',', value_name = "DIR")]
    pub host_volumes: Vec<PathBuf>,
    /// Devices that are given to one task at a time: `NAME=/dev/NODE`, with further nodes of the same device after a `+`. NAME is a
    /// resource, which counts them. Where `gpus` are offered and none is named, NVIDIA's are found.
    #[arg(long, env = "PROFFER_AGENT_DEVICES", value_delimiter = ',', value_name = "NAME=NODE")]
    pub devices: Vec<String>,
    /// How much each task may read from and write to a disk in a second: `/dev/DISK:rbps=BYTES:wbps=BYTES:riops=NUMBER:wiops=NUMBER`.
    #[arg(long, env = "PROFFER_AGENT_IO_MAX", value_delimiter = ',', value_name = "LIMITS")]
    pub io_max: Vec<String>,
    /// Who runs a task whose user is empty or does not exist on this host; without it such a task fails.
    #[arg(long, env = "PROFFER_AGENT_DEFAULT_USER", value_name = "USER")]
    pub default_user: Option<String>,
    /// How long a killed task may take to end by itself, in seconds, unless its kill policy says otherwise.
    #[arg(
        long,
        visible_alias = "executor-shutdown-grace",
        env = "PROFFER_AGENT_KILL_GRACE",
        default_value_t = 5.0,
        value_name = "SECONDS"
    )]
    pub kill_grace: f64,
    /// How long an executor may take to subscribe after it was started, in seconds.
    #[arg(
        long,
        env = "PROFFER_AGENT_EXECUTOR_REGISTRATION_TIMEOUT",
        default_value_t = 60.0,
        value_name = "SECONDS"
    )]
    pub executor_registration_timeout: f64,
    /// How long an executor may take to subscribe again after the agent was restarted, in seconds.
    #[arg(
        long,
        env = "PROFFER_AGENT_EXECUTOR_REREGISTRATION_TIMEOUT",
        default_value_t = 15.0,
        value_name = "SECONDS"
    )]
    pub executor_reregistration_timeout: f64,
    /// How long executors try to reach an agent that is away before they give up, in seconds.
    #[arg(
        long,
        env = "PROFFER_AGENT_RECOVERY_TIMEOUT",
        default_value_t = 900.0,
        value_name = "SECONDS"
    )]
    pub recovery_timeout: f64,
    /// How long the sandbox of a task that ended is kept, in seconds.
    #[arg(
        long,
        env = "PROFFER_AGENT_GC_DELAY",
        default_value_t = 604_800.0,
        value_name = "SECONDS"
    )]
    pub gc_delay: f64,
    /// Which part of the disk to keep free: the fuller the disk is, the sooner sandboxes are removed, and after five minutes
    /// when no more than this is left.
    #[arg(long, env = "PROFFER_AGENT_GC_HEADROOM", default_value_t = 0.1, value_name = "SHARE")]
    pub gc_headroom: f64,
    /// How much disk the stdout, and the stderr, of a task may take; beyond that the oldest output is removed.
    #[arg(long, env = "PROFFER_AGENT_MAX_LOG_BYTES", default_value_t = 100 << 20, value_name = "BYTES")]
    pub max_log_bytes: u64,
    /// Into how many files stdout, and stderr, are divided: `stdout`, `stdout.1` and so on, the oldest last.
    #[arg(long, env = "PROFFER_AGENT_LOG_FILES", default_value_t = 5, value_name = "NUMBER")]
    pub log_files: u32,
    /// How artifacts are fetched.
    #[command(flatten)]
    pub fetch: FetchArgs,
    /// How many processes and threads a task may have.
    #[arg(long, env = "PROFFER_AGENT_PIDS_MAX", default_value_t = 4096, value_name = "NUMBER")]
    pub pids_max: u64,
    /// On SIGTERM and SIGINT end all tasks and leave the cluster, instead of leaving the tasks to the next agent process.
    /// SIGUSR1 does so in any case.
    #[arg(long, env = "PROFFER_AGENT_STOP_TASKS_ON_EXIT")]
    pub stop_tasks_on_exit: bool,
    /// Where to write the address that the agent listens on, once it does.
    #[arg(long, env = "PROFFER_AGENT_ADDRESS_FILE", value_name = "FILE")]
    pub address_file: Option<PathBuf>,
    /// The file with the token that callers need for what goes on inside containers (`proffer exec`, `proffer attach`), made where
    /// there is none; by default `token` in the work dir.
    #[arg(long, env = "PROFFER_AGENT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or directives such as `info,proffer_agent=debug`.
    #[arg(long, env = "PROFFER_AGENT_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// How to log.
    #[arg(long, env = "PROFFER_AGENT_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The validated settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `HOST:PORT` of the masters.
    pub masters: Vec<String>,
    /// Where the agent listens.
    pub listen: SocketAddr,
    /// The host name in offers.
    pub hostname: String,
    /// The port in offers, where it is not the one that is listened on.
    pub advertise_port: Option<u16>,
    /// Absolute.
    pub work_dir: PathBuf,
    /// Absolute.
    pub runtime_dir: PathBuf,
    /// Without leading or trailing slash.
    pub cgroup_root: String,
    /// The agent's total.
    pub resources: Vec<v1::Resource>,
    /// Its attributes.
    pub attributes: Vec<v1::Attribute>,
    /// Its fault domain.
    pub domain: Option<v1::DomainInfo>,
    /// The containerizer's isolators in use.
    pub isolation: Vec<String>,
    /// What keeps a sandbox within the task's `disk`.
    pub disk: Choice,
    /// Whether tasks may run as root.
    pub allow_root_tasks: bool,
    /// What else tasks may do.
    pub policy: Policy,
    /// Who runs tasks whose user does not exist.
    pub default_user: Option<String>,
    /// See [`Args::kill_grace`].
    pub kill_grace: Duration,
    /// How long executors may take.
    pub executors: Timeouts,
    /// See [`Args::gc_delay`].
    pub gc_delay: Duration,
    /// See [`Args::gc_headroom`].
    pub gc_headroom: f64,
    /// See [`Args::max_log_bytes`] and [`Args::log_files`].
    pub logs: LogLimits,
    /// How artifacts are fetched.
    pub fetch: Fetch,
    /// See [`Args::pids_max`].
    pub pids_max: u64,
    /// See [`Args::stop_tasks_on_exit`].
    pub stop_tasks_on_exit: bool,
    /// See [`Args::address_file`].
    pub address_file: Option<PathBuf>,
    /// See [`Args::token_file`]; absolute.
    pub token_file: PathBuf,
}

/// A flag that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--{flag}: {problem}")]
pub struct Error {
    flag: &'static str,
    problem: String,
}

impl Error {
    pub(crate) fn new(flag: &'static str, problem: impl Into<String>) -> Self {
        Self {
            flag,
            problem: problem.into(),
        }
    }
}

impl Config {
    /// Validates the flags and detects what they leave open. Makes the work directory.
    ///
    /// # Errors
    /// A flag that cannot be used, with what would be accepted.
    pub fn resolve(args: Args) -> Result<Self, Error> {
        let masters = args
            .master
            .iter()
            .map(|master| host_port("master", master))
            .collect::<Result<_, _>>()?;
        let advertise = match &args.advertise {
            Some(text) => {
                host_port("advertise", text)?;
                text.rsplit_once(':')
                    .map(|(host, port)| (host.to_owned(), port.parse().unwrap_or(0)))
            }
            None => None,
        };
        let listen_ip = args.listen.ip();
        let hostname = args
            .hostname
            .or_else(|| advertise.as_ref().map(|(host, _)| host.clone()));
        let hostname = hostname.unwrap_or_else(|| default_hostname(listen_ip));
        let work_dir = std::fs::create_dir_all(&args.work_dir)
            .and_then(|()| args.work_dir.canonicalize())
            .map_err(|error| Error::new("work-dir", format!("cannot make {}: {error}", args.work_dir.display())))?;
        let named = !args.isolation.is_empty();
        let (isolation, disk) = isolation(args.isolation, &args.disk_isolation)?;
        let mut resources = text::resources(&args.resources)?;
        detect::fill(&mut resources, &work_dir)?;
        let policy = Policy {
            named,
            capabilities: capabilities(&args.allow_capabilities)?,
            unconfined: args.allow_unconfined_tasks,
            writable: present("writable", args.writable)?,
            host_volumes: present("host-volumes", args.host_volumes)?,
            devices: devices::units(&args.devices, &mut resources, Path::new("/dev"))?,
            io_max: devices::io_max(&args.io_max)?,
        };
        if isolation.iter().any(|name| name == "ports") {
            ports::check(&resources)?;
        }
        let token_file = args.token_file.unwrap_or_else(|| work_dir.join("token"));
        let instance = format!("agent-{:08x}", crc32c::crc32c(work_dir.as_os_str().as_encoded_bytes()));
        let runtime_dir = args
            .runtime_dir
            .unwrap_or_else(|| PathBuf::from("/run/proffer").join(&instance));
        Ok(Self {
            masters,
            listen: args.listen,
            hostname,
            advertise_port: advertise.map(|(_, port)| port),
            runtime_dir: std::path::absolute(&runtime_dir)
                .map_err(|error| Error::new("runtime-dir", error.to_string()))?,
            cgroup_root: cgroup_root(args.cgroup_root.unwrap_or_else(|| format!("proffer/{instance}")))?,
            resources,
            attributes: text::attributes(&args.attributes)?,
            domain: domain(args.domain.as_deref())?,
            isolation,
            disk,
            allow_root_tasks: args.allow_root_tasks,
            policy,
            default_user: args.default_user,
            kill_grace: seconds("kill-grace", args.kill_grace)?,
            executors: Timeouts {
                registration: seconds("executor-registration-timeout", args.executor_registration_timeout)?,
                reregistration: seconds("executor-reregistration-timeout", args.executor_reregistration_timeout)?,
                recovery: seconds("recovery-timeout", args.recovery_timeout)?,
                shutdown_grace: seconds("kill-grace", args.kill_grace)?,
            },
            gc_delay: seconds("gc-delay", args.gc_delay)?,
            gc_headroom: share("gc-headroom", args.gc_headroom)?,
            logs: log_limits(args.max_log_bytes, args.log_files)?,
            fetch: Fetch::resolve(args.fetch)?,
            pids_max: at_least("pids-max", args.pids_max, 1)?,
            stop_tasks_on_exit: args.stop_tasks_on_exit,
            address_file: args.address_file,
            token_file: std::path::absolute(&token_file)
                .map_err(|error| Error::new("token-file", error.to_string()))?,
            work_dir,
        })
    }

    /// The effective settings as names and values.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags = vec![
            ("master", self.masters.join(",")),
            ("listen", self.listen.to_string()),
            ("hostname", self.hostname.clone()),
            ("work-dir", self.work_dir.display().to_string()),
            ("runtime-dir", self.runtime_dir.display().to_string()),
            ("cgroup-root", self.cgroup_root.clone()),
            ("resources", text::show_resources(&self.resources)),
            ("attributes", text::show_attributes(&self.attributes)),
            ("domain", self.domain.as_ref().map(domain::show).unwrap_or_default()),
            ("isolation", self.isolation.join(",")),
            ("disk-isolation", self.disk.to_string()),
            ("allow-root-tasks", self.allow_root_tasks.to_string()),
            ("allow-capabilities", Policy::names(self.policy.capabilities)),
            ("allow-unconfined-tasks", self.policy.unconfined.to_string()),
            ("writable", paths(&self.policy.writable)),
            ("host-volumes", paths(&self.policy.host_volumes)),
            ("devices", list(&self.policy.devices)),
            ("io-max", self.policy.io_max.len().to_string()),
            ("default-user", self.default_user.clone().unwrap_or_default()),
            ("kill-grace", self.kill_grace.as_secs_f64().to_string()),
            (
                "executor-registration-timeout",
                self.executors.registration.as_secs_f64().to_string(),
            ),
            (
                "executor-reregistration-timeout",
                self.executors.reregistration.as_secs_f64().to_string(),
            ),
            ("recovery-timeout", self.executors.recovery.as_secs_f64().to_string()),
            ("gc-delay", self.gc_delay.as_secs_f64().to_string()),
            ("gc-headroom", self.gc_headroom.to_string()),
            ("max-log-bytes", self.logs.bytes_max.to_string()),
            ("log-files", self.logs.files.to_string()),
            ("pids-max", self.pids_max.to_string()),
            ("token-file", self.token_file.display().to_string()),
            ("stop-tasks-on-exit", self.stop_tasks_on_exit.to_string()),
        ];
        flags.extend(self.fetch.flags());
        flags
    }
}

fn default_hostname(listen: IpAddr) -> String {
    if listen.is_unspecified() {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    } else {
        listen.to_string()
    }
}

fn host_port(flag: &'static str, text: &str) -> Result<String, Error> {
    let bad = || Error::new(flag, format!("`{text}` is not HOST:PORT with a port from 1 to 65535"));
    let (host, port) = text.trim().rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    let plain = !host.is_empty() && !host.contains(['/', ' ', '@']);
    if plain && port > 0 {
        Ok(format!("{host}:{port}"))
    } else {
        Err(bad())
    }
}

/// The containerizer's isolators, and what keeps sandboxes within their limits, which is the agent's own.
fn isolation(mut names: Vec<String>, disk: &str) -> Result<(Vec<String>, Choice), Error> {
    let choice = Choice::parse(disk).ok_or_else(|| {
        let problem = format!("`{disk}` is neither auto nor one of {}", BACK_ENDS.join(", "));
        Error::new("disk-isolation", problem)
    })?;
    if names.is_empty() {
        return Ok((ISOLATORS.iter().map(|name| (*name).to_owned()).collect(), choice));
    }
    let known = |name: &String| name == DISK || ISOLATORS.contains(&name.as_str());
    if let Some(name) = names.iter().find(|name| !known(name)) {
        let problem = format!("`{name}` is none of {}, {DISK}", ISOLATORS.join(", "));
        return Err(Error::new("isolation", problem));
    }
    let choice = if names.iter().any(|name| name == DISK) {
        choice
    } else {
        Choice::None
    };
    names.retain(|name| name != DISK);
    Ok((names, choice))
}

fn capabilities(names: &[String]) -> Result<u64, Error> {
    let mut capabilities = 0;
    for name in names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
        let plain = name.trim_start_matches("CAP_").to_ascii_uppercase();
        let number = match Capability::from_str_name(&plain) {
            Some(capability) => u32::try_from(i32::from(capability) - CAPABILITY_ENUM_BASE).ok(),
            None => None,
        };
        let number = number.ok_or_else(|| {
            let problem = format!("`{name}` is no capability; names such as NET_RAW are accepted");
            Error::new("allow-capabilities", problem)
        })?;
        capabilities |= 1 << number;
    }
    Ok(capabilities)
}

fn present(flag: &'static str, paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, Error> {
    let mut resolved = Vec::new();
    for path in paths.into_iter().filter(|path| !path.as_os_str().is_empty()) {
        if !path.is_absolute() || !path.exists() {
            let problem = format!("{} must be an absolute path to what exists", path.display());
            return Err(Error::new(flag, problem));
        }
        resolved.push(path);
    }
    Ok(resolved)
}

fn list(units: &[DeviceUnit]) -> String {
    let shown: Vec<_> = units.iter().map(DeviceUnit::to_string).collect();
    shown.join(",")
}

fn paths(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(",")
}

fn cgroup_root(path: String) -> Result<String, Error> {
    let path = path.trim_matches('/').to_owned();
    let bad = path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | ".."));
    if bad {
        return Err(Error::new(
            "cgroup-root",
            "must be a path below the root of the hierarchy, such as proffer/agent",
        ));
    }
    Ok(path)
}

fn domain(text: Option<&str>) -> Result<Option<v1::DomainInfo>, Error> {
    let parsed = text.map(proffer_proto::domain::parse).transpose();
    parsed.map_err(|rejection| {
        Error::new(
            "domain",
            format!("{}; {} is accepted", rejection.problem, rejection.accepted),
        )
    })
}

fn seconds(flag: &'static str, value: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| Error::new(flag, format!("`{value}` is not a number of seconds, zero or more")))
}

fn share(flag: &'static str, value: f64) -> Result<f64, Error> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(Error::new(flag, format!("`{value}` is not a number from 0 to 1")))
    }
}

fn log_limits(bytes_max: u64, files: u32) -> Result<LogLimits, Error> {
    if !(1..=1000).contains(&files) {
        return Err(Error::new("log-files", format!("{files} is not from 1 to 1000")));
    }
    let bytes_max = at_least("max-log-bytes", bytes_max, 4096 * u64::from(files))?;
    Ok(LogLimits { bytes_max, files })
}

fn at_least(flag: &'static str, value: u64, minimum: u64) -> Result<u64, Error> {
    if value < minimum {
        return Err(Error::new(
            flag,
            format!("{value} is too small: {minimum} or more is accepted"),
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn resolve(arguments: &[&str]) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let fixed = [
            "agent",
            "--master",
            "127.0.0.1:5050",
            "--work-dir",
            directory.path().to_str().unwrap(),
        ];
        let command = Command::try_parse_from(fixed.iter().chain(arguments)).map_err(|error| error.to_string())?;
        Config::resolve(command.args).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_open_is_detected() {
        let config = resolve(&["--resources", "cpus:0.5;ports:[31000-31009]"]).unwrap();
        let shown = text::show_resources(&config.resources);
        assert!(shown.starts_with("cpus:0.5;ports:[31000-31009];mem:"), "{shown}");
        assert!(shown.contains(";disk:"), "{shown}");
        assert_eq!(config.hostname, "127.0.0.1");
        assert_eq!(config.kill_grace, Duration::from_secs(5));
        let config = resolve(&["--allow-capabilities", "NET_RAW,cap_sys_ptrace,CAP_CHOWN"]);
        assert!(config.is_err(), "lower-case prefixes are not names");
        let config = resolve(&["--allow-capabilities", "NET_RAW,CAP_CHOWN"]).unwrap();
        assert_eq!(config.policy.capabilities, 1 << 13 | 1);
    }

    #[test]
    fn a_bad_flag_is_named_with_what_would_be_accepted() {
        for (arguments, flag) in [
            (["--resources", "cpus:-1"], "--resources"),
            (["--resources", "ports:[9-3]"], "--resources"),
            (["--kill-grace", "NaN"], "--kill-grace"),
            (["--isolation", "magic"], "--isolation"),
            (["--disk-isolation", "magic"], "--disk-isolation"),
            (["--advertise", "nowhere"], "--advertise"),
            (["--cgroup-root", "../x"], "--cgroup-root"),
            (["--max-log-bytes", "1"], "--max-log-bytes"),
            (["--allow-capabilities", "FLY"], "--allow-capabilities"),
            (["--writable", "somewhere"], "--writable"),
            (["--host-volumes", "/no/such"], "--host-volumes"),
            (["--log-files", "0"], "--log-files"),
            (["--gc-headroom", "1.1"], "--gc-headroom"),
            (["--fetch-ca-file", "/no/such/file"], "--fetch-ca-file"),
        ] {
            let error = resolve(&arguments).unwrap_err();
            assert!(error.starts_with(flag), "{arguments:?}: {error}");
        }
    }
}
