//! A thousand malformed or illegal calls: each is answered with a rejection that names the field, and nothing is lost.

use proffer_proto::v1::scheduler::{Call, call};
use proffer_proto::v1::{
    ContainerInfo, ExecutorInfo, Filters, Image, Offer, Resource, TaskInfo, TaskState, container_info, image, offer,
    value,
};
use proffer_sdk::{CallError, Task};
use proffer_tests::{Cluster, TestFramework, place, require_isolation};

use crate::shell;

const CALLS: usize = 1_000;

/// What is wrong with a task, and a part of the path that its rejection must name.
type BadTask = (&'static str, fn(&mut TaskInfo, usize), &'static str);

/// What is wrong with a call, and a part of the path or text that its rejection must name.
type BadCall = (&'static str, fn(usize) -> Call, &'static str);

const BAD_TASKS: &[BadTask] = &[
    (
        "negative cpus",
        |task, i| *scalar(task, "cpus") = -0.5 - i as f64,
        "scalar.value",
    ),
    ("NaN cpus", |task, _| *scalar(task, "cpus") = f64::NAN, "scalar.value"),
    (
        "infinite memory",
        |task, _| *scalar(task, "mem") = f64::INFINITY,
        "scalar.value",
    ),
    (
        "more memory than can be counted",
        |task, i| *scalar(task, "mem") = 1e300 + i as f64,
        "scalar.value",
    ),
    (
        "more than the offer has",
        |task, i| *scalar(task, "mem") = 1e6 + i as f64,
        "resources",
    ),
    (
        "a port outside the offer",
        |task, i| task.resources.push(ports(40_000 + i as u64, 40_000 + i as u64)),
        "resources",
    ),
    (
        "a range that ends before it begins",
        |task, i| task.resources.push(ports(31_005 + i as u64, 31_000)),
        "ranges",
    ),
    ("no resources", |task, _| task.resources.clear(), "resources"),
    ("an empty task id", |task, _| task.task_id.value.clear(), "task_id"),
    (
        "a task id that is a path",
        |task, i| task.task_id.value = format!("../{i}"),
        "task_id",
    ),
    (
        "a task id with a control character",
        |task, i| task.task_id.value = format!("a\u{7}{i}"),
        "task_id",
    ),
    (
        "a task id that is too long",
        |task, i| task.task_id.value = "x".repeat(300 + i),
        "task_id",
    ),
    (
        "another agent",
        |task, i| task.agent_id.value = format!("agent-{i}"),
        "agent_id",
    ),
    ("neither command nor executor", |task, _| task.command = None, "command"),
    (
        "command and executor",
        |task, _| task.executor = Some(Box::new(ExecutorInfo::default())),
        "executor",
    ),
    (
        "an image",
        |task, _| task.container = Some(Box::new(with_image())),
        "image",
    ),
    (
        "a kill policy below zero",
        |task, i| task.kill_policy = Some(crate::grace(-1 - i as i64)),
        "grace_period",
    ),
    (
        "a limit below the request",
        |task, _| {
            task.limits.insert("cpus".to_owned(), value::Scalar { value: 0.001 });
        },
        "limits",
    ),
    (
        "a limit of something that has none",
        |task, i| {
            task.limits.insert(format!("ports{i}"), value::Scalar { value: 1.0 });
        },
        "limits",
    ),
];

const BAD_CALLS: &[BadCall] = &[
    ("no type", |_| Call::default(), "type"),
    (
        "an unknown type",
        |i| Call {
            r#type: Some(500 + i as i32),
            ..Call::default()
        },
        "type",
    ),
    ("ACCEPT without its payload", |_| of_type(call::Type::Accept), "accept"),
    (
        "DECLINE without its payload",
        |_| of_type(call::Type::Decline),
        "decline",
    ),
    ("KILL without its payload", |_| of_type(call::Type::Kill), "kill"),
    (
        "ACKNOWLEDGE without its payload",
        |_| of_type(call::Type::Acknowledge),
        "acknowledge",
    ),
    (
        "RECONCILE without its payload",
        |_| of_type(call::Type::Reconcile),
        "reconcile",
    ),
    (
        "MESSAGE without its payload",
        |_| of_type(call::Type::Message),
        "message",
    ),
    (
        "SUBSCRIBE where it does not belong",
        |_| of_type(call::Type::Subscribe),
        "SUBSCRIBE",
    ),
    ("ACCEPT of no offer", |_| accept(Vec::new(), None), "offer_ids"),
    (
        "ACCEPT with a filter that is no number",
        |i| accept(vec![format!("o{i}")], Some(f64::NAN)),
        "refuse_seconds",
    ),
    (
        "ACKNOWLEDGE with a short uuid",
        |i| acknowledge(vec![7; i % 16]),
        "uuid",
    ),
    (
        "REVIVE of a role that is not the framework's",
        |i| revive(format!("other-{i}")),
        "roles",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_bad_calls_are_rejected_by_the_field_and_nothing_is_lost() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("bad").start().await?;
    let mut framework = cluster.framework("bad").await?;
    let before = framework.next_offer_of(0.1, 32.0).await?;
    let total = before.resources.clone();
    framework.decline(before, 0.0).await?;

    for index in 0..CALLS {
        let kinds = BAD_TASKS.len() + BAD_CALLS.len() + 1;
        match index % kinds {
            kind if kind < BAD_TASKS.len() => bad_task(&mut framework, &BAD_TASKS[kind], index).await?,
            kind if kind < kinds - 1 => bad_call(&framework, &BAD_CALLS[kind - BAD_TASKS.len()], index).await?,
            _ => duplicate(&mut framework, index).await?,
        }
    }
    unknown_offer(&mut framework).await?;
    oversized(&framework).await?;

    // Nothing leaked: everything that the agent has is offered, and a good task still runs.
    let after = framework.next_offer_of(0.1, 32.0).await?;
    assert_eq!(after.resources, total);
    let good = framework.launch(after, shell("true")).await?;
    framework.wait_for(&good, TaskState::TaskFinished).await?;
    assert!(cluster.master().is_running() && cluster.agent(0).is_running());
    cluster.stop().await
}

async fn bad_task(framework: &mut TestFramework, bad: &BadTask, index: usize) -> anyhow::Result<()> {
    let (what, spoil, field) = bad;
    let offer = framework.next_offer_of(0.1, 32.0).await?;
    let mut info = good_task(&offer, index)?;
    spoil(&mut info, index);
    let seen = framework.updates().len();
    let text = match framework.launch_infos(&offer, vec![info.clone()]).await {
        Err(error) => rejection(what, error)?,
        Ok(()) => {
            let status = framework
                .until(what, |framework| {
                    framework.updates()[seen..]
                        .iter()
                        .find(|s| s.task_id == info.task_id)
                        .cloned()
                })
                .await?;
            anyhow::ensure!(status.state() == TaskState::TaskError, "{what}: {status:?}");
            status.message().to_owned()
        }
    };
    anyhow::ensure!(
        text.contains(field),
        "{what}: the rejection does not name `{field}`: {text}"
    );
    // What an ACCEPT that launches nothing gives back stays away for a while.
    Ok(framework.calls().revive(Vec::new()).await?)
}

/// Two tasks of one id: the first runs, the second is refused.
async fn duplicate(framework: &mut TestFramework, index: usize) -> anyhow::Result<()> {
    let offer = framework.next_offer_of(0.1, 32.0).await?;
    let info = good_task(&offer, index)?;
    framework.launch_infos(&offer, vec![info.clone(), info.clone()]).await?;
    let refused = framework
        .until("the refusal of a duplicate", |framework| {
            let of_task = framework
                .updates()
                .iter()
                .filter(|status| status.task_id == info.task_id);
            of_task
                .clone()
                .find(|status| status.state() == TaskState::TaskError)
                .cloned()
        })
        .await?;
    anyhow::ensure!(refused.message().contains("task_id"), "{refused:?}");
    framework
        .until("the end of the first", |framework| {
            let mut of_task = framework
                .updates()
                .iter()
                .filter(|status| status.task_id == info.task_id);
            of_task
                .any(|status| status.state() == TaskState::TaskFinished)
                .then_some(())
        })
        .await
}

async fn bad_call(framework: &TestFramework, bad: &BadCall, index: usize) -> anyhow::Result<()> {
    let (what, make, field) = bad;
    let Err(error) = framework.calls().submit(make(index)).await else {
        anyhow::bail!("{what} was accepted")
    };
    let text = rejection(what, error)?;
    anyhow::ensure!(
        text.contains(field),
        "{what}: the rejection does not name `{field}`: {text}"
    );
    Ok(())
}

async fn unknown_offer(framework: &mut TestFramework) -> anyhow::Result<()> {
    let offer = framework.next_offer_of(0.1, 32.0).await?;
    let mut info = good_task(&offer, CALLS)?;
    info.task_id = "on-an-unknown-offer".into();
    let unknown = Offer {
        id: "no-such-offer".into(),
        ..offer.clone()
    };
    framework.launch_infos(&unknown, vec![info.clone()]).await?;
    let refused = framework
        .until("an answer", |framework| {
            framework.updates().iter().find(|s| s.task_id == info.task_id).cloned()
        })
        .await?;
    anyhow::ensure!(refused.state() == TaskState::TaskDropped, "{refused:?}");
    framework.decline(offer, 0.0).await
}

/// A call larger than any that the master reads.
async fn oversized(framework: &TestFramework) -> anyhow::Result<()> {
    let data = vec![0; 128 << 20];
    let result = framework.calls().message("agent".into(), "executor".into(), data).await;
    anyhow::ensure!(result.is_err(), "a message of 128 MiB was accepted");
    Ok(())
}

fn rejection(what: &str, error: impl Into<anyhow::Error>) -> anyhow::Result<String> {
    let error = error.into();
    match error.downcast_ref::<CallError>() {
        Some(CallError::Rejected(text)) => Ok(text.clone()),
        _ => Err(error.context(what.to_owned())),
    }
}

fn good_task(offer: &Offer, index: usize) -> anyhow::Result<TaskInfo> {
    let task = Task::command("good", "true")
        .cpus(0.1)
        .mem(32.0)
        .with_id(format!("task-{index}"));
    let placement = place(offer, &task)?;
    Ok(task.at(&placement))
}

fn scalar<'a>(task: &'a mut TaskInfo, name: &str) -> &'a mut f64 {
    let resource = task
        .resources
        .iter_mut()
        .find(|resource| resource.name == name)
        .expect("every task has it");
    &mut resource.scalar.as_mut().expect("it is a scalar").value
}

fn ports(begin: u64, end: u64) -> Resource {
    Resource {
        name: "ports".to_owned(),
        r#type: value::Type::Ranges.into(),
        ranges: Some(value::Ranges {
            range: vec![value::Range { begin, end }],
        }),
        ..Resource::default()
    }
}

fn with_image() -> ContainerInfo {
    let docker = image::Docker {
        name: "debian".to_owned(),
        ..image::Docker::default()
    };
    let image = Image {
        r#type: image::Type::Docker.into(),
        docker: Some(docker),
        ..Image::default()
    };
    ContainerInfo {
        r#type: container_info::Type::Mesos.into(),
        mesos: Some(container_info::MesosInfo { image: Some(image) }),
        ..ContainerInfo::default()
    }
}

fn of_type(kind: call::Type) -> Call {
    Call {
        r#type: Some(kind.into()),
        ..Call::default()
    }
}

fn accept(offers: Vec<String>, refuse_seconds: Option<f64>) -> Call {
    let accept = call::Accept {
        offer_ids: offers.into_iter().map(Into::into).collect(),
        operations: vec![offer::Operation {
            r#type: Some(offer::operation::Type::Launch.into()),
            launch: Some(offer::operation::Launch::default()),
            ..offer::Operation::default()
        }],
        filters: refuse_seconds.map(|seconds| Filters {
            refuse_seconds: Some(seconds),
        }),
        ..call::Accept::default()
    };
    Call {
        accept: Some(accept),
        ..of_type(call::Type::Accept)
    }
}

fn acknowledge(uuid: Vec<u8>) -> Call {
    let acknowledge = call::Acknowledge {
        agent_id: "agent".into(),
        task_id: "task".into(),
        uuid,
    };
    Call {
        acknowledge: Some(acknowledge),
        ..of_type(call::Type::Acknowledge)
    }
}

fn revive(role: String) -> Call {
    Call {
        revive: Some(call::Revive { roles: vec![role] }),
        ..of_type(call::Type::Revive)
    }
}
