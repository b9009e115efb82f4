//! The typed calls of a subscribed framework.

use std::sync::Arc;

use proffer_proto::api::scheduler_client::SchedulerClient;
use proffer_proto::calls as wire;
use proffer_proto::state::Refusal;
use proffer_proto::v1::scheduler::{Call, OfferConstraints, call};
use proffer_proto::v1::{
    AgentId, ExecutorId, Filters, FrameworkId, FrameworkInfo, KillPolicy, OfferId, OperationId, Request, TaskId, offer,
};
use prost::Message as _;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request as Wrapped, Status, Streaming};

use crate::line::Line;
use crate::many::{Answered, CALL_BYTES_MAX, CallStream, Kind, Lost, Outgoing};
use crate::masters::leader_of;

/// The metadata key of the id of a subscription.
pub const STREAM_ID_METADATA: &str = "mesos-stream-id";

/// Why a call was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The master refuses the call: the text names the field and what would be accepted. Repeating it does not help.
    #[error("call rejected: {0}")]
    Rejected(String),
    /// The master does not know this subscription any more, or does not lead any more: subscribe again.
    #[error("not subscribed: {0}")]
    NotSubscribed(String),
    /// No answer: the call may or may not have arrived. Subscribe again and reconcile.
    #[error("disconnected from the master: {0}")]
    Disconnected(String),
}

impl CallError {
    /// Sorts a gRPC status by what the caller can do about it.
    pub(crate) fn from_status(status: &tonic::Status) -> Self {
        use tonic::Code;
        let text = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::AlreadyExists
            | Code::OutOfRange
            | Code::Unimplemented => CallError::Rejected(text),
            Code::FailedPrecondition => CallError::NotSubscribed(text),
            Code::Unavailable if leader_of(status).is_some() => CallError::NotSubscribed(text),
            code => CallError::Disconnected(format!("{code:?}: {text}")),
        }
    }

    /// Whether the same call can never succeed.
    pub fn is_rejection(&self) -> bool {
        matches!(self, CallError::Rejected(_))
    }
}

/// Makes calls within one subscription. Cheap to clone.
///
/// An `Ok` means that the master took the call, not that it is carried out: that is told by events. Calls that are made at the same
/// time share messages: many at a time cost the master little more than a few.
#[derive(Debug, Clone)]
pub struct Calls {
    subscription: Subscription,
    stream: Arc<CallStream<Subscription>>,
    framework_id: FrameworkId,
}

/// A call that the master may have already; its answer may be awaited later.
#[derive(Debug)]
pub(crate) struct Begun {
    answered: Result<Answered<()>, Lost>,
    /// The call again, where it may have to be made alone.
    spare: Option<Box<Call>>,
}

/// What every call carries.
#[derive(Debug, Clone)]
struct Subscription {
    client: SchedulerClient<Line>,
    stream_id: MetadataValue<Ascii>,
}

impl Subscription {
    fn sign<T>(&self, message: T) -> Wrapped<T> {
        let mut request = Wrapped::new(message);
        let stream_id = self.stream_id.clone();
        request.metadata_mut().insert(STREAM_ID_METADATA, stream_id);
        request
    }
}

impl Kind for Subscription {
    /// Boxed, because many may wait.
    type Call = Box<Call>;
    type Answer = ();
    type Calls = wire::Calls;
    type Answers = wire::Answers;

    fn size(call: &Box<Call>) -> usize {
        call.encoded_len()
    }

    fn is_alone(_: &Box<Call>) -> bool {
        false
    }

    fn message(calls: Vec<(u64, Box<Call>)>) -> wire::Calls {
        let numbered = |(number, call): (u64, Box<Call>)| wire::NumberedCall { number, call: *call };
        let calls = calls.into_iter().map(numbered).collect();
        wire::Calls { calls }
    }

    fn answers(message: wire::Answers) -> Vec<(u64, Result<(), Refusal>)> {
        let accepted = |answer: wire::NumberedAnswer| (answer.number, answer.refusal.map_or(Ok(()), Err));
        message.answers.into_iter().map(accepted).collect()
    }

    async fn open(&self, outgoing: Outgoing<Self>) -> Result<Streaming<wire::Answers>, Status> {
        let opened = self.client.clone().submit_many(self.sign(outgoing)).await?;
        Ok(opened.into_inner())
    }
}

impl Calls {
    pub(crate) fn new(
        client: SchedulerClient<Line>,
        stream_id: MetadataValue<Ascii>,
        framework_id: FrameworkId,
    ) -> Self {
        let subscription = Subscription { client, stream_id };
        Calls {
            stream: Arc::new(CallStream::new(subscription.clone())),
            subscription,
            framework_id,
        }
    }

    /// The id of the subscribed framework.
    pub fn framework_id(&self) -> &FrameworkId {
        &self.framework_id
    }

    /// Makes any call but SUBSCRIBE; its framework id is filled in.
    pub async fn submit(&self, call: Call) -> Result<(), CallError> {
        let begun = self.begin(call);
        self.finish(begun).await
    }

    /// Puts a call behind those that were begun before. Those that [`Calls::overtakes`] are made at the end only.
    pub(crate) fn begin(&self, mut call: Call) -> Begun {
        call.framework_id = Some(self.framework_id.clone());
        let call = Box::new(call);
        if CallStream::<Subscription>::is_alone(&call) {
            return Begun {
                answered: Err(Lost::Alone),
                spare: Some(call),
            };
        }
        let spare = (!self.stream.is_answered()).then(|| call.clone());
        Begun {
            answered: self.stream.submit(call),
            spare,
        }
    }

    /// Waits for the answer.
    pub(crate) async fn finish(&self, begun: Begun) -> Result<(), CallError> {
        let answered = match begun.answered {
            Ok(answered) => answered.await,
            Err(lost) => Err(lost),
        };
        let lost = match answered {
            Ok(()) => return Ok(()),
            Err(lost) => lost,
        };
        match (lost, begun.spare) {
            (Lost::Alone, Some(call)) => {
                let answer = self
                    .subscription
                    .client
                    .clone()
                    .submit(self.subscription.sign(*call))
                    .await;
                answer.map(drop).map_err(|status| CallError::from_status(&status))
            }
            (Lost::Refused(status) | Lost::Broken(status) | Lost::Unsent(status), _) => {
                Err(CallError::from_status(&status))
            }
            (Lost::Alone, None) => Err(CallError::Disconnected(
                "the stream of calls is not taken any more".into(),
            )),
        }
    }

    /// Whether a call that is begun now may be carried out before others that were begun earlier, or after others that are begun later.
    pub(crate) fn overtakes(&self, call: &Call) -> bool {
        !self.stream.is_answered() || call.encoded_len() > CALL_BYTES_MAX
    }

    /// Uses offers, all of one agent, for operations in order; what is left of them is declined with the filters.
    pub async fn accept(
        &self,
        offer_ids: Vec<OfferId>,
        operations: Vec<offer::Operation>,
        filters: Option<Filters>,
    ) -> Result<(), CallError> {
        self.submit(build::accept(offer_ids, operations, filters)).await
    }

    /// Launches a [`Gang`](crate::Gang) on offers of any agents to one role, or on none, and whatever else is free; what is not used of the
    /// offers is declined with the filters.
    pub async fn launch_gang(
        &self,
        offer_ids: Vec<OfferId>,
        gang: impl Into<call::accept::Gang>,
        filters: Option<Filters>,
    ) -> Result<(), CallError> {
        self.submit(build::launch_gang(offer_ids, gang.into(), filters)).await
    }

    /// Gives offers back; the same resources are not offered again for as long as the filters say.
    pub async fn decline(&self, offer_ids: Vec<OfferId>, filters: Option<Filters>) -> Result<(), CallError> {
        self.submit(build::decline(offer_ids, filters)).await
    }

    /// Drops all filters and wants offers again, for these roles or for all.
    pub async fn revive(&self, roles: Vec<String>) -> Result<(), CallError> {
        self.submit(build::revive(roles)).await
    }

    /// Wants no more offers, for these roles or for all.
    pub async fn suppress(&self, roles: Vec<String>) -> Result<(), CallError> {
        self.submit(build::suppress(roles)).await
    }

    /// Ends a task.
    pub async fn kill(
        &self,
        task_id: TaskId,
        agent_id: Option<AgentId>,
        policy: Option<KillPolicy>,
    ) -> Result<(), CallError> {
        self.submit(build::kill(task_id, agent_id, policy)).await
    }

    /// Acknowledges a status update; only updates with a uuid want it.
    pub async fn acknowledge(&self, agent_id: AgentId, task_id: TaskId, uuid: Vec<u8>) -> Result<(), CallError> {
        self.submit(build::acknowledge(agent_id, task_id, uuid)).await
    }

    /// Asks for the latest state of tasks; of every task where the list is empty.
    pub async fn reconcile(&self, tasks: Vec<(TaskId, Option<AgentId>)>) -> Result<(), CallError> {
        self.submit(build::reconcile(tasks)).await
    }

    /// Acknowledges the outcome of an operation; only those with a uuid want it.
    pub async fn acknowledge_operation(
        &self,
        agent_id: Option<AgentId>,
        operation_id: OperationId,
        uuid: Vec<u8>,
    ) -> Result<(), CallError> {
        self.submit(build::acknowledge_operation(agent_id, operation_id, uuid))
            .await
    }

    /// Asks how operations stand; of every one where the list is empty.
    pub async fn reconcile_operations(&self, operations: Vec<(OperationId, Option<AgentId>)>) -> Result<(), CallError> {
        self.submit(build::reconcile_operations(operations)).await
    }

    /// Sends data to an executor, at most once.
    pub async fn message(&self, agent_id: AgentId, executor_id: ExecutorId, data: Vec<u8>) -> Result<(), CallError> {
        self.submit(build::message(agent_id, executor_id, data)).await
    }

    /// Ends the framework and all its tasks.
    pub async fn teardown(&self) -> Result<(), CallError> {
        self.submit(build::call(call::Type::Teardown)).await
    }

    /// Changes what the framework said of itself.
    pub async fn update_framework(
        &self,
        framework_info: FrameworkInfo,
        suppressed_roles: Vec<String>,
    ) -> Result<(), CallError> {
        self.submit(build::update_framework(framework_info, suppressed_roles, None))
            .await
    }

    /// As [`update_framework`](Self::update_framework), with offer constraints; without them the framework has none any more.
    pub async fn update_framework_with(
        &self,
        framework_info: FrameworkInfo,
        suppressed_roles: Vec<String>,
        constraints: OfferConstraints,
    ) -> Result<(), CallError> {
        self.submit(build::update_framework(
            framework_info,
            suppressed_roles,
            Some(constraints),
        ))
        .await
    }

    /// Declares what the framework waits for, in place of what it declared before: only agents on which one of these fits are offered
    /// from then on, and none when all of them were launched. An empty list takes the demand back. A new subscription
    /// begins without demand.
    pub async fn request(&self, requests: Vec<Request>) -> Result<(), CallError> {
        self.submit(build::request(requests)).await
    }
}

/// Builds the messages of the calls; the framework id is put in when a call is sent.
pub(crate) mod build {
    use super::*;

    pub(crate) fn call(kind: call::Type) -> Call {
        Call {
            r#type: Some(kind.into()),
            ..Default::default()
        }
    }

    pub(crate) fn accept(offer_ids: Vec<OfferId>, operations: Vec<offer::Operation>, filters: Option<Filters>) -> Call {
        Call {
            accept: Some(call::Accept {
                offer_ids,
                operations,
                filters,
                gang: None,
            }),
            ..call(call::Type::Accept)
        }
    }

    pub(crate) fn launch_gang(offer_ids: Vec<OfferId>, gang: call::accept::Gang, filters: Option<Filters>) -> Call {
        Call {
            accept: Some(call::Accept {
                offer_ids,
                filters,
                gang: Some(gang),
                ..Default::default()
            }),
            ..call(call::Type::Accept)
        }
    }

    pub(crate) fn decline(offer_ids: Vec<OfferId>, filters: Option<Filters>) -> Call {
        Call {
            decline: Some(call::Decline { offer_ids, filters }),
            ..call(call::Type::Decline)
        }
    }

    pub(crate) fn revive(roles: Vec<String>) -> Call {
        Call {
            revive: Some(call::Revive { roles }),
            ..call(call::Type::Revive)
        }
    }

    pub(crate) fn suppress(roles: Vec<String>) -> Call {
        Call {
            suppress: Some(call::Suppress { roles }),
            ..call(call::Type::Suppress)
        }
    }

    pub(crate) fn kill(task_id: TaskId, agent_id: Option<AgentId>, kill_policy: Option<KillPolicy>) -> Call {
        Call {
            kill: Some(call::Kill {
                task_id,
                agent_id,
                kill_policy,
            }),
            ..call(call::Type::Kill)
        }
    }

    pub(crate) fn acknowledge(agent_id: AgentId, task_id: TaskId, uuid: Vec<u8>) -> Call {
        Call {
            acknowledge: Some(call::Acknowledge {
                agent_id,
                task_id,
                uuid,
            }),
            ..call(call::Type::Acknowledge)
        }
    }

    pub(crate) fn reconcile(tasks: Vec<(TaskId, Option<AgentId>)>) -> Call {
        let tasks = tasks
            .into_iter()
            .map(|(task_id, agent_id)| call::reconcile::Task { task_id, agent_id })
            .collect();
        Call {
            reconcile: Some(call::Reconcile { tasks }),
            ..call(call::Type::Reconcile)
        }
    }

    pub(crate) fn acknowledge_operation(agent_id: Option<AgentId>, operation_id: OperationId, uuid: Vec<u8>) -> Call {
        Call {
            acknowledge_operation_status: Some(call::AcknowledgeOperationStatus {
                agent_id,
                uuid,
                operation_id,
            }),
            ..call(call::Type::AcknowledgeOperationStatus)
        }
    }

    pub(crate) fn reconcile_operations(operations: Vec<(OperationId, Option<AgentId>)>) -> Call {
        let operations = operations
            .into_iter()
            .map(|(operation_id, agent_id)| call::reconcile_operations::Operation { operation_id, agent_id })
            .collect();
        Call {
            reconcile_operations: Some(call::ReconcileOperations { operations }),
            ..call(call::Type::ReconcileOperations)
        }
    }

    pub(crate) fn message(agent_id: AgentId, executor_id: ExecutorId, data: Vec<u8>) -> Call {
        Call {
            message: Some(call::Message {
                agent_id,
                executor_id,
                data,
            }),
            ..call(call::Type::Message)
        }
    }

    pub(crate) fn request(requests: Vec<Request>) -> Call {
        Call {
            request: Some(call::Request { requests }),
            ..call(call::Type::Request)
        }
    }

    pub(crate) fn update_framework(
        framework_info: FrameworkInfo,
        suppressed_roles: Vec<String>,
        offer_constraints: Option<OfferConstraints>,
    ) -> Call {
        Call {
            update_framework: Some(Box::new(call::UpdateFramework {
                framework_info,
                suppressed_roles,
                offer_constraints,
            })),
            ..call(call::Type::UpdateFramework)
        }
    }
}
