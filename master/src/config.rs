//! Settings: from flags, the environment and a file to one validated [`Config`].
//!
//! A flag comes before its environment variable (`PROFFER_MASTER_` and the flag's name), that before the file named by
//! `--config`, that before the default. The file has lines of `name = value`, with the flags' names without dashes in
//! front, and comments from `#`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use proffer_master_core::LEVEL;
use proffer_master_core::allocator::{AgentOrder, Policy};
use proffer_proto::domain;
use proffer_proto::v1::DomainInfo;

use crate::outbox::Bounds;

/// The flags of a master.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// A file of settings, one `name = value` a line
    #[arg(long, env = "PROFFER_MASTER_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Where to listen; port 0 lets the kernel choose [default: 127.0.0.1:5050]
    #[arg(long, env = "PROFFER_MASTER_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// Where others reach this master, if not where it listens
    #[arg(long, env = "PROFFER_MASTER_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Where this master keeps what it must not forget [default: /var/lib/proffer/master]
    #[arg(long, env = "PROFFER_MASTER_WORK_DIR", value_name = "PATH")]
    pub work_dir: Option<PathBuf>,
    /// Forms a group with these masters, itself among them; the same list at each of them. Once it is formed, only where to look
    #[arg(long, env = "PROFFER_MASTER_PEERS", value_name = "HOST:PORT,...")]
    pub peers: Option<String>,
    /// Joins the group of these masters as a learner. Once it has joined, only where to look
    #[arg(long, env = "PROFFER_MASTER_JOIN", value_name = "HOST:PORT,...")]
    pub join: Option<String>,
    /// Takes part in no newer format of the registry than this [default: the newest that this version knows]
    #[arg(long, env = "PROFFER_MASTER_COMPATIBILITY", value_name = "LEVEL")]
    pub compatibility: Option<String>,
    /// The cluster's name, for people [default: proffer]
    #[arg(long, env = "PROFFER_MASTER_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,
    /// The region and the zone that this master is in; agents in other regions are only offered to frameworks that ask for them
    #[arg(long, env = "PROFFER_MASTER_DOMAIN", value_name = "REGION/ZONE")]
    pub domain: Option<String>,
    /// Offers that are not answered for so long are rescinded; `none` for never [default: 5min]
    #[arg(long, env = "PROFFER_MASTER_OFFER_TIMEOUT", value_name = "DURATION")]
    pub offer_timeout: Option<String>,
    /// Offers that are not answered for so long are rescinded when another framework waits for them; `none` for not before
    /// the timeout [default: 1s]
    #[arg(long, env = "PROFFER_MASTER_OFFER_PATIENCE", value_name = "DURATION")]
    pub offer_patience: Option<String>,
    /// How long a gang may wait for its last members, and hold what it has of them [default: 1h]
    #[arg(long, env = "PROFFER_MASTER_GANG_WAIT_MAX", value_name = "DURATION")]
    pub gang_wait_max: Option<String>,
    /// What is kept for somebody is lent to others as revocable when nobody who refused it may want it within so long
    /// [default: 1min]
    #[arg(long, env = "PROFFER_MASTER_IDLE_AFTER", value_name = "DURATION")]
    pub idle_after: Option<String>,
    /// Revocable tasks whose resources are wanted back are killed so long after their framework was asked to end them [default: 10s]
    #[arg(long, env = "PROFFER_MASTER_REVOCABLE_GRACE", value_name = "DURATION")]
    pub revocable_grace: Option<String>,
    /// Who is served first: `drf` for weighted fair shares, `priority` for the role with the largest weight [default: drf]
    #[arg(long, env = "PROFFER_MASTER_ALLOCATOR", value_name = "POLICY")]
    pub allocator: Option<String>,
    /// Which agents are given away first: `slot` for the longest known, `pack` for the fullest, `spread` for the emptiest [default: slot]
    #[arg(long, env = "PROFFER_MASTER_AGENT_ORDER", value_name = "ORDER")]
    pub agent_order: Option<String>,
    /// How often agents are pinged [default: 15s]
    #[arg(long, env = "PROFFER_MASTER_AGENT_PING_INTERVAL", value_name = "DURATION")]
    pub agent_ping_interval: Option<String>,
    /// An agent that misses so many pings in a row is unreachable [default: 5]
    #[arg(long, env = "PROFFER_MASTER_AGENT_PING_MISSES", value_name = "COUNT")]
    pub agent_ping_misses: Option<String>,
    /// After an election, how long agents may take to come back [default: 10min]
    #[arg(long, env = "PROFFER_MASTER_AGENT_REREGISTER_TIMEOUT", value_name = "DURATION")]
    pub agent_reregister_timeout: Option<String>,
    /// After an election, how long frameworks may take to come back [default: 1min]
    #[arg(long, env = "PROFFER_MASTER_FRAMEWORK_RESUBSCRIBE_TIMEOUT", value_name = "DURATION")]
    pub framework_resubscribe_timeout: Option<String>,
    /// After so many changes of the registry a snapshot is taken [default: 100000]
    #[arg(long, env = "PROFFER_MASTER_SNAPSHOT_ENTRIES", value_name = "COUNT")]
    pub snapshot_entries: Option<String>,
    /// How much the frameworks may keep in the replicated state together [default: 128MiB]
    #[arg(long, env = "PROFFER_MASTER_STATE_BYTES_MAX", value_name = "BYTES")]
    pub state_bytes_max: Option<String>,
    /// What is logged: error, warn, info, debug or trace, or directives such as `info,raft=debug` [default: info]
    #[arg(long, env = "PROFFER_MASTER_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How it is logged: text or json [default: text]
    #[arg(long, env = "PROFFER_MASTER_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// A file that gets this master's `host:port` once it serves
    #[arg(long, env = "PROFFER_MASTER_ADDRESS_FILE", value_name = "PATH")]
    pub address_file: Option<PathBuf>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// How a master without a cluster finds one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Begin {
    /// It makes one of its own.
    #[default]
    Alone,
    /// It forms one with the masters at these addresses, its own among them.
    Peers(Vec<String>),
    /// It joins the one of the masters at these addresses.
    Join(Vec<String>),
}

/// Validated settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where others reach this master; where it listens if unset.
    pub advertise: Option<String>,
    /// Where it keeps what it must not forget.
    pub work_dir: PathBuf,
    /// How it finds a cluster, as long as it has none.
    pub begin: Begin,
    /// The newest format of the registry that it takes part in.
    pub level: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The fault domain that the master is in.
    pub domain: Option<DomainInfo>,
    /// After how long offers are rescinded.
    pub offer_timeout: Option<Duration>,
    /// After how long they are when somebody waits for them.
    pub offer_patience: Option<Duration>,
    /// How long gangs may wait.
    pub gang_wait_max: Duration,
    /// What nobody may want for so long is lent.
    pub idle_after: Duration,
    /// After how long what is lent is taken back by force.
    pub revocable_grace: Duration,
    /// Who is served first.
    pub allocator: Policy,
    /// Which agents are given away first.
    pub agent_order: AgentOrder,
    /// How often agents are pinged.
    pub agent_ping_interval: Duration,
    /// How many pings an agent may miss.
    pub agent_ping_misses: u32,
    /// How long agents may take to come back after an election.
    pub agent_reregister_timeout: Duration,
    /// How long frameworks may take to come back after an election.
    pub framework_resubscribe_timeout: Duration,
    /// After how many changes a snapshot is taken.
    pub snapshot_entries: u64,
    /// How many bytes of the frameworks' state are taken.
    pub state_bytes_max: u64,
    /// What is logged.
    pub log_level: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// A file that gets the address once the master serves.
    pub address_file: Option<PathBuf>,
    /// How much may wait for the reader of a stream before it is cut off.
    pub stream_bounds: Bounds,
}

/// A setting is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The value is not acceptable.
    #[error("{setting} is {value:?}: {problem}")]
    Value {
        /// Which setting.
        setting: String,
        /// Its value.
        value: String,
        /// What would be accepted.
        problem: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line of the file is wrong.
    #[error("line {line} of the configuration file {}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number.
        line: usize,
        /// What would be accepted.
        problem: String,
    },
}

const NAMES: &[&str] = &[
    "listen",
    "advertise",
    "work-dir",
    "peers",
    "join",
    "compatibility",
    "cluster",
    "domain",
    "offer-timeout",
    "offer-patience",
    "gang-wait-max",
    "idle-after",
    "revocable-grace",
    "allocator",
    "agent-order",
    "agent-ping-interval",
    "agent-ping-misses",
    "agent-reregister-timeout",
    "framework-resubscribe-timeout",
    "snapshot-entries",
    "state-bytes-max",
    "log-level",
    "log-format",
    "address-file",
];

impl Config {
    /// Settings for a master in a directory, everything else by default, on a port of the kernel's choice.
    pub fn in_directory(work_dir: &Path) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            work_dir: work_dir.to_path_buf(),
            begin: Begin::Alone,
            level: LEVEL,
            cluster: "proffer".to_owned(),
            domain: None,
            offer_timeout: Some(Duration::from_secs(300)),
            offer_patience: Some(Duration::from_secs(1)),
            gang_wait_max: Duration::from_secs(3600),
            idle_after: Duration::from_secs(60),
            revocable_grace: Duration::from_secs(10),
            allocator: Policy::default(),
            agent_order: AgentOrder::default(),
            agent_ping_interval: Duration::from_secs(15),
            agent_ping_misses: 5,
            agent_reregister_timeout: Duration::from_secs(600),
            framework_resubscribe_timeout: Duration::from_secs(60),
            snapshot_entries: 100_000,
            state_bytes_max: 128 << 20,
            log_level: "info".to_owned(),
            log_format: LogFormat::Text,
            address_file: None,
            stream_bounds: Bounds::default(),
        }
    }

    /// Validates flags (with the environment in them) over the file.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn from_args(args: Args) -> Result<Self, Error> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => BTreeMap::new(),
        };
        let path = |path: Option<PathBuf>| path.map(|path| path.to_string_lossy().into_owned());
        let layers = Layers { file };
        let default = Self::in_directory(Path::new("/var/lib/proffer/master"));
        Ok(Self {
            listen: layers.get("listen", args.listen, "127.0.0.1:5050", |value| {
                parse(value, "an IP address and a port, such as 127.0.0.1:5050")
            })?,
            advertise: layers.find("advertise", args.advertise, host_and_port)?,
            work_dir: layers
                .find("work-dir", path(args.work_dir), |value| Ok(PathBuf::from(value)))?
                .unwrap_or(default.work_dir),
            begin: begin(
                layers.find("peers", args.peers, addresses)?,
                layers.find("join", args.join, addresses)?,
            )?,
            level: layers
                .find("compatibility", args.compatibility, level)?
                .unwrap_or(LEVEL),
            cluster: layers
                .find("cluster", args.cluster, |value| Ok(value.to_owned()))?
                .unwrap_or(default.cluster),
            domain: layers.find("domain", args.domain, domain)?,
            offer_timeout: layers.get("offer-timeout", args.offer_timeout, "5min", or_none)?,
            offer_patience: layers.get("offer-patience", args.offer_patience, "1s", or_none)?,
            gang_wait_max: layers.get("gang-wait-max", args.gang_wait_max, "1h", duration)?,
            idle_after: layers.get("idle-after", args.idle_after, "1min", duration)?,
            revocable_grace: layers.get("revocable-grace", args.revocable_grace, "10s", duration)?,
            allocator: layers.get("allocator", args.allocator, "drf", |value| match value {
                "drf" => Ok(Policy::Drf),
                "priority" => Ok(Policy::Priority),
                _ => Err("drf or priority is accepted".to_owned()),
            })?,
            agent_order: layers.get("agent-order", args.agent_order, "slot", |value| match value {
                "slot" => Ok(AgentOrder::Slot),
                "pack" => Ok(AgentOrder::Pack),
                "spread" => Ok(AgentOrder::Spread),
                _ => Err("slot, pack or spread is accepted".to_owned()),
            })?,
            agent_ping_interval: layers.get("agent-ping-interval", args.agent_ping_interval, "15s", duration)?,
            agent_ping_misses: layers.get("agent-ping-misses", args.agent_ping_misses, "5", count)?,
            agent_reregister_timeout: layers.get(
                "agent-reregister-timeout",
                args.agent_reregister_timeout,
                "10min",
                duration,
            )?,
            framework_resubscribe_timeout: layers.get(
                "framework-resubscribe-timeout",
                args.framework_resubscribe_timeout,
                "1min",
                duration,
            )?,
            snapshot_entries: layers.get("snapshot-entries", args.snapshot_entries, "100000", count)?,
            state_bytes_max: layers.get("state-bytes-max", args.state_bytes_max, "128MiB", bytes)?,
            log_level: layers.get("log-level", args.log_level, "info", log_level)?,
            log_format: layers.get("log-format", args.log_format, "text", |value| {
                LogFormat::from_str(value, true).map_err(|_| "text or json is accepted".to_owned())
            })?,
            address_file: layers.find("address-file", path(args.address_file), |value| {
                Ok(PathBuf::from(value))
            })?,
            stream_bounds: default.stream_bounds,
        })
    }
}

struct Layers {
    file: BTreeMap<String, String>,
}

impl Layers {
    /// The value of a flag, or else of the file, if there is one.
    fn find<T>(
        &self,
        name: &str,
        flag: Option<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = flag.or_else(|| self.file.get(name).cloned()) else {
            return Ok(None);
        };
        match parse(&value) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(problem) => Err(Error::Value {
                setting: name.to_owned(),
                value,
                problem,
            }),
        }
    }

    fn get<T>(
        &self,
        name: &str,
        flag: Option<String>,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Error> {
        let found = self.find(name, flag, &parse)?;
        match found {
            Some(found) => Ok(found),
            None => parse(default).map_err(|problem| Error::Value {
                setting: name.to_owned(),
                value: default.to_owned(),
                problem,
            }),
        }
    }
}

fn read_file(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_path_buf(),
        source,
    })?;
    let mut settings = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |problem: String| Error::Line {
            path: path.to_path_buf(),
            line: number,
            problem,
        };
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| wrong("`name = value` is accepted".to_owned()))?;
        let name = name.trim();
        if !NAMES.contains(&name) {
            return Err(wrong(format!(
                "{name:?} is not a setting; there are {}",
                NAMES.join(", ")
            )));
        }
        let value = value.trim().trim_matches('"').to_owned();
        settings.insert(name.to_owned(), value);
    }
    Ok(settings)
}

fn parse<T: FromStr>(value: &str, accepted: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{accepted} is accepted"))
}

fn count<T: FromStr + PartialOrd + From<u8> + Display>(value: &str) -> Result<T, String> {
    let accepted = "a whole number of at least 1";
    let count: T = parse(value, accepted)?;
    if count < T::from(1) {
        return Err(format!("{accepted} is accepted"));
    }
    Ok(count)
}

fn log_level(value: &str) -> Result<String, String> {
    let known = tracing_subscriber::EnvFilter::try_new(value).is_ok();
    let accepted = "error, warn, info, debug, trace or directives such as `info,raft=debug` are accepted";
    known.then(|| value.to_owned()).ok_or_else(|| accepted.to_owned())
}

/// A host and a port, and nothing else.
pub(crate) fn host_and_port(value: &str) -> Result<String, String> {
    let accepted = "a host and a port, such as master1.example.org:5050, is accepted";
    let authority = http::uri::Authority::from_str(value).ok();
    let is_address = |authority: &http::uri::Authority| {
        let has_port = authority.port_u16().is_some_and(|port| port > 0);
        has_port && !authority.host().is_empty() && !value.contains('@')
    };
    authority
        .filter(is_address)
        .map(|authority| authority.to_string())
        .ok_or_else(|| accepted.to_owned())
}

/// Addresses of masters, sorted.
fn addresses(value: &str) -> Result<Vec<String>, String> {
    let accepted = "a list of different masters, such as master1:5050,master2:5050,master3:5050, is accepted";
    let addresses: Result<Vec<String>, String> = value.split(',').map(|one| host_and_port(one.trim())).collect();
    let mut addresses = addresses.map_err(|_| accepted.to_owned())?;
    addresses.sort();
    if addresses.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(accepted.to_owned());
    }
    Ok(addresses)
}

fn begin(peers: Option<Vec<String>>, join: Option<Vec<String>>) -> Result<Begin, Error> {
    match (peers, join) {
        (None, None) => Ok(Begin::Alone),
        (Some(peers), None) => Ok(Begin::Peers(peers)),
        (None, Some(join)) => Ok(Begin::Join(join)),
        (Some(_), Some(join)) => Err(Error::Value {
            setting: "join".to_owned(),
            value: join.join(","),
            problem: "peers is set too; one of the two is accepted: peers where a new cluster is formed, join where there is one".to_owned(),
        }),
    }
}

fn domain(value: &str) -> Result<DomainInfo, String> {
    domain::parse(value).map_err(|rejection| format!("{} is accepted", rejection.accepted))
}

fn level(value: &str) -> Result<u32, String> {
    let accepted = || format!("a level of the registry from 1 to {LEVEL} is accepted");
    let level = value.parse().map_err(|_| accepted())?;
    (1..=LEVEL).contains(&level).then_some(level).ok_or_else(accepted)
}

/// `1048576`, `64KiB`, `128MiB`, `1GiB`.
fn bytes(value: &str) -> Result<u64, String> {
    let accepted = "a number of bytes of at least 1 MiB, such as 1048576, 128MiB or 1GiB, is accepted";
    let split = value.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(value.len());
    let (number, unit) = value.split_at(split);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(accepted.to_owned()),
    };
    let number: Option<u64> = number.trim().parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes
        .filter(|bytes| *bytes >= 1 << 20)
        .ok_or_else(|| accepted.to_owned())
}

/// `500ms`, `15s`, `1.5min`, `2h`, `1d`; the words of Mesos (`secs`, `mins`, `hrs`, `days`) are understood too.
fn duration(value: &str) -> Result<Duration, String> {
    let accepted = "a duration longer than 0, such as 500ms, 15s, 10min or 2h, is accepted";
    let split = value.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(value.len());
    let (number, unit) = value.split_at(split);
    let number: f64 = parse(number.trim(), accepted).map_err(|_| accepted.to_owned())?;
    let unit_seconds = match unit {
        "ms" => 0.001,
        "s" | "sec" | "secs" => 1.0,
        "m" | "min" | "mins" => 60.0,
        "h" | "hr" | "hrs" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return Err(accepted.to_owned()),
    };
    let duration = Duration::try_from_secs_f64(number * unit_seconds).map_err(|_| accepted.to_owned())?;
    if duration.is_zero() {
        return Err(accepted.to_owned());
    }
    Ok(duration)
}

fn or_none(value: &str) -> Result<Option<Duration>, String> {
    match value {
        "none" => Ok(None),
        value => duration(value)
            .map(Some)
            .map_err(|accepted| format!("{accepted}; so is `none`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(args: Args) -> String {
        Config::from_args(args).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_valid() {
        let config = Config::from_args(Args::default()).unwrap();
        assert_eq!(config.listen.port(), 5050);
        assert_eq!(config.agent_ping_interval, Duration::from_secs(15));
        assert_eq!(config.offer_timeout, Some(Duration::from_secs(300)));
        assert_eq!(config.offer_patience, Some(Duration::from_secs(1)));
        assert_eq!((config.allocator, config.agent_order), (Policy::Drf, AgentOrder::Slot));
    }

    #[test]
    fn the_allocator_is_chosen_by_name() {
        let args = |allocator: &str, order: &str| Args {
            allocator: Some(allocator.to_owned()),
            agent_order: Some(order.to_owned()),
            ..Args::default()
        };
        let config = Config::from_args(args("priority", "pack")).unwrap();
        assert_eq!(
            (config.allocator, config.agent_order),
            (Policy::Priority, AgentOrder::Pack)
        );
        assert!(refusal(args("fair", "pack")).contains("drf or priority is accepted"));
        assert!(refusal(args("drf", "random")).contains("slot, pack or spread is accepted"));
    }

    #[test]
    fn the_group_of_masters_is_a_sorted_list() {
        let args = Args {
            peers: Some("b:1, a:1,[::1]:5050".to_owned()),
            compatibility: Some("1".to_owned()),
            state_bytes_max: Some("2GiB".to_owned()),
            ..Args::default()
        };
        let config = Config::from_args(args).unwrap();
        let list = ["[::1]:5050", "a:1", "b:1"].map(str::to_owned);
        assert_eq!(config.begin, Begin::Peers(list.to_vec()));
        assert_eq!((config.level, config.state_bytes_max), (1, 2 << 30));
    }

    #[test]
    fn a_flag_comes_before_the_file_and_the_file_before_the_default() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("master.conf");
        std::fs::write(
            &path,
            "# mine\nlisten = 0.0.0.0:6000\ncluster = \"blue\" # name\noffer-timeout=30secs\noffer-patience=none\n",
        )?;
        let args = Args {
            config: Some(path),
            cluster: Some("red".to_owned()),
            ..Args::default()
        };
        let config = Config::from_args(args)?;
        assert_eq!(config.listen.to_string(), "0.0.0.0:6000");
        assert_eq!(config.cluster, "red");
        assert_eq!(config.offer_timeout, Some(Duration::from_secs(30)));
        assert_eq!(config.offer_patience, None);
        assert_eq!(config.agent_ping_misses, 5);
        Ok(())
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_would_be_accepted() -> anyhow::Result<()> {
        let listen = Args {
            listen: Some("localhost".to_owned()),
            ..Args::default()
        };
        assert!(refusal(listen).starts_with("listen is \"localhost\": an IP address and a port"));
        let interval = Args {
            agent_ping_interval: Some("-3s".to_owned()),
            ..Args::default()
        };
        assert!(refusal(interval).starts_with("agent-ping-interval is \"-3s\": a duration"));
        let misses = Args {
            agent_ping_misses: Some("0".to_owned()),
            ..Args::default()
        };
        assert!(refusal(misses).contains("at least 1"));
        for (peers, what) in [
            ("", "a list of different masters, such as"),
            ("a:1,", "a list of different masters"),
            ("a:1,a:1", "a list of different masters"),
            ("http://a:1", "a list of different masters"),
            ("a", "a list of different masters"),
        ] {
            let refused = refusal(Args {
                peers: Some(peers.to_owned()),
                ..Args::default()
            });
            assert!(refused.starts_with(&format!("peers is {peers:?}: {what}")), "{refused}");
        }
        let both = Args {
            peers: Some("a:1".to_owned()),
            join: Some("b:1".to_owned()),
            ..Args::default()
        };
        assert!(refusal(both).starts_with("join is \"b:1\": peers is set too; one of the two is accepted"));
        for level in ["0", "4", "two"] {
            let refused = refusal(Args {
                compatibility: Some(level.to_owned()),
                ..Args::default()
            });
            assert!(
                refused.ends_with("a level of the registry from 1 to 3 is accepted"),
                "{refused}"
            );
        }
        let domain = Args {
            domain: Some("eu-west".to_owned()),
            ..Args::default()
        };
        assert!(refusal(domain).starts_with("domain is \"eu-west\": a region and a zone, such as eu-west/a"));
        let state = Args {
            state_bytes_max: Some("12KiB".to_owned()),
            ..Args::default()
        };
        assert!(refusal(state).contains("at least 1 MiB"));
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("master.conf");
        std::fs::write(&path, "\nlissen = 1\n")?;
        let file = Args {
            config: Some(path),
            ..Args::default()
        };
        assert!(refusal(file).contains("line 2"));
        Ok(())
    }
}
