//! Makes a change, and waits for it where that is wanted.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::ChangeArgs;
use super::client::Client;
use super::local::print;
use crate::exit::{Failure, FailureKind};

/// How often it is asked how far an update is.
const INTERVAL: Duration = Duration::from_millis(200);

/// Makes a change of a service.
pub(super) async fn change(
    client: &Client,
    id: &str,
    method: &str,
    what: &str,
    body: Option<Value>,
    args: &ChangeArgs,
) -> Result<(), Failure> {
    let query = args.if_version.map(|version| format!("?version={version}"));
    let path = format!("/v1/services/{id}{what}{}", query.unwrap_or_default());
    let accepted = client.ask(method, &path, body).await?;
    let version = accepted["version"].as_u64().unwrap_or_default();
    print(&format!("{id}: version {version}\n"))?;
    match args.wait {
        Some(seconds) => wait(client, id, version, Duration::from_secs(seconds)).await,
        None => Ok(()),
    }
}

/// Waits until an update has ended, and fails where it was not done.
async fn wait(client: &Client, id: &str, version: u64, patience: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    let failed = |text: String| Err(Failure::new(FailureKind::Failed, format!("{id}: {text}")));
    loop {
        let service = client.ask("GET", &format!("/v1/services/{id}"), None).await?;
        let (now, update) = (service["version"].as_u64().unwrap_or_default(), &service["update"]);
        match update["state"].as_str() {
            _ if now != version => match update["reverts"].as_str() {
                Some(reason) => return failed(format!("version {version} was reverted: {reason}")),
                None => return failed(format!("version {now} came instead of {version}")),
            },
            Some("done") if is_settled(&service) => {
                return print(&format!(
                    "{id}: {} of {} ready\n",
                    service["ready"], service["spec"]["instances"]
                ));
            }
            Some("paused") => return failed(format!("the update is paused: {}", update["reason"])),
            _ if Instant::now() >= deadline => {
                let (ready, outdated) = (&service["ready"], &update["outdated"]);
                return failed(format!(
                    "not done after {} s: {ready} instances are ready, {outdated} have an older version",
                    patience.as_secs()
                ));
            }
            _ => tokio::time::sleep(INTERVAL).await,
        }
    }
}

/// Whether exactly the wanted instances are there, and ready: how many those are may change without an update.
fn is_settled(service: &Value) -> bool {
    let instances = service["instances"].as_array().map(Vec::len);
    let wanted = service["spec"]["instances"].as_u64();
    service["ready"].as_u64() == wanted && instances.and_then(|count| u64::try_from(count).ok()) == wanted
}
