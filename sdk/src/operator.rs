//! Clients of the operator APIs of masters and agents.

use std::time::Duration;

use proffer_proto::api::agent_operator_client::AgentOperatorClient;
use proffer_proto::api::operator_client::OperatorClient as GrpcClient;
use proffer_proto::v1::{FileInfo, FrameworkId, TaskId, agent, master};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::calls::CallError;
use crate::connection::MESSAGE_BYTES_MAX;
use crate::finder::Failed;
use crate::leader::{Connection, Leader};
use crate::masters::{Masters, channel, leader_of};

mod explain;
mod loans;
mod machines;
mod roles;

pub use crate::group::{GroupClient, GroupError};

/// How long a connection to an agent may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the leading master, following it where it changes.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use proffer_sdk::operator::OperatorClient;
///
/// let mut operator = OperatorClient::new("127.0.0.1:5050".parse()?);
/// for agent in operator.get_agents().await?.agents {
///     assert!(agent.active);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct OperatorClient {
    leader: Leader,
    timeout: Duration,
    /// Who answered last.
    address: Option<String>,
}

impl OperatorClient {
    /// Gives up on a call after this time unless told otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// Connects at the first call.
    pub fn new(masters: Masters) -> Self {
        OperatorClient {
            leader: Leader::new(masters),
            timeout: Self::TIMEOUT,
            address: None,
        }
    }

    /// Gives up on a call after this time, in which it looks for the leader.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The address of the master that answered last.
    pub fn leader(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// Makes any call. It is repeated at the next master where one does not lead or does not answer, so a call that
    /// changes something may be carried out although the answer is an error.
    pub async fn submit(&mut self, call: master::Call) -> Result<master::Response, CallError> {
        let tried = tokio::time::timeout(self.timeout, async {
            loop {
                let connection = self.leader.connection().await;
                match attempt(&connection, call.clone()).await {
                    Ok(response) => {
                        self.leader.confirm(&connection).await;
                        self.address = Some(connection.address.clone());
                        return Ok(response);
                    }
                    Err((error, _)) if error.is_rejection() => {
                        self.leader.confirm(&connection).await;
                        return Err(error);
                    }
                    Err((error, failed)) => self.leader.failed(&connection, failed, error.to_string()).await,
                }
            }
        })
        .await;
        match tried {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Disconnected(self.leader.why().await)),
        }
    }

    async fn get(&mut self, kind: master::call::Type) -> Result<master::Response, CallError> {
        self.submit(master::Call {
            r#type: Some(kind.into()),
            ..Default::default()
        })
        .await
    }

    /// The agents, with their resources.
    pub async fn get_agents(&mut self) -> Result<master::response::GetAgents, CallError> {
        let response = self.get(master::call::Type::GetAgents).await?;
        response.get_agents.ok_or_else(|| missing("get_agents"))
    }

    /// The frameworks, with their offers.
    pub async fn get_frameworks(&mut self) -> Result<master::response::GetFrameworks, CallError> {
        let response = self.get(master::call::Type::GetFrameworks).await?;
        response.get_frameworks.ok_or_else(|| missing("get_frameworks"))
    }

    /// The tasks, completed ones too.
    pub async fn get_tasks(&mut self) -> Result<master::response::GetTasks, CallError> {
        let response = self.get(master::call::Type::GetTasks).await?;
        response.get_tasks.ok_or_else(|| missing("get_tasks"))
    }

    /// Agents, frameworks and tasks at one moment.
    pub async fn get_state(&mut self) -> Result<master::response::GetState, CallError> {
        let response = self.get(master::call::Type::GetState).await?;
        response.get_state.ok_or_else(|| missing("get_state"))
    }

    /// The leading master.
    pub async fn get_master(&mut self) -> Result<master::response::GetMaster, CallError> {
        let response = self.get(master::call::Type::GetMaster).await?;
        response.get_master.ok_or_else(|| missing("get_master"))
    }

    /// Ends a framework with all its tasks.
    pub async fn teardown(&mut self, framework_id: FrameworkId) -> Result<(), CallError> {
        let call = master::Call {
            r#type: Some(master::call::Type::Teardown.into()),
            teardown: Some(master::call::Teardown { framework_id }),
            ..Default::default()
        };
        self.submit(call).await.map(drop)
    }

    /// Ends one task of a framework.
    pub async fn kill_task(&mut self, framework_id: FrameworkId, task_id: TaskId) -> Result<(), CallError> {
        let call = master::Call {
            r#type: Some(master::call::Type::KillTask.into()),
            kill_task: Some(master::call::KillTask {
                framework_id,
                task_id,
                ..Default::default()
            }),
            ..Default::default()
        };
        self.submit(call).await.map(drop)
    }
}

async fn attempt(connection: &Connection, call: master::Call) -> Result<master::Response, (CallError, Failed)> {
    let mut client = GrpcClient::new(connection.line.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    match tokio::time::timeout(connection.answer_timeout, client.submit(call)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        // An operator has no subscription: what fails a precondition cannot be done as things are.
        Ok(Err(status)) if status.code() == Code::FailedPrecondition => Err((
            CallError::Rejected(status.message().to_owned()),
            Failed::NotLeading(None),
        )),
        Ok(Err(status)) => Err((CallError::from_status(&status), Failed::NotLeading(leader_of(&status)))),
        Err(_) => {
            let error = CallError::Disconnected(format!("{} does not answer", connection.address));
            Err((error, Failed::Silent))
        }
    }
}

/// Asks one agent.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use proffer_sdk::operator::AgentClient;
///
/// let mut agent = AgentClient::connect("127.0.0.1:5051").await?;
/// let file = agent.read_file("/sandbox/stdout", 0, Some(4096)).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct AgentClient {
    client: AgentOperatorClient<Channel>,
    /// `Bearer` and the agent's token.
    authorization: Option<MetadataValue<Ascii>>,
}

impl AgentClient {
    /// Connects to the agent at `host:port`.
    pub async fn connect(address: &str) -> Result<Self, CallError> {
        let channel = channel(address, CONNECT_TIMEOUT)
            .await
            .map_err(CallError::Disconnected)?;
        Ok(AgentClient {
            client: AgentOperatorClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
            authorization: None,
        })
    }

    /// Sends the agent's token along, which it wants for calls about what goes on inside containers.
    ///
    /// # Errors
    /// The token is not visible ASCII.
    pub fn token(mut self, token: &str) -> Result<Self, CallError> {
        let value = MetadataValue::try_from(format!("Bearer {}", token.trim()));
        let value = value.map_err(|_| CallError::Rejected("the token is not visible ASCII text".into()))?;
        self.authorization = Some(value);
        Ok(self)
    }

    /// Makes any call.
    pub async fn submit(&mut self, call: agent::Call) -> Result<agent::Response, CallError> {
        let request = self.request(call);
        let answer = self.client.submit(request).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| CallError::from_status(&status))
    }

    /// Makes a call that is answered by a stream: `LAUNCH_NESTED_CONTAINER_SESSION` or `ATTACH_CONTAINER_OUTPUT`. What is not
    /// taken from the stream is not sent; a session ends with its stream.
    pub async fn output(&mut self, call: agent::Call) -> Result<Streaming<agent::ProcessIo>, CallError> {
        let request = self.request(call);
        let answer = self.client.output(request).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| CallError::from_status(&status))
    }

    /// `ATTACH_CONTAINER_INPUT`: the first call names the container, the others are its input. Returns when the stream has ended,
    /// here or there.
    pub async fn input(
        &mut self,
        calls: impl tokio_stream::Stream<Item = agent::Call> + Send + 'static,
    ) -> Result<(), CallError> {
        let request = self.request(calls);
        let answer = self.client.input(request).await;
        answer.map(drop).map_err(|status| CallError::from_status(&status))
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }

    /// The agent's flags, by name.
    pub async fn get_flags(&mut self) -> Result<agent::response::GetFlags, CallError> {
        let response = self.get(agent::call::Type::GetFlags).await?;
        response.get_flags.ok_or_else(|| missing("get_flags"))
    }

    async fn get(&mut self, kind: agent::call::Type) -> Result<agent::Response, CallError> {
        self.submit(agent::Call {
            r#type: Some(kind.into()),
            ..Default::default()
        })
        .await
    }

    /// Reads a part of a file; the answer tells the size of the whole file.
    pub async fn read_file(
        &mut self,
        path: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<agent::response::ReadFile, CallError> {
        let path = path.to_owned();
        let call = agent::Call {
            r#type: Some(agent::call::Type::ReadFile.into()),
            read_file: Some(agent::call::ReadFile { path, offset, length }),
            ..Default::default()
        };
        self.submit(call).await?.read_file.ok_or_else(|| missing("read_file"))
    }

    /// Lists a directory.
    pub async fn list_files(&mut self, path: &str) -> Result<Vec<FileInfo>, CallError> {
        let path = path.to_owned();
        let call = agent::Call {
            r#type: Some(agent::call::Type::ListFiles.into()),
            list_files: Some(agent::call::ListFiles { path }),
            ..Default::default()
        };
        let response = self.submit(call).await?;
        response
            .list_files
            .map(|list| list.file_infos)
            .ok_or_else(|| missing("list_files"))
    }

    /// The containers, with their use of resources.
    pub async fn get_containers(&mut self) -> Result<agent::response::GetContainers, CallError> {
        let response = self.get(agent::call::Type::GetContainers).await?;
        response.get_containers.ok_or_else(|| missing("get_containers"))
    }

    /// The tasks.
    pub async fn get_tasks(&mut self) -> Result<agent::response::GetTasks, CallError> {
        let response = self.get(agent::call::Type::GetTasks).await?;
        response.get_tasks.ok_or_else(|| missing("get_tasks"))
    }

    /// The agent itself.
    pub async fn get_agent(&mut self) -> Result<agent::response::GetAgent, CallError> {
        let response = self.get(agent::call::Type::GetAgent).await?;
        response.get_agent.ok_or_else(|| missing("get_agent"))
    }
}

fn missing(field: &str) -> CallError {
    CallError::Disconnected(format!("the answer lacks `{field}`"))
}
