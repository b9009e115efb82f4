//! Rolling updates of a service under steady HTTP load through nginx: how many requests fail.
//!
//! `cargo bench -p proffer-tests --bench services-update [-- --quick | --requests=N | --rate=N]`
//!
//! Three masters, two agents, the services' scheduler, `proffer service render` and nginx are processes; four instances of
//! a web server are replaced by the next version, again and again, for as long as the load lasts. A request that got no
//! whole answer counts as failed if an instance has it in its log, and as resent if none has: nginx closes idle
//! connections when it is reloaded, and a request that was on its way on one of them is sent again by every client.

use std::time::{Duration, Instant};

use proffer_examples::load::{Config, Limit, Load, Target};
use proffer_tests::Cluster;
use proffer_tests::bench;
use proffer_tests::front::{Front, Outcome, Proxy, web};
use tokio::sync::watch;

const BENCH: &str = "services-update";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    bench::print_machine(BENCH);
    if !Proxy::Nginx.is_here() {
        return Ok(());
    }
    let usual = if bench::is_quick() { 10_000 } else { 100_000 };
    let requests = bench::number("--requests=")?.unwrap_or(usual);
    let rate: u32 = bench::number("--rate=")?.unwrap_or(1_000);
    let cluster = Cluster::builder("bench-services-update").masters(3).agents(2);
    let mut front = Front::start(cluster.start().await?, &[]).await?;
    let mut spec = web("web", 4)?;
    spec.labels = [("proxy.http.host".to_owned(), "127.0.0.1".to_owned())].into();
    front.put(&spec).await?;
    front.updated("web").await?;
    let address = front.proxy(Proxy::Nginx).await?;
    let (_always, endpoints) = watch::channel(vec![address]);
    let load = Load::start(
        Config {
            concurrency: 16,
            limit: Limit::Answered(requests),
            rate: Some(f64::from(rate)),
            mix: vec![Target::HOME, Target::ITEM, Target::ITEM, Target::SLOW],
            ..Config::requests(requests, "bench")
        },
        endpoints,
    );
    let (mut updates, mut update_s) = (0, Vec::new());
    while load.progress().answered < requests {
        updates += 1;
        let began = Instant::now();
        spec.env = [("STEP".to_owned(), format!("s{updates}"))].into();
        front.put(&spec).await?;
        front.updated("web").await?;
        update_s.push(began.elapsed().as_secs_f64());
        let progress = load.progress();
        eprintln!(
            "{BENCH}: update {updates} took {:.1} s; {} of {requests} requests answered, {} connections lost",
            began.elapsed().as_secs_f64(),
            progress.answered,
            progress.ambiguous
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let report = load.finish().await;
    let outcome = Outcome::of(&report, &front.logged_ids()?);
    let samples = usize::try_from(report.answered)?;
    bench::print(BENCH, "requests", report.answered as f64, "1", samples);
    bench::print(BENCH, "failed_requests", outcome.failed as f64, "1", samples);
    bench::print(BENCH, "resent_requests", outcome.resent as f64, "1", samples);
    bench::print(BENCH, "updates", f64::from(updates), "1", update_s.len());
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let value = report.latency_us(quantile) as f64 / 1_000.0;
        bench::print(BENCH, &format!("latency_{name}_ms"), value, "ms", samples);
    }
    bench::print_percentiles(BENCH, "update", "s", &mut update_s);
    front.stop().await
}
