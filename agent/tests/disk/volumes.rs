//! Persistent volumes: kept within their sizes by each back end, and what an agent makes of the layouts that it is told.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use proffer_agent::disk::{Choice, Disk};
use proffer_proto::link;
use proffer_proto::v1::TaskState::{TaskError, TaskFailed, TaskFinished, TaskRunning};
use proffer_proto::v1::resource::disk_info::Persistence;
use proffer_proto::v1::resource::{DiskInfo, ReservationInfo, reservation_info};
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::volume::Mode;
use proffer_proto::v1::{self};
use rustix::mount::UnmountFlags;

use super::back_ends::{Host, MIB, UID, assert_exact, write};
use super::support::{AgentProcess, FakeMaster, can_contain, read_file, shell, until};

/// None where this kernel does not allow it.
fn open(host: &Host, name: &str) -> Option<Disk> {
    let choice = Choice::parse(name).expect("a back end");
    match Disk::open_for_volumes(&host.volumes(), host.path("volume-images"), choice) {
        Ok(disk) => Some(disk),
        Err(error) => {
            eprintln!("skipped: {name}: {error}");
            None
        }
    }
}

fn ensure_volume(disk: &Disk, volume: &Path, bytes: u64) {
    fs::create_dir_all(volume.parent().expect("a parent")).unwrap();
    let is_new = !volume.exists();
    disk.ensure(volume, bytes).unwrap();
    if is_new {
        chown(volume, Some(UID), Some(UID)).unwrap();
    }
}

/// What holds for volumes of every back end that the kernel enforces.
pub(super) fn volumes_are_kept(host: &Host, name: &str) {
    let Some(disk) = open(host, name) else { return };
    let volume = host.volumes().join("web/data/1-1");
    let file = volume.join("file");
    ensure_volume(&disk, &volume, 8 * MIB);
    fs::write(volume.join("kept"), "kept").unwrap();
    assert_exact(write(&file, u64::MAX), 8 * MIB);

    // Another agent process finds it as it was, and makes it larger.
    drop(disk);
    let disk = open(host, name).unwrap();
    ensure_volume(&disk, &volume, 8 * MIB);
    assert_exact(fs::metadata(&file).unwrap().len(), 8 * MIB);
    ensure_volume(&disk, &volume, 20 * MIB);
    // What is removed counts until it is so on the disk.
    fs::remove_file(&file).unwrap();
    rustix::fs::syncfs(File::open(&volume).unwrap()).unwrap();
    assert_exact(write(&file, u64::MAX), 20 * MIB);

    // Smaller than what is in it: nothing is lost, and nothing can be added before something is removed.
    ensure_volume(&disk, &volume, 4 * MIB);
    assert_exact(fs::metadata(&file).unwrap().len(), 20 * MIB);
    assert_eq!(write(&volume.join("more"), MIB), 0);
    fs::remove_file(&file).unwrap();
    let _ = fs::remove_file(volume.join("more"));
    rustix::fs::syncfs(File::open(&volume).unwrap()).unwrap();
    assert_exact(write(&file, u64::MAX), 4 * MIB);
    assert_eq!(fs::read_to_string(volume.join("kept")).unwrap(), "kept");

    disk.remove(&volume).unwrap();
    assert!(!volume.exists());
    let left = fs::read_dir(host.path("volume-images")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "an image is left");
}

#[test]
fn a_volume_in_an_image_is_the_same_after_the_machine_was_started_again() {
    let Some(host) = Host::new("volume", None) else { return };
    volumes_are_kept(&host, "image");
    let Some(disk) = open(&host, "image") else { return };
    let volume = host.volumes().join("web/data/1-2");
    ensure_volume(&disk, &volume, 8 * MIB);
    fs::write(volume.join("kept"), "kept").unwrap();
    rustix::mount::unmount(&volume, UnmountFlags::empty()).unwrap();
    drop(disk);
    let disk = open(&host, "image").unwrap();
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 0, "it is not mounted");
    ensure_volume(&disk, &volume, 8 * MIB);
    assert_eq!(fs::read_to_string(volume.join("kept")).unwrap(), "kept");
    assert_exact(write(&volume.join("file"), u64::MAX), 8 * MIB);

    // An agent that ended while it made one begins again, and one that ended while it removed one goes on.
    let other = host.volumes().join("web/other/1-3");
    let image = host.path("volume-images/web/other");
    fs::create_dir_all(&image).unwrap();
    fs::write(image.join("1-3.making"), "half of it").unwrap();
    ensure_volume(&disk, &other, MIB);
    assert_exact(write(&other.join("file"), u64::MAX), MIB);
    rustix::mount::unmount(&other, UnmountFlags::empty()).unwrap();
    fs::remove_dir(&other).unwrap();
    disk.remove(&other).unwrap();
    disk.remove(&volume).unwrap();
    let left = fs::read_dir(host.path("volume-images")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "an image is left");
}

#[test]
fn a_volume_in_an_image_grows_only_while_nobody_has_it_and_loses_nothing() {
    let Some(host) = Host::new("busy", None) else { return };
    let Some(disk) = open(&host, "image") else { return };
    let volume = host.volumes().join("web/data/1-1");
    ensure_volume(&disk, &volume, 4 * MIB);
    fs::write(volume.join("kept"), "kept").unwrap();
    // As a container has it: in a place that the agent does not see.
    let elsewhere = File::open(volume.join("kept")).unwrap();
    let error = disk.ensure(&volume, 12 * MIB).unwrap_err().to_string();
    assert!(error.contains("a container still has the volume"), "{error}");
    assert_eq!(fs::read_to_string(volume.join("kept")).unwrap(), "kept");
    assert_exact(write(&volume.join("file"), u64::MAX), 4 * MIB);
    drop(elsewhere);
    ensure_volume(&disk, &volume, 12 * MIB);
    assert_exact(write(&volume.join("file"), u64::MAX), 12 * MIB);
    assert_eq!(fs::read_to_string(volume.join("kept")).unwrap(), "kept");
    disk.remove(&volume).unwrap();
}

fn volume(id: &str, mebibytes: f64, mode: Mode) -> v1::Resource {
    v1::Resource {
        name: "disk".into(),
        scalar: Some(v1::value::Scalar { value: mebibytes }),
        reservations: vec![ReservationInfo {
            role: Some("web/etl".into()),
            r#type: Some(reservation_info::Type::Dynamic.into()),
            ..ReservationInfo::default()
        }],
        disk: Some(Box::new(DiskInfo {
            persistence: Some(Persistence {
                id: id.into(),
                principal: None,
            }),
            volume: Some(v1::Volume {
                container_path: "data".into(),
                mode: mode.into(),
                ..v1::Volume::default()
            }),
            source: None,
        })),
        ..v1::Resource::default()
    }
}

fn layout(version: u64, volumes: &[(&str, f64)], destroyed: &[(&str, u64)]) -> link::Layout {
    let one = |(id, size): &(&str, f64)| volume(id, *size, Mode::Rw);
    let destroyed = destroyed.iter().map(|(id, version)| link::DestroyedVolume {
        volume: volume(id, 1.0, Mode::Rw),
        version: *version,
    });
    link::Layout {
        lineage: 7,
        version,
        resources: volumes.iter().map(one).collect(),
        destroyed: destroyed.collect(),
    }
}

fn with_volume(id: &str, command: &str, volume: v1::Resource) -> v1::TaskInfo {
    let mut task = shell(id, command);
    task.resources.push(volume);
    task
}

/// Where the only volume of that name lies.
fn place(agent: &AgentProcess, id: &str) -> anyhow::Result<PathBuf> {
    let above = agent.path("work/volumes/web%2Fetl").join(id);
    let entry = fs::read_dir(&above)?.next().context("there is none")?;
    Ok(entry?.path())
}

async fn said(agent: &AgentProcess, task: &str) -> anyhow::Result<String> {
    let data = agent.call(read_file(task, "stdout")).await?.read_file;
    Ok(String::from_utf8(data.context("its output")?.data)?)
}

/// Fills the volume, says how much that was, and makes it empty again.
const FILL: &str = "dd if=/dev/zero of=data/big bs=65536 2>/dev/null; stat -c %s data/big; rm data/big; sync data";

#[tokio::test]
async fn an_agent_makes_grows_shrinks_and_destroys_volumes_and_their_data_outlives_it() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let enforced = !fs::read_to_string(agent.path("log"))?.contains("isolation is not enforced isolator=\"disk\"");
    if !enforced {
        eprintln!("skipped: no kernel enforcement of disk here; the sizes are not looked at");
    }
    let fits = |text: &str, mebibytes: u64| {
        let written: u64 = text
            .lines()
            .last()
            .unwrap_or_default()
            .trim()
            .parse()
            .context(text.to_owned())?;
        let most = mebibytes * MIB;
        let exact = written <= most && written + MIB > most;
        ensure!(!enforced || exact, "{written} bytes were written of {most}");
        anyhow::Ok(())
    };
    let command = if enforced { FILL } else { "echo 0" };
    let applied = master.lay_out(layout(1, &[("v", 8.0), ("other", 2.0)], &[])).await?;
    ensure!(applied.lineage == 7 && applied.failures.is_empty(), "{applied:?}");
    let run =
        |id: &str, command: String, size: f64| master.launch(with_volume(id, &command, volume("v", size, Mode::Rw)));
    run("write", format!("echo kept > data/file; {command}"), 8.0).await?;
    master.update("write", TaskFinished).await?;
    fits(&said(&agent, "write").await?, 8)?;

    // A task goes on with its volume while the agent is away, and the agent finds what it had.
    let wait = "while [ ! -e go ]; do sleep 0.05; done; echo more >> data/file";
    run("wait", wait.to_owned(), 8.0).await?;
    master.update("wait", TaskRunning).await?;
    agent.kill().await?;
    agent.restart()?;
    master.registered(2).await?;
    let applied = master.lay_out(layout(1, &[("v", 8.0), ("other", 2.0)], &[])).await?;
    ensure!(applied.failures.is_empty(), "{applied:?}");
    let sandboxes = agent.path("work/sandboxes/framework-1/wait");
    let sandbox = fs::read_dir(sandboxes)?.next().context("its sandbox")??.path();
    fs::write(sandbox.join("go"), "")?;
    master.update("wait", TaskFinished).await?;
    let read = "test \"$(cat data/file | tr '\\n' ' ')\" = 'kept more ' && ! touch data/new";
    let read_only = volume("v", 8.0, Mode::Ro);
    master.launch(with_volume("read", read, read_only)).await?;
    master.update("read", TaskFinished).await?;

    // Larger, then smaller than at first.
    for (version, size) in [(2, 16), (3, 4)] {
        let applied = master
            .lay_out(layout(version, &[("v", size as f64), ("other", 2.0)], &[]))
            .await?;
        ensure!(applied.failures.is_empty(), "{applied:?}");
        let id = format!("resized-{size}");
        run(&id, format!("grep -q kept data/file && {command}"), size as f64).await?;
        master.update(&id, TaskFinished).await?;
        fits(&said(&agent, &id).await?, size)?;
    }

    // Only what is destroyed goes, and a volume of the same name is another one.
    let old = place(&agent, "v")?;
    let applied = master
        .lay_out(layout(4, &[("v", 4.0), ("other", 2.0)], &[("v", 4)]))
        .await?;
    ensure!(applied.failures.is_empty(), "{applied:?}");
    ensure!(!old.exists() && place(&agent, "v")? != old && place(&agent, "other")?.exists());
    run("new", "ls data/file 2>&1; ls -A data | wc -l".into(), 4.0).await?;
    master.update("new", TaskFinished).await?;
    ensure!(
        said(&agent, "new").await?.ends_with("\n0\n"),
        "{}",
        said(&agent, "new").await?
    );
    let applied = master.lay_out(layout(5, &[("other", 2.0)], &[("v", 5)])).await?;
    ensure!(applied.failures.is_empty(), "{applied:?}");
    ensure!(
        !agent.path("work/volumes/web%2Fetl/v").exists(),
        "something of it is left"
    );
    ensure!(
        !agent.path("work/volume-images/web%2Fetl/v").exists(),
        "an image is left"
    );
    run("none", "true".into(), 4.0).await?;
    let refused = master.update("none", TaskError).await?;
    ensure!(
        refused.message().contains("the role `web/etl` has no volume `v`"),
        "{refused:?}"
    );

    // What the masters do not name is left alone, and so is what an older layout says.
    master.lay_out(layout(6, &[], &[])).await?;
    ensure!(place(&agent, "other")?.exists());
    let kept = place(&agent, "other")?;
    agent.signal(rustix::process::Signal::USR1)?;
    ensure!(agent.ended().await?.success());
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(
        !mounts.contains(&format!(" {}", agent.path("work/volumes").display())),
        "it has left"
    );
    ensure!(kept.exists());
    Ok(())
}

#[tokio::test]
async fn where_no_kernel_keeps_it_a_task_beyond_its_volume_is_ended() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start_as(&master.address, &["--disk-isolation", "du"])?;
    master.registered(1).await?;
    master.lay_out(layout(1, &[("v", 2.0)], &[])).await?;
    let command = "dd if=/dev/zero of=data/big bs=65536 count=64; while :; do sleep 0.1; done";
    master
        .launch(with_volume("greedy", command, volume("v", 2.0, Mode::Rw)))
        .await?;
    let failed = master.update("greedy", TaskFailed).await?;
    ensure!(failed.reason() == Reason::ContainerLimitationDisk, "{failed:?}");
    let kept = place(&agent, "v")?.join("big");
    until("what it wrote is left", || kept.exists().then_some(())).await
}
