//! What a task tries through the agent's port, which it reaches as every process of the host does.

use anyhow::ensure;
use proffer_proto::v1;
use proffer_proto::v1::TaskState::{TaskFinished, TaskRunning};

mod support;
use support::{AgentProcess, FRAMEWORK, FakeMaster, can_contain, read_file, shell};

/// Asks in plain HTTP with bash alone; prints the status line, and `leaked` where the secret is in the answer.
const ASK: &str = r#"
ask() {
  exec 3<>/dev/tcp/$host/$port
  printf '%s\r\nHost: a\r\nConnection: close\r\n' "$1" >&3
  [ -n "$3" ] && printf 'Authorization: Bearer %s\r\n' "$3" >&3
  printf 'Content-Type: %s\r\nContent-Length: %d\r\n\r\n%s' "${4:-application/json}" ${#2} "$2" >&3
  read -r status <&3; printf '%s: %s\n' "$1" "${status%$'\r'}"
  while read -r line <&3 || [ -n "$line" ]; do case $line in *hidden*|*victim*) echo leaked: $line;; esac; done
  exec 3>&-
}
"#;

#[tokio::test]
async fn a_task_sees_nothing_of_others_through_the_agent() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    if !std::path::Path::new("/bin/bash").exists() {
        eprintln!("skipped: the host has no bash");
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    master.launch(shell("victim", "echo hidden; exec sleep 1000")).await?;
    master.update("victim", TaskRunning).await?;
    let address = std::fs::read_to_string(agent.path("address"))?;
    let (host, port) = address.rsplit_once(':').expect("an address");
    let token = std::fs::read_to_string(agent.path("work/token"))?;
    let sandbox = format!("/frameworks/{FRAMEWORK}/executors/victim/runs/latest");
    let script = format!(
        r#"host={host} port={port}; {ASK}
for path in 'read?path={sandbox}/stdout' 'download?path={sandbox}/stdout' 'follow?path={sandbox}/stdout' 'browse?path={sandbox}'; do
  ask "GET /files/$path HTTP/1.1"
done
for call in READ_FILE LIST_FILES GET_STATE GET_TASKS GET_CONTAINERS GET_FLAGS GET_METRICS; do
  ask "POST /api/v1 HTTP/1.1" '{{"type":"'$call'","read_file":{{"path":"{sandbox}/stdout","offset":0}},"list_files":{{"path":"{sandbox}"}}}}'
done
ask "POST /proffer.api.v1.AgentOperator/Submit HTTP/1.1" '' '' application/grpc
# A path that only looks like one of those that are open.
ask "GET /health/../files/read?path={sandbox}/stdout HTTP/1.1"
ask "GET /api/v1/executor/../../../files/read?path={sandbox}/stdout HTTP/1.1"
ask "GET //files/read?path={sandbox}/stdout HTTP/1.1"
(setsid bash -c 'exec 3<>/dev/tcp/'$host/$port'; printf "GET /files/read?path={sandbox}/stdout HTTP/1.0\r\n\r\n" >&3; read -r status <&3; echo "a session of its own: $status"') < /dev/null
echo open
ask "GET /health HTTP/1.1"
ask "GET /files/read?path={sandbox}/stdout HTTP/1.1" '' {token}"#,
        token = token.trim(),
    );
    let mut intruder = shell("intruder", "");
    intruder.command = Some(v1::CommandInfo {
        shell: Some(false),
        value: Some("/bin/bash".into()),
        arguments: vec!["bash".into(), "-c".into(), script],
        ..Default::default()
    });
    master.launch(intruder).await?;
    master.update("intruder", TaskFinished).await?;
    // Who is in no container needs no token, as `proffer logs` on the agent's host.
    let said = agent.call(read_file("intruder", "stdout")).await?;
    let said = String::from_utf8(said.read_file.unwrap_or_default().data)?;
    let (refused, open) = said.split_once("open\n").unwrap_or_default();
    ensure!(refused.lines().count() == 16 && !refused.contains("leaked"), "{said}");
    for line in refused.lines() {
        let is_refused = [" 401 ", " 400 ", " 404 "].iter().any(|status| line.contains(status));
        // An error of gRPC is told after a status that says nothing.
        ensure!(
            is_refused || line.contains("AgentOperator") && line.ends_with(" 200 OK"),
            "{line}"
        );
    }
    let unauthorized = refused.lines().filter(|line| line.contains(" 401 ")).count();
    ensure!(unauthorized >= 12, "{said}");
    let open: Vec<_> = open.lines().collect();
    ensure!(
        open.len() == 3 && open[0].ends_with("200 OK") && open[1].ends_with("200 OK"),
        "{said}"
    );
    ensure!(
        open[2].contains("leaked") && open[2].contains("hidden"),
        "who has the token may: {said}"
    );
    Ok(())
}
