//! `proffer exec` as a person and a program use it, in a real terminal too.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::ensure;
use proffer_proto::v1::{ContainerInfo, TaskState, TtyInfo, container_info};
use proffer_tests::cluster::built;
use proffer_tests::{Cluster, DEADLINE, place, require_isolation};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::{shell, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_runs_in_the_container_of_a_task() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("exec").start().await?;
    let master = cluster.masters().to_string();
    let mut framework = cluster.framework("entered").await?;
    let offer = framework.next_offer().await?;
    let task = framework
        .launch(
            offer,
            shell("echo made by the task > mark; exec sleep 1000").with_id("entered"),
        )
        .await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    let proffer = || {
        let mut command = Command::new(built("proffer-under-test")?);
        command
            .env("PROFFER_MASTER", &master)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        anyhow::Ok(command)
    };

    // Without a terminal: three streams, the end of the input, the exit code.
    let script = "cat mark; cat; echo $COLOUR; echo problem >&2; exit 42";
    let mut command = proffer()?;
    command.args(["exec", "-i", "-e", "COLOUR=green", "entered", "--", "sh", "-c", script]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().expect("piped");
    input.write_all(b"typed\n").await?;
    drop(input);
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await??;
    let text = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(text == "made by the task\ntyped\ngreen\n", "{text:?} {errors}");
    ensure!(errors == "problem\n", "{errors}");
    ensure!(output.status.code() == Some(42), "{:?}", output.status);

    // Signals are passed on, and what ends by one is told as shells tell it.
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = proffer()?
        .args(["exec", "entered", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = tokio::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    tokio::time::timeout(DEADLINE, tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line)).await??;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().expect("it runs"))?).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let status = tokio::time::timeout(DEADLINE, child.wait()).await??;
    ensure!(line == "ready\n" && status.code() == Some(7), "{line} {status:?}");
    let killed = proffer()?
        .args(["exec", "entered", "--", "sh", "-c", "kill -9 $$"])
        .output()
        .await?;
    ensure!(killed.status.code() == Some(137), "{killed:?}");

    // What cannot be run says why.
    let cases: [(&[&str], i32, &str); 4] = [
        (&["exec", "nothing", "--", "true"], 4, "no task is named"),
        (
            &["exec", "entered", "--", "/no/such/program"],
            5,
            "execute /no/such/program",
        ),
        (
            &["exec", "--token-file", "/dev/null", "entered", "--", "true"],
            5,
            "not the agent's token",
        ),
        (
            &["exec", "--token-file", "/no/such/file", "entered", "--", "true"],
            5,
            "/no/such/file",
        ),
    ];
    for (arguments, code, text) in cases {
        let output = proffer()?.args(arguments).output().await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(code) && said.contains(text),
            "{arguments:?}: {said} {:?}",
            output.status
        );
    }
    cluster.stop().await
}

/// `script` (util-linux) gives the command a terminal of its own, in which other programs run before and after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_as_if_it_were_here() -> anyhow::Result<()> {
    require_isolation!();
    if !std::path::Path::new("/usr/bin/script").exists() {
        eprintln!("skipped: the host has no `script`");
        return Ok(());
    }
    let mut cluster = Cluster::builder("exec_terminal").start().await?;
    let master = cluster.masters().to_string();
    let mut framework = cluster.framework("entered").await?;
    let offer = framework.next_offer().await?;
    let task = framework
        .launch(offer, shell("exec sleep 1000").with_id("entered"))
        .await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    // The size is taken along and follows; an interrupt typed here is one there; afterwards the terminal is as it was.
    let inside = "trap 'echo size $(stty size)' WINCH; trap 'echo interrupted; exit 9' INT; tty; echo size $(stty size); \
                  while :; do sleep 0.05; done";
    let around = format!(
        "stty rows 33 cols 77; stty -g > before; {} exec -it entered -- sh -c \"$INSIDE\"; echo code $?; stty -g > after; \
         cmp before after && echo restored",
        built("proffer-under-test")?.display()
    );
    let directory = tempfile::tempdir()?;
    let mut child = Command::new("/usr/bin/script")
        .args(["-q", "-f", "-c", &around, "typescript"])
        .current_dir(directory.path())
        .env("PROFFER_MASTER", &master)
        .env("INSIDE", inside)
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let seen = || std::fs::read_to_string(directory.path().join("typescript")).unwrap_or_default();
    until("the terminal is there", async || Ok(seen().contains("size 33 77"))).await?;
    ensure!(seen().contains("/dev/pts/"), "{}", seen());
    // The pid of the command's shell is not ours to know, but its terminal is the only one that `script` holds.
    let script = child.id().expect("it runs");
    let terminal = terminal_below(script)?;
    let size = rustix::termios::Winsize {
        ws_row: 44,
        ws_col: 88,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(std::fs::File::open(terminal)?, size)?;
    until("the size follows", async || Ok(seen().contains("size 44 88"))).await?;
    let mut input = child.stdin.take().expect("piped");
    input.write_all(&[3]).await?;
    until("the terminal is restored", async || {
        Ok(seen().lines().any(|line| line.trim() == "restored"))
    })
    .await?;
    ensure!(
        seen().contains("interrupted") && seen().contains("code 9"),
        "{}",
        seen()
    );
    drop(input);
    tokio::time::timeout(DEADLINE, child.wait()).await??;
    cluster.stop().await
}

/// What is typed reaches a task's own terminal; the keys end the attachment and not the task; its end is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_attached_to_and_left() -> anyhow::Result<()> {
    require_isolation!();
    if !std::path::Path::new("/usr/bin/script").exists() {
        eprintln!("skipped: the host has no `script`");
        return Ok(());
    }
    let mut cluster = Cluster::builder("attach").start().await?;
    let master = cluster.masters().to_string();
    let mut framework = cluster.framework("attached").await?;
    let offer = framework.next_offer().await?;
    let attached = shell("while read word; do echo \"<$word>\"; done").with_id("attached");
    let mut task = attached.clone().at(&place(&offer, &attached)?);
    task.container = Some(Box::new(ContainerInfo {
        r#type: container_info::Type::Mesos.into(),
        tty_info: Some(TtyInfo::default()),
        ..ContainerInfo::default()
    }));
    framework.launch_infos(&offer, vec![task.clone()]).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    let directory = tempfile::tempdir()?;
    let binary = built("proffer-under-test")?;
    let start = |name: &str| {
        let around = format!("{} attach attached; echo code $?", binary.display());
        Command::new("/usr/bin/script")
            .args(["-q", "-f", "-c", &around, name])
            .current_dir(directory.path())
            .env("PROFFER_MASTER", &master)
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    };
    let seen = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap_or_default();
    let mut first = start("first")?;
    let mut input = first.stdin.take().expect("piped");
    // Until it is attached the keys are echoed here.
    until_typed(&mut input, "hello\n", || seen("first").contains("<hello>")).await?;
    input.write_all(&[16]).await?;
    input.write_all(&[17]).await?;
    until("it is detached", async || {
        Ok(seen("first").contains("runs on") && seen("first").contains("code 0"))
    })
    .await?;
    drop(input);
    tokio::time::timeout(DEADLINE, first.wait()).await??;

    let mut second = start("second")?;
    let mut input = second.stdin.take().expect("piped");
    until_typed(&mut input, "again\n", || seen("second").contains("<again>")).await?;
    // The end of the input, at the beginning of a line.
    input.write_all(&[4]).await?;
    framework.wait_for(&task, TaskState::TaskFinished).await?;
    until("the end is told", async || Ok(seen("second").contains("code 0"))).await?;
    drop(input);
    tokio::time::timeout(DEADLINE, second.wait()).await??;
    cluster.stop().await
}

/// Types again and again until it is seen.
async fn until_typed(
    input: &mut tokio::process::ChildStdin,
    text: &str,
    seen: impl Fn() -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !seen() {
        ensure!(Instant::now() < deadline, "in vain: {text:?}");
        input.write_all(text.as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// The terminal of a process that `script` started.
fn terminal_below(script: u32) -> anyhow::Result<std::path::PathBuf> {
    let children = std::fs::read_to_string(format!("/proc/{script}/task/{script}/children"))?;
    let child = children.split_whitespace().next();
    let child = child.ok_or_else(|| anyhow::anyhow!("`script` has no child"))?;
    Ok(std::fs::read_link(format!("/proc/{child}/fd/0"))?)
}
