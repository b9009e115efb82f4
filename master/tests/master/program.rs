//! The master as a program.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use proffer_proto::api::operator_client::OperatorClient;
use proffer_proto::api::scheduler_client::SchedulerClient;
use proffer_proto::v1::master::{Call, call};

use crate::common::{PATIENCE, framework, subscribed};

/// A running program; killed when dropped.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    async fn start(directory: &Path) -> anyhow::Result<Self> {
        let address_file = directory.join("address");
        let _ = std::fs::remove_file(&address_file);
        let log = std::fs::File::create(directory.join("stderr"))?;
        let child = Command::new(env!("CARGO_BIN_EXE_proffer-master"))
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .arg("--work-dir")
            .arg(directory.join("work"))
            .arg("--address-file")
            .arg(&address_file)
            .stderr(Stdio::from(log))
            .spawn()?;
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut program = Self {
            child,
            address: unknown,
        };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(address) = std::fs::read_to_string(&address_file) {
                program.address = address.parse()?;
                return Ok(program);
            }
            if let Some(status) = program.child.try_wait()? {
                anyhow::bail!("{status}: {}", std::fs::read_to_string(directory.join("stderr"))?);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::bail!("the master does not serve")
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn signalled(mut self, signal: rustix::process::Signal) -> anyhow::Result<ExitStatus> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            anyhow::ensure!(Instant::now() < deadline, "the master does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_killed_master_forgets_nothing_and_a_second_one_is_refused() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let master = Program::start(directory.path()).await?;
    let mut client = SchedulerClient::connect(master.url()).await?;
    let framework = subscribed(&mut client, framework("durable", 3600.0)).await?;

    let refused = Command::new(env!("CARGO_BIN_EXE_proffer-master"))
        .args(["--listen", "127.0.0.1:0", "--work-dir"])
        .arg(directory.path().join("work"))
        .output()?;
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    anyhow::ensure!(
        !refused.status.success() && message.contains("another master runs"),
        "{message}"
    );

    master.signalled(rustix::process::Signal::KILL).await?;
    let master = Program::start(directory.path()).await?;
    let call = Call {
        r#type: Some(call::Type::GetFrameworks as i32),
        ..Call::default()
    };
    let mut operator = OperatorClient::connect(master.url()).await?;
    let response = operator.submit(call).await?.into_inner();
    let known = response.get_frameworks.unwrap_or_default().frameworks;
    let known: Vec<_> = known
        .into_iter()
        .filter_map(|framework| framework.framework_info.id)
        .collect();
    anyhow::ensure!(known == [framework.id], "{known:?}");

    let status = master.signalled(rustix::process::Signal::TERM).await?;
    anyhow::ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_setting_ends_the_program_with_its_name() -> anyhow::Result<()> {
    let refused = Command::new(env!("CARGO_BIN_EXE_proffer-master"))
        .args(["--listen", "nowhere"])
        .output()?;
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    anyhow::ensure!(refused.status.code() == Some(1), "{}", refused.status);
    anyhow::ensure!(message.contains("listen is \"nowhere\""), "{message}");
    Ok(())
}
