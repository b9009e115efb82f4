//! How an executor reaches its agent, and how long it waits for it.

use std::path::PathBuf;
use std::time::Duration;

use proffer_proto::v1::{ExecutorId, FrameworkId};

/// How [`run`](super::run) runs an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The executor's id.
    pub executor_id: ExecutorId,
    /// That of its framework.
    pub framework_id: FrameworkId,
    /// Where the agent listens, `host:port`.
    pub agent: String,
    /// Its unix socket, which is used where there is one.
    pub socket: Option<PathBuf>,
    /// By which the executor shows that it is the one.
    pub token: String,
    /// How long to go on without an agent.
    pub recovery_timeout: Duration,
    /// The longest wait before another attempt to subscribe.
    pub subscription_backoff_max: Duration,
    /// How long the executor may take to end.
    pub shutdown_grace: Duration,
}

/// A variable of the environment that is missing or makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {name} {problem}; it is set by the agent that starts an executor")]
pub struct BadEnvironment {
    name: &'static str,
    problem: String,
}

impl Options {
    /// What the agent told the executor that it started.
    ///
    /// # Errors
    /// A variable that is missing or makes no sense.
    pub fn from_environment() -> Result<Self, BadEnvironment> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same, of variables that come from elsewhere.
    ///
    /// ```
    /// use proffer_sdk::executor::Options;
    ///
    /// let options = Options::from_variables(|name| match name {
    ///     "MESOS_FRAMEWORK_ID" => Some("f1".into()),
    ///     "MESOS_EXECUTOR_ID" => Some("e1".into()),
    ///     "MESOS_AGENT_ENDPOINT" => Some("127.0.0.1:5051".into()),
    ///     "MESOS_RECOVERY_TIMEOUT" => Some("15mins".into()),
    ///     _ => None,
    /// });
    /// assert_eq!(options.unwrap().recovery_timeout.as_secs(), 900);
    /// ```
    ///
    /// # Errors
    /// A variable that is missing or makes no sense.
    pub fn from_variables(get: impl Fn(&'static str) -> Option<String>) -> Result<Self, BadEnvironment> {
        let required = |name| {
            get(name).filter(|value| !value.is_empty()).ok_or(BadEnvironment {
                name,
                problem: "is missing".into(),
            })
        };
        let duration = |name, default| match get(name) {
            None => Ok(default),
            Some(text) => parse_duration(&text).ok_or_else(|| BadEnvironment {
                name,
                problem: format!("is {text:?}, which is no duration as in 1500ms, 5secs or 15mins"),
            }),
        };
        Ok(Options {
            framework_id: required("MESOS_FRAMEWORK_ID")?.into(),
            executor_id: required("MESOS_EXECUTOR_ID")?.into(),
            agent: required("MESOS_AGENT_ENDPOINT")?,
            socket: get("MESOS_DOMAIN_SOCKET")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            token: get("MESOS_EXECUTOR_AUTHENTICATION_TOKEN").unwrap_or_default(),
            recovery_timeout: duration("MESOS_RECOVERY_TIMEOUT", Duration::from_secs(900))?,
            subscription_backoff_max: duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", Duration::from_secs(2))?,
            shutdown_grace: duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", Duration::from_secs(5))?,
        })
    }
}

/// As Mesos writes durations: a number and its unit.
fn parse_duration(text: &str) -> Option<Duration> {
    let at = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "secs" => 1.0,
        "mins" => 60.0,
        "hrs" => 3600.0,
        "days" => 86_400.0,
        "weeks" => 604_800.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * seconds).ok()
}
