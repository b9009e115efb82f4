//! Real proxies and resolvers find the instances of services, and nobody's request is lost by an update.

use std::time::Duration;

use anyhow::ensure;
use proffer_examples::load::{Config, Limit, Load, Target};
use proffer_tests::cluster::free_port;
use proffer_tests::front::{Front, Outcome, Proxy, web};
use proffer_tests::http::request;
use proffer_tests::{Cluster, require_isolation};
use tokio::sync::watch;

use crate::until;

/// So many requests are answered at least.
const REQUESTS: u64 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_by_an_update_or_a_killed_scheduler_behind_a_proxy() -> anyhow::Result<()> {
    require_isolation!();
    let proxies: Vec<Proxy> = [Proxy::Nginx, Proxy::Haproxy]
        .into_iter()
        .filter(|proxy| proxy.is_here())
        .collect();
    let (names, more_names) = (
        format!("127.0.0.1:{}", free_port()?),
        format!("127.0.0.1:{}", free_port()?),
    );
    let mut front = Front::start(Cluster::builder("front").start().await?, &["--dns", &names]).await?;
    let mut spec = web("web", 3)?;
    spec.labels = [("proxy.http.host".to_owned(), "127.0.0.1".to_owned())].into();
    let mut plain = web("plain", 1)?;
    let listen = format!("127.0.0.1:{}", free_port()?);
    plain.labels = [("mode", "tcp"), ("listen", &listen)]
        .map(|(name, value)| (format!("proxy.http.{name}"), value.to_owned()))
        .into();
    front.put(&spec).await?;
    front.put(&plain).await?;
    front.updated("web").await?;
    front.updated("plain").await?;
    front.standby(&["--dns", &more_names]).await?;
    found_by_name(&names, "web", 3).await?;
    found_by_name(&more_names, "web", 3).await?;

    let mut loads = Vec::new();
    for proxy in proxies {
        let address = front.proxy(proxy).await?;
        until("an instance behind the proxy", async || {
            Ok(request(&address, "GET", "/api/items/1", "")
                .await
                .is_ok_and(|(status, _)| status == 200))
        })
        .await?;
        if proxy == Proxy::Haproxy {
            until("an instance behind HAProxy by its port alone", async || {
                Ok(request(&listen, "GET", "/", "")
                    .await
                    .is_ok_and(|(status, _)| status == 200))
            })
            .await?;
        }
        let (_always, endpoints) = watch::channel(vec![address]);
        let config = Config {
            concurrency: 4,
            limit: Limit::Elapsed(Duration::from_secs(600)),
            rate: Some(400.0),
            mix: vec![Target::HOME, Target::ITEM, Target::SLOW],
            ..Config::requests(0, format!("{proxy:?}"))
        };
        loads.push((proxy, Load::start(config, endpoints)));
    }
    front.restart_scheduler().await?;
    spec.env = [("STEP".to_owned(), "two".to_owned())].into();
    front.put(&spec).await?;
    front.updated("web").await?;
    found_by_name(&names, "web", 3).await?;
    found_by_name(&more_names, "web", 3).await?;
    let enough = |load: &Load| load.progress().answered >= REQUESTS;
    until("enough requests", async || {
        Ok(loads.iter().all(|(_, load)| enough(load)))
    })
    .await?;
    let mut reports = Vec::new();
    for (proxy, load) in loads {
        load.stop();
        reports.push((proxy, load.finish().await));
    }
    let logged = front.logged_ids()?;
    for (proxy, report) in reports {
        let outcome = Outcome::of(&report, &logged);
        ensure!(outcome.failed == 0, "{proxy:?}: {outcome:?} {:?}", report.statuses);
        ensure!(report.compare(logged.iter().map(String::as_str)).equal(), "{proxy:?}");
    }
    front.stop().await
}

/// Waits until the DNS server names so many instances.
async fn found_by_name(server: &str, service: &str, instances: usize) -> anyhow::Result<()> {
    let (address, port) = server.split_once(':').unwrap_or_default();
    let name = format!("_http._tcp.{service}.default.proffer");
    let address = format!("@{address}");
    until("the instances by name", async || {
        let dig = tokio::process::Command::new("dig")
            .args([&address, "-p", port, &name, "SRV", "+short", "+tries=1"])
            .output();
        let Ok(output) = dig.await else {
            println!("skipped: no dig here");
            return Ok(true);
        };
        Ok(String::from_utf8_lossy(&output.stdout).lines().count() == instances)
    })
    .await
}
