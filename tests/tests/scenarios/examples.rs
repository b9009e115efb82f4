//! The specifications that the pages and examples show are run, and become ready.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use proffer_services::ServiceSpec;
use proffer_tests::cluster::built;
use proffer_tests::front::Front;
use proffer_tests::{Cluster, require_isolation};

/// Where the examples expect the program.
const PROGRAM: &str = "/usr/local/bin/proffer";

/// The blocks of the page, the shortest of all, and the commented one.
fn examples() -> anyhow::Result<Vec<String>> {
    let page = include_str!("../../../docs/services.md");
    let blocks = page.split("```yaml\n").skip(1);
    let mut examples: Vec<_> = blocks
        .map(|block| block.split("```").next().unwrap_or_default().to_owned())
        .collect();
    let shortest = page
        .split("The shortest: `")
        .nth(1)
        .and_then(|rest| rest.split('`').next());
    examples.push(shortest.context("the page has a shortest one")?.to_owned());
    examples.push(include_str!("../../../examples/web.yaml").to_owned());
    Ok(examples)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_becomes_ready() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("examples").start().await?;
    // Some of them run as nobody, who may not see where it was built.
    let program = cluster.local().directory().join("bin/proffer");
    copy_for_all(&built("proffer-under-test")?, &program)?;
    let front = Front::start(cluster, &[]).await?;
    let mut ids = Vec::new();
    for (number, text) in examples()?.into_iter().enumerate() {
        let mut spec = ServiceSpec::from_yaml(&text.replace(PROGRAM, &program.display().to_string()))?;
        spec.id = format!("{}-{number}", spec.id);
        front.put(&spec).await.with_context(|| text.clone())?;
        ids.push((spec.id, text));
    }
    for (id, text) in &ids {
        front.updated(id).await.with_context(|| text.clone())?;
    }
    assert!(ids.len() >= 4);
    front.stop().await
}

fn copy_for_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    let directory = to.parent().context("it lies in a directory")?;
    std::fs::create_dir_all(directory)?;
    for path in [directory.parent().unwrap_or(directory), directory] {
        std::fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    std::fs::copy(from, to)?;
    Ok(())
}
