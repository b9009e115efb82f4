//! Calls about the frameworks' state, many on a stream.

use std::time::Duration;

use proffer_proto::api::state_client::StateClient;
use proffer_proto::state::{Answers, Call, Calls, Get, List, NumberedCall, Put, answer, call, numbered_answer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::common::{PATIENCE, connect, master};

/// A stream of calls to a master.
struct Stream {
    calls: mpsc::UnboundedSender<Calls>,
    answers: Streaming<Answers>,
}

impl Stream {
    async fn open(server: &proffer_master::Server) -> anyhow::Result<Self> {
        let (calls, outgoing) = mpsc::unbounded_channel();
        let mut client = StateClient::new(connect(server).await?);
        let answers = client.submit_many(UnboundedReceiverStream::new(outgoing)).await?;
        Ok(Stream {
            calls,
            answers: answers.into_inner(),
        })
    }

    fn send(&self, calls: impl IntoIterator<Item = call::Body>) {
        let numbered = |(number, body)| NumberedCall {
            number,
            call: Call {
                namespace: "test".to_owned(),
                body: Some(body),
            },
        };
        let calls = (10..).zip(calls).map(numbered).collect();
        self.calls.send(Calls { calls }).expect("the stream is open");
    }

    /// The next answers, as lines that are sorted by their numbers.
    async fn answers(&mut self, count: usize) -> anyhow::Result<Vec<String>> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let answers = tokio::time::timeout(PATIENCE, self.answers.message()).await??;
            let answers = answers.ok_or_else(|| anyhow::anyhow!("the stream ended after {lines:?}"))?;
            for answer in answers.answers {
                let text = match answer.body {
                    Some(numbered_answer::Body::Answer(answer)) => match answer.body {
                        Some(answer::Body::Done(_)) => "done".to_owned(),
                        Some(answer::Body::Got(got)) => format!("got {:?}", got.entry.and_then(|entry| entry.value)),
                        Some(answer::Body::Conflict(_)) => "conflict".to_owned(),
                        other => format!("{other:?}"),
                    },
                    Some(numbered_answer::Body::Refusal(refusal)) => {
                        format!("{:?} {}", Code::from(refusal.code), refusal.message)
                    }
                    None => "nothing".to_owned(),
                };
                lines.push(format!("{} {text}", answer.number));
            }
        }
        lines.sort();
        Ok(lines)
    }

    /// How it ends.
    async fn end(mut self) -> anyhow::Result<Option<Status>> {
        loop {
            match tokio::time::timeout(PATIENCE, self.answers.message()).await? {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(status) => return Ok(Some(status)),
            }
        }
    }
}

fn put(key: &str, expected_version: Option<u64>) -> call::Body {
    call::Body::Put(Put {
        key: key.to_owned(),
        value: key.to_uppercase().into(),
        expected_version,
    })
}

fn get(key: &str) -> call::Body {
    call::Body::Get(Get { key: key.to_owned() })
}

#[tokio::test]
async fn each_call_of_a_message_gets_its_own_answer() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let mut stream = Stream::open(&server).await?;
    stream.send([put("a", None), put("", None), put("b", Some(7)), put("c", Some(0))]);
    let answers = stream.answers(4).await?;
    assert!(
        answers[1].starts_with("11 InvalidArgument") && answers[1].contains("put.key"),
        "{answers:?}"
    );
    assert_eq!(
        [&answers[0], &answers[2], &answers[3]],
        ["10 done", "12 conflict", "13 done"]
    );
    stream.send([get("a"), get("b"), get("c")]);
    assert_eq!(
        stream.answers(3).await?,
        ["10 got Some(b\"A\")", "11 got None", "12 got Some(b\"C\")"]
    );
    server.stop().await
}

#[tokio::test]
async fn who_says_no_more_gets_the_answers_that_are_due() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let mut stream = Stream::open(&server).await?;
    stream.send((0..500).map(|number| put(&format!("k{number}"), None)));
    let (closed, _) = mpsc::unbounded_channel();
    stream.calls = closed;
    assert_eq!(stream.answers(500).await?.len(), 500);
    assert!(stream.end().await?.is_none());
    server.stop().await
}

#[tokio::test]
async fn what_is_too_much_for_a_stream_ends_it_and_says_what_is_accepted() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let list = call::Body::List(List::default());
    let many: Vec<_> = (0..1025).map(|_| get("k")).collect();
    for (calls, text) in [(vec![get("k"), list], "calls[1].call.list"), (many, "at most 1024")] {
        let stream = Stream::open(&server).await?;
        stream.send(calls);
        let end = stream.end().await?.expect("an error");
        assert_eq!(end.code(), Code::InvalidArgument);
        assert!(end.message().contains(text), "{end:?}");
    }
    server.stop().await
}

#[tokio::test]
async fn an_idle_stream_does_not_keep_a_master_from_stopping() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = master(directory.path()).await?;
    let mut stream = Stream::open(&server).await?;
    stream.send([put("a", None)]);
    assert_eq!(stream.answers(1).await?, ["10 done"]);
    tokio::time::timeout(PATIENCE + Duration::from_secs(1), server.stop()).await??;
    // Whether it ends in order or with the connection.
    stream.end().await.map(drop)
}
