//! What a master acknowledged survives its restart, with or without the applied registry.

use std::path::Path;
use std::time::{Duration, Instant};

use proffer_master::applied::AppliedRegistry;
use proffer_master::{Config, Server};
use proffer_proto::v1::FrameworkId;
use proffer_proto::v1::master::{Call, Response, call};

use crate::common::{PATIENCE, framework, master, operator, scheduler, subscribed};

/// What the master says of a framework: by its id, whether it is connected.
async fn frameworks(server: &Server) -> anyhow::Result<Vec<(FrameworkId, bool)>> {
    let call = Call {
        r#type: Some(call::Type::GetFrameworks as i32),
        ..Call::default()
    };
    let response: Response = operator(server).await?.submit(call).await?.into_inner();
    let frameworks = response.get_frameworks.unwrap_or_default().frameworks;
    Ok(frameworks
        .into_iter()
        .filter_map(|framework| Some((framework.framework_info.id?, framework.connected)))
        .collect())
}

/// Subscribes a framework and stops the master under it.
async fn master_with_a_framework(directory: &Path) -> anyhow::Result<FrameworkId> {
    let server = master(directory).await?;
    let mut client = scheduler(&server).await?;
    let framework = subscribed(&mut client, framework("durable", 3600.0)).await?;
    server.stop().await?;
    Ok(framework.id)
}

async fn knows(directory: &Path, id: &FrameworkId) -> anyhow::Result<()> {
    let server = master(directory).await?;
    anyhow::ensure!(frameworks(&server).await? == [(id.clone(), false)]);
    // It may come back under its id.
    let mut info = framework("durable", 3600.0);
    info.id = Some(id.clone());
    let mut client = scheduler(&server).await?;
    let back = subscribed(&mut client, info).await?;
    anyhow::ensure!(back.id == *id);
    anyhow::ensure!(frameworks(&server).await? == [(id.clone(), true)]);
    server.stop().await
}

#[tokio::test]
async fn a_framework_keeps_its_id_over_a_restart() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let id = master_with_a_framework(directory.path()).await?;
    knows(directory.path(), &id).await?;
    knows(directory.path(), &id).await
}

/// The deadline of the only framework, after the master has stopped.
fn deadline(directory: &Path) -> anyhow::Result<Option<i64>> {
    let (_, registry, _) = AppliedRegistry::open(&directory.join("registry"))?;
    anyhow::ensure!(registry.frameworks.len() == 1, "{registry:?}");
    Ok(registry.frameworks[0].failover_deadline_ms)
}

#[tokio::test]
async fn a_failover_deadline_survives_restarts() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let mut client = scheduler(&server).await?;
    let framework = subscribed(&mut client, framework("durable", 3600.0)).await?;
    drop(framework);
    let patience = Instant::now() + PATIENCE;
    while frameworks(&server).await?.iter().any(|(_, connected)| *connected) {
        anyhow::ensure!(
            Instant::now() < patience,
            "the master does not notice that the framework left"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop().await?;
    let first = deadline(directory.path())?;
    anyhow::ensure!(first.is_some());
    std::fs::remove_dir_all(directory.path().join("registry"))?;
    master(directory.path()).await?.stop().await?;
    anyhow::ensure!(deadline(directory.path())? == first);
    Ok(())
}

#[tokio::test]
async fn a_missing_registry_is_made_anew_from_the_log() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let id = master_with_a_framework(directory.path()).await?;
    std::fs::remove_dir_all(directory.path().join("registry"))?;
    knows(directory.path(), &id).await
}

#[tokio::test]
async fn a_damaged_registry_is_made_anew_from_the_log() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let id = master_with_a_framework(directory.path()).await?;
    let files = || std::fs::read_dir(directory.path().join("registry"));
    let paths: Vec<_> = files()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    anyhow::ensure!(!paths.is_empty());
    for path in &paths {
        for damage in ["flip", "cut", "empty", "zero"] {
            let mut bytes = std::fs::read(path)?;
            let half = bytes.len() / 2;
            match damage {
                "flip" => bytes.iter_mut().step_by(37).for_each(|byte| *byte ^= 4),
                "cut" => bytes.truncate(half),
                "empty" => bytes.clear(),
                _ => bytes.fill(0),
            }
            std::fs::write(path, bytes)?;
            knows(directory.path(), &id).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_registry_that_sled_did_not_survive_opening_is_made_anew() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let id = master_with_a_framework(directory.path()).await?;
    std::fs::write(directory.path().join("registry.opening"), "")?;
    knows(directory.path(), &id).await?;
    anyhow::ensure!(!directory.path().join("registry.opening").exists());
    Ok(())
}

#[tokio::test]
async fn snapshots_replace_the_log() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut config = Config::in_directory(directory.path());
    config.snapshot_entries = 3;
    let server = Server::start(config).await?;
    let mut client = scheduler(&server).await?;
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        ids.push(subscribed(&mut client, framework(name, 3600.0)).await?.id);
    }
    server.stop().await?;
    let snapshots = std::fs::read_dir(directory.path().join("snapshots"))?.flatten();
    let names: Vec<_> = snapshots.map(|entry| entry.file_name()).collect();
    anyhow::ensure!(names.len() == 1, "{names:?}");
    anyhow::ensure!(
        !names[0].to_string_lossy().starts_with("0000000000000001-"),
        "{names:?}"
    );
    std::fs::remove_dir_all(directory.path().join("registry"))?;
    let server = master(directory.path()).await?;
    let mut known: Vec<_> = frameworks(&server).await?.into_iter().map(|(id, _)| id).collect();
    known.sort();
    ids.sort();
    anyhow::ensure!(known == ids);
    server.stop().await
}

#[tokio::test]
async fn a_damaged_log_is_refused_and_the_refusal_says_what_to_do() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    master_with_a_framework(directory.path()).await?;
    let log = std::fs::read_dir(directory.path().join("log"))?.flatten().next();
    let log = log.ok_or_else(|| anyhow::anyhow!("there is no log"))?.path();
    let mut bytes = std::fs::read(&log)?;
    bytes[300] ^= 1;
    std::fs::write(&log, bytes)?;
    let refusal = format!("{:#}", master(directory.path()).await.unwrap_err());
    anyhow::ensure!(refusal.contains("damaged") && refusal.contains("backup"), "{refusal}");
    Ok(())
}

#[tokio::test]
async fn a_log_that_lost_its_end_is_refused() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    server.stop().await?;
    let log = directory.path().join("log");
    let before = directory.path().join("log-before");
    std::fs::create_dir(&before)?;
    for entry in std::fs::read_dir(&log)?.flatten() {
        std::fs::copy(entry.path(), before.join(entry.file_name()))?;
    }
    master_with_a_framework(directory.path()).await?;
    std::fs::remove_dir_all(&log)?;
    std::fs::rename(&before, &log)?;
    let refusal = format!("{:#}", master(directory.path()).await.unwrap_err());
    anyhow::ensure!(refusal.contains("its end is lost"), "{refusal}");
    Ok(())
}

#[tokio::test]
async fn a_work_directory_has_one_master() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let first = master(directory.path()).await?;
    let refusal = format!("{:#}", master(directory.path()).await.unwrap_err());
    anyhow::ensure!(refusal.contains("another master runs"), "{refusal}");
    first.stop().await?;
    master(directory.path()).await?.stop().await
}
