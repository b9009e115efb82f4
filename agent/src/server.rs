//! The agent's port: gRPC `AgentOperator`, the same calls over HTTP at `/api/v1`, `/files` and `/health`.
//!
//! What a container's processes may ask for without the agent's token: `/health`, and the calls of executors, which have tokens of
//! their own.

pub(crate) mod caller;
mod containers;
mod downloads;
mod streams;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response as HttpResponse};
use proffer_proto::api::agent_operator_server::{AgentOperator, AgentOperatorServer};
use proffer_proto::v1;
use proffer_proto::v1::agent::call::Type;
use proffer_proto::v1::agent::{Call, Response, response};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use self::caller::Caller;
use crate::checkpoint::layout::{BadId, Layout};
use crate::containerizer::ContainerId;
use crate::core::{Core, Executor, ExecutorName, Task, TaskName};
use crate::driver::Event;
use crate::fetcher;
use crate::launcher::Launcher;
use crate::sandbox::files;
use crate::sessions::secret::Secret;
use crate::sessions::{Sessions, TaskInputs};
use crate::{executor_api, statistics};

/// The largest call.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Answers the operator's calls.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) inputs: Arc<TaskInputs>,
    /// What callers need for what goes on inside containers.
    pub(crate) secret: Secret,
}

/// The routes of the port.
pub(crate) fn router(api: Api) -> axum::Router {
    let grpc = tonic::service::Routes::new(AgentOperatorServer::new(api.clone()));
    let router = grpc
        .into_axum_router()
        .merge(executor_api::router(api.events.clone()))
        .route("/health", axum::routing::get(|| async { "OK" }))
        .route("/api/v1", axum::routing::post(over_http).with_state(api.clone()));
    let router = downloads::routes(router, &api);
    router.layer(axum::middleware::from_fn_with_state(api, guard))
}

/// Lets those inside containers not see what the agent says of others.
async fn guard(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
    next: Next,
) -> HttpResponse {
    let path = request.uri().path();
    let is_open = path == "/health" || executor_api::is_own(path);
    if is_open || !caller.is_contained(api.launcher.containerizer.tree()) {
        return next.run(request).await;
    }
    let authorization = request.headers().get(header::AUTHORIZATION);
    if api.secret.check(authorization.map(|value| value.as_bytes())).is_ok() {
        return next.run(request).await;
    }
    let status = Status::unauthenticated(
        "authorization: callers in containers of this agent, and those of this host of whom the kernel does not say whether they \
         are (it takes Linux 5.8 and the module inet_diag), need `Bearer` and the agent's token, which is in the file that its flag \
         `token-file` names",
    );
    match is_grpc(request.headers()) {
        true => status.into_http(),
        false => refusal(&status),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

#[tonic::async_trait]
impl AgentOperator for Api {
    async fn submit(&self, request: tonic::Request<Call>) -> Result<tonic::Response<Response>, Status> {
        self.authorize(request.get_ref().r#type(), streams::bearer(request.metadata()))?;
        self.answer(request.into_inner()).await.map(tonic::Response::new)
    }

    type OutputStream = streams::Messages;

    async fn output(&self, request: tonic::Request<Call>) -> Result<tonic::Response<Self::OutputStream>, Status> {
        self.authorize(request.get_ref().r#type(), streams::bearer(request.metadata()))?;
        let outbound = self.stream(request.into_inner()).await?;
        Ok(tonic::Response::new(streams::messages(outbound)))
    }

    async fn input(
        &self,
        request: tonic::Request<tonic::Streaming<Call>>,
    ) -> Result<tonic::Response<Response>, Status> {
        self.authorize(Type::AttachContainerInput, streams::bearer(request.metadata()))?;
        self.feed(request.into_inner()).await?;
        Ok(tonic::Response::new(Response::default()))
    }
}

async fn over_http(State(api): State<Api>, headers: HeaderMap, body: axum::body::Body) -> HttpResponse {
    if streams::is_streamed(&headers) {
        return streams::feed_over_http(&api, &headers, body).await;
    }
    let body = match axum::body::to_bytes(body, BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) => {
            return (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body cannot be read: {error}"),
            )
                .into_response();
        }
    };
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let is_json = match kind {
        "application/json" => true,
        "application/x-protobuf" => false,
        _ => {
            let text = "Content-Type: application/json or application/x-protobuf is accepted";
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
        }
    };
    let call = match is_json {
        true => proffer_proto::json::from_slice::<Call>(&body).map_err(|error| error.to_string()),
        false => proffer_proto::required::decode::<Call>(body).map_err(|error| error.to_string()),
    };
    let call = call.map_err(Status::invalid_argument).and_then(|call| {
        let authorization = headers.get(header::AUTHORIZATION);
        api.authorize(call.r#type(), authorization.map(|value| value.as_bytes()))?;
        Ok(call)
    });
    let answer = match call {
        Ok(call) if streams::is_output(&call) => return streams::output_over_http(&api, &headers, call).await,
        Ok(call) => api.answer(call).await,
        Err(status) => Err(status),
    };
    match answer {
        Ok(response) if is_json => (
            [(header::CONTENT_TYPE, "application/json")],
            proffer_proto::json::to_vec(&response),
        )
            .into_response(),
        Ok(response) => (
            [(header::CONTENT_TYPE, "application/x-protobuf")],
            response.encode_to_vec(),
        )
            .into_response(),
        Err(status) => refusal(&status),
    }
}

fn refusal(status: &Status) -> HttpResponse {
    (http_status(status.code()), status.message().to_owned()).into_response()
}

fn http_status(code: tonic::Code) -> StatusCode {
    match code {
        tonic::Code::InvalidArgument => StatusCode::BAD_REQUEST,
        tonic::Code::NotFound => StatusCode::NOT_FOUND,
        tonic::Code::PermissionDenied => StatusCode::FORBIDDEN,
        tonic::Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        tonic::Code::AlreadyExists | tonic::Code::Aborted | tonic::Code::FailedPrecondition => StatusCode::CONFLICT,
        tonic::Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        tonic::Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        tonic::Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Api {
    #[allow(deprecated, reason = "some calls have two names")]
    async fn answer(&self, call: Call) -> Result<Response, Status> {
        let kind = call.r#type();
        let mut answer = Response::default();
        match kind {
            Type::GetHealth => {
                // Answered by the loop: healthy means that it turns.
                let healthy = self.inspect(|_| true).await?;
                answer.get_health = Some(response::GetHealth { healthy });
            }
            Type::GetVersion => {
                let version_info = v1::VersionInfo {
                    version: env!("CARGO_PKG_VERSION").into(),
                    ..Default::default()
                };
                answer.get_version = Some(response::GetVersion { version_info });
            }
            Type::GetFlags => answer.get_flags = Some(self.flags()),
            Type::GetAgent => {
                let agent_info = Some(self.inspect(Core::agent_info).await?);
                answer.get_agent = Some(response::GetAgent {
                    agent_info,
                    ..Default::default()
                });
            }
            Type::GetTasks => answer.get_tasks = Some(self.inspect(tasks).await?),
            Type::GetFrameworks => answer.get_frameworks = Some(self.inspect(frameworks).await?),
            Type::GetExecutors => answer.get_executors = Some(self.inspect(executors).await?),
            Type::GetOperations => answer.get_operations = Some(response::GetOperations::default()),
            Type::GetState => {
                let look = |core: &Core| (tasks(core), frameworks(core), executors(core));
                let (tasks, frameworks, executors) = self.inspect(look).await?;
                let get_executors = Some(executors);
                let state = response::GetState {
                    get_tasks: Some(tasks),
                    get_executors,
                    get_frameworks: Some(frameworks),
                };
                answer.get_state = Some(state);
            }
            Type::GetContainers => answer.get_containers = Some(self.containers().await?),
            Type::GetMetrics => {
                let mut metrics = self.inspect(metrics).await?;
                metrics.metrics.extend(fetcher_metrics(self.launcher.fetcher.figures()));
                answer.get_metrics = Some(metrics);
            }
            Type::ListFiles => answer.list_files = Some(self.list_files(call).await?),
            Type::ReadFile => answer.read_file = Some(self.read_file(call).await?),
            Type::WaitNestedContainer | Type::WaitContainer => self.wait_container(call, &mut answer).await?,
            Type::KillNestedContainer | Type::KillContainer => self.kill_container(call)?,
            Type::RemoveNestedContainer | Type::RemoveContainer => self.remove_container(call)?,
            Type::Unknown => return Err(Status::invalid_argument("type: must be one of the agent's calls")),
            other => {
                return Err(Status::unimplemented(format!(
                    "type: {} is not supported yet",
                    other.as_str_name()
                )));
            }
        }
        let kind = response::Type::from_str_name(kind.as_str_name()).unwrap_or(response::Type::Unknown);
        answer.set_type(kind);
        Ok(answer)
    }

    async fn inspect<T: Send + 'static>(&self, look: impl FnOnce(&Core) -> T + Send + 'static) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        let event = Event::Inspect(Box::new(move |core| drop(answer.send(look(core)))));
        let stopping = || Status::unavailable("the agent is stopping");
        self.events.send(event).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())
    }

    fn flags(&self) -> response::GetFlags {
        let flags = self.launcher.config.flags();
        let flags = flags.into_iter().map(|(name, value)| v1::Flag {
            name: name.to_owned(),
            value: Some(value),
        });
        response::GetFlags { flags: flags.collect() }
    }

    async fn containers(&self) -> Result<response::GetContainers, Status> {
        let running = self.inspect(|core| {
            let alive = core.tasks().filter(|(_, task)| task.is_alive() && !task.is_entrusted());
            let tasks = alive.map(|(name, task)| Listed::task(name, task));
            let custom = core.executors().filter(|(_, executor)| !executor.is_pod());
            let executors = custom.map(|(name, executor)| Listed::executor(core, name, executor));
            tasks.chain(executors).collect::<Vec<_>>()
        });
        let (running, launcher) = (running.await?, Arc::clone(&self.launcher));
        let containers = blocking(move || {
            let show = |listed: &Listed| {
                let usage = launcher.containerizer.usage(&listed.container).unwrap_or_default();
                let sandbox = listed.sandbox(&launcher.layout);
                let disk_used_bytes = sandbox.ok().and_then(|path| launcher.disk.used(&path).ok()?);
                listed.to_wire(statistics::of(
                    &listed.resources,
                    &listed.limits,
                    &usage,
                    disk_used_bytes,
                ))
            };
            running.iter().map(show).collect()
        });
        Ok(response::GetContainers {
            containers: containers.await?,
        })
    }

    async fn list_files(&self, call: Call) -> Result<response::ListFiles, Status> {
        let call = call
            .list_files
            .ok_or_else(|| Status::invalid_argument("list_files: must be set"))?;
        let launcher = Arc::clone(&self.launcher);
        let listed = blocking(move || launcher.look(&call.path, |layout| files::list(layout, &call.path))).await?;
        Ok(response::ListFiles {
            file_infos: listed.map_err(file_status)?,
        })
    }

    async fn read_file(&self, call: Call) -> Result<response::ReadFile, Status> {
        let call = call
            .read_file
            .ok_or_else(|| Status::invalid_argument("read_file: must be set"))?;
        let launcher = Arc::clone(&self.launcher);
        let read = blocking(move || {
            launcher.look(&call.path, |layout| {
                files::read(layout, &call.path, call.offset, call.length)
            })
        });
        let read = read.await?;
        let files::Part { size, kept_from, data } = read.map_err(file_status)?;
        Ok(response::ReadFile { size, data, kept_from })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Status::internal("the call failed"))
}

fn file_status(error: files::Error) -> Status {
    let text = error.to_string();
    match error {
        files::Error::NotFound(_) => Status::not_found(text),
        files::Error::Refused { .. } => Status::permission_denied(text),
        files::Error::Path(_) | files::Error::Id(_) => Status::invalid_argument(text),
    }
}

fn tasks(core: &Core) -> response::GetTasks {
    let mut answer = response::GetTasks::default();
    for (name, task) in core.tasks() {
        let list = match (task.is_alive(), task.pid()) {
            (true, Some(_)) => &mut answer.launched_tasks,
            (true, None) if task.latest != v1::TaskState::TaskStaging => &mut answer.launched_tasks,
            (true, None) => &mut answer.queued_tasks,
            (false, _) => &mut answer.terminated_tasks,
        };
        list.push(task.wire(name, None));
    }
    answer
}

fn executors(core: &Core) -> response::GetExecutors {
    let of = |executor: &Executor| response::get_executors::Executor {
        executor_info: executor.info.clone(),
    };
    response::GetExecutors {
        executors: core.executors().map(|(_, executor)| of(executor)).collect(),
        completed_executors: Vec::new(),
    }
}

fn frameworks(core: &Core) -> response::GetFrameworks {
    let frameworks = core.frameworks().cloned();
    let frameworks = frameworks.map(|framework_info| response::get_frameworks::Framework { framework_info });
    response::GetFrameworks {
        frameworks: frameworks.collect(),
        completed_frameworks: Vec::new(),
    }
}

fn metrics(core: &Core) -> response::GetMetrics {
    let alive = core.tasks().filter(|(_, task)| task.is_alive()).count();
    let unacknowledged: usize = core.tasks().map(|(_, task)| task.updates.len()).sum();
    let metric = |name: &str, value: f64| v1::Metric {
        name: name.to_owned(),
        value: Some(value),
    };
    let metrics = vec![
        metric("agent/registered", f64::from(u8::from(core.is_registered()))),
        metric("agent/tasks_alive", alive as f64),
        metric("agent/tasks_known", core.tasks().count() as f64),
        metric("agent/updates_unacknowledged", unacknowledged as f64),
    ];
    response::GetMetrics { metrics }
}

/// With the names of Mesos, where it has them.
fn fetcher_metrics(figures: fetcher::Figures) -> Vec<v1::Metric> {
    let held = figures.held;
    [
        ("containerizer/fetcher/task_fetches_running", figures.running),
        ("containerizer/fetcher/task_fetches_succeeded", figures.succeeded),
        ("containerizer/fetcher/task_fetches_failed", figures.failed),
        ("containerizer/fetcher/downloaded_bytes", figures.bytes),
        ("containerizer/fetcher/cache_entries", held.entries),
        ("containerizer/fetcher/cache_size_used_bytes", held.bytes),
        ("containerizer/fetcher/cache_size_total_bytes", held.bytes_max),
    ]
    .map(|(name, value)| v1::Metric {
        name: name.to_owned(),
        value: Some(value as f64),
    })
    .to_vec()
}

/// A container as GET_CONTAINERS lists it.
struct Listed {
    container: ContainerId,
    framework: String,
    executor: String,
    /// None for an executor.
    task: Option<String>,
    name: String,
    pid: Option<u32>,
    resources: Vec<v1::Resource>,
    limits: BTreeMap<String, v1::value::Scalar>,
}

impl Listed {
    fn task(name: &TaskName, task: &Task) -> Self {
        Self {
            container: task.container.clone(),
            framework: name.framework.clone(),
            executor: task.executor.clone().unwrap_or_else(|| name.task.clone()),
            task: Some(name.task.clone()),
            name: task.info.name.clone(),
            pid: task.pid(),
            resources: task.info.resources.clone(),
            limits: task.info.limits.clone(),
        }
    }

    /// With what its tasks bring.
    fn executor(core: &Core, name: &ExecutorName, executor: &Executor) -> Self {
        let parts = core.size(name).map_or_else(Vec::new, |size| size.parts);
        Self {
            container: executor.container.clone(),
            framework: name.framework.clone(),
            executor: name.executor.clone(),
            task: None,
            name: executor.info.name.clone().unwrap_or_else(|| name.executor.clone()),
            pid: executor.pid(),
            resources: parts.into_iter().flat_map(|part| part.resources).collect(),
            limits: BTreeMap::new(),
        }
    }

    fn sandbox(&self, layout: &Layout) -> Result<PathBuf, BadId> {
        match (self.container.pod(), &self.task) {
            (Some(pod), Some(task)) => layout.task_in_pod(&self.framework, &self.executor, pod.as_str(), task),
            _ => layout.sandbox(&self.framework, &self.executor, self.container.as_str()),
        }
    }

    fn to_wire(&self, statistics: v1::ResourceStatistics) -> response::get_containers::Container {
        let id = self.container.to_wire();
        response::get_containers::Container {
            framework_id: Some(v1::FrameworkId::from(self.framework.as_str())),
            executor_id: Some(v1::ExecutorId::from(self.executor.as_str())),
            executor_name: Some(self.name.clone()),
            container_id: id.clone(),
            container_status: Some(v1::ContainerStatus {
                container_id: Some(id),
                executor_pid: self.pid,
                ..Default::default()
            }),
            resource_statistics: Some(statistics),
        }
    }
}
