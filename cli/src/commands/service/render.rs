//! `proffer service render`: files that follow the services, as the configuration of a proxy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proffer_services::render::{BUILT_IN, Installed, Output, OutputError, Template, TemplateError};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::ServicesArgs;
use super::client::Client;
use super::local::print;
use crate::exit::{Failure, FailureKind};

/// How long one request waits for a change.
const WAIT: Duration = Duration::from_secs(50);
/// The same while a check or a reload is to be tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Between requests that were not answered.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct RenderArgs {
    /// What the file is made of: `haproxy`, `nginx`, or a file in the language of Jinja.
    #[arg(long, value_name = "NAME|FILE")]
    template: String,
    /// The file; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A line for the shell that is to exit with 0, or the file stays as it was; $FILE is the new file. One that does not name
    /// it is run with the new file in its place, and the old one put back where it fails.
    #[arg(long, value_name = "COMMAND")]
    check: Option<String>,
    /// A line for the shell that is run when the file has changed.
    #[arg(long, value_name = "COMMAND")]
    reload: Option<String>,
    /// Stay, and make the file again whenever what it says has changed; the reload is run once at the start in any case.
    #[arg(long)]
    watch: bool,
    /// With --watch: how long to wait after a change, at least, before the next one, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Only this service; repeatable.
    #[arg(long = "service", value_name = "ID")]
    services: Vec<String>,
    /// A parameter for the template, `params.NAME`; repeatable.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    params: Vec<(String, String)>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "seconds from 0 to 86400 are accepted".to_owned())
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("NAME=VALUE is accepted".to_owned()),
    }
}

/// Prints a template that comes with Proffer.
pub(super) fn show(name: &str) -> Result<(), Failure> {
    match BUILT_IN.iter().find(|(known, _)| *known == name) {
        Some((_, source)) => print(source),
        None => {
            let known = BUILT_IN.map(|(known, _)| known).join(", ");
            let text = format!("no template `{name}`; there are: {known}");
            Err(Failure::new(FailureKind::NotFound, text))
        }
    }
}

pub(super) async fn run(services: &ServicesArgs, args: &RenderArgs) -> Result<(), Failure> {
    let params: BTreeMap<_, _> = args.params.iter().cloned().collect();
    let template = Template::open(&args.template, params).map_err(|error| refused(&error))?;
    if !args.watch {
        return once(services, args, &template).await;
    }
    if args.out == Path::new("-") {
        return Err(Failure::new(FailureKind::Rejected, "--watch needs a file for --out"));
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = watch(services, args, &template) => Ok(()),
    }
}

async fn once(services: &ServicesArgs, args: &RenderArgs, template: &Template) -> Result<(), Failure> {
    // Something is known from the first answer on; a scheduler that was just started takes a moment.
    let directory = directory(&Client::find(services).await?, args, Some(0), Duration::from_secs(20)).await?;
    let text = template.render(&directory).map_err(|error| refused(&error))?;
    if args.out == Path::new("-") {
        return print(&text);
    }
    let output = output(args);
    if output.install(&text).await.map_err(|error| failed(&error))? == Installed::Changed {
        output.reload().await.map_err(|error| failed(&error))?;
        print(&format!("{} changed\n", args.out.display()))?;
    }
    Ok(())
}

/// Follows the services until it is told to end. What fails is said, and tried again.
async fn watch(services: &ServicesArgs, args: &RenderArgs, template: &Template) {
    let output = output(args);
    let (mut client, mut index) = (None, None);
    // What was changed by one that died before it could say so is said now.
    let mut owes_reload = true;
    let mut settled = false;
    let mut complaints = Complaints::default();
    loop {
        let wait = if settled { WAIT } else { RETRY };
        let directory = match ask(services, args, &mut client, index, wait).await {
            Ok(directory) => directory,
            Err(failure) => {
                client = None;
                complaints.say(&failure.to_string());
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let found = directory["index"].as_u64();
        if settled && found == index {
            continue;
        }
        index = found;
        let made = make(template, &output, &directory, &mut owes_reload).await;
        settled = made.is_ok();
        match made {
            Ok(Installed::Same) => complaints.end(),
            Ok(Installed::Changed) => {
                complaints.end();
                let _ = print(&format!("{} changed\n", args.out.display()));
            }
            Err(failure) => complaints.say(&failure.to_string()),
        }
        tokio::time::sleep(args.interval).await;
    }
}

async fn ask(
    services: &ServicesArgs,
    args: &RenderArgs,
    client: &mut Option<Client>,
    index: Option<u64>,
    wait: Duration,
) -> Result<Value, Failure> {
    if client.is_none() {
        *client = Some(Client::find(services).await?);
    }
    match client {
        Some(client) => directory(client, args, index.or(Some(0)), wait).await,
        None => unreachable!("it was found"),
    }
}

async fn make(
    template: &Template,
    output: &Output,
    directory: &Value,
    owes_reload: &mut bool,
) -> Result<Installed, Failure> {
    let text = template.render(directory).map_err(|error| refused(&error))?;
    let installed = output.install(&text).await.map_err(|error| failed(&error))?;
    *owes_reload |= installed == Installed::Changed;
    if *owes_reload {
        output.reload().await.map_err(|error| failed(&error))?;
        *owes_reload = false;
    }
    Ok(installed)
}

/// What is said once, and not again before something else was said.
#[derive(Default)]
struct Complaints {
    last: Option<String>,
}

impl Complaints {
    fn say(&mut self, text: &str) {
        if self.last.as_deref() != Some(text) {
            eprintln!("proffer: {text}");
            self.last = Some(text.to_owned());
        }
    }

    fn end(&mut self) {
        self.last = None;
    }
}

async fn directory(client: &Client, args: &RenderArgs, index: Option<u64>, wait: Duration) -> Result<Value, Failure> {
    let mut path = format!("/v1/discovery?wait={}", wait.as_secs());
    if let Some(index) = index {
        path.push_str(&format!("&index={index}"));
    }
    if !args.services.is_empty() {
        path.push_str(&format!("&service={}", args.services.join(",")));
    }
    client.ask_within(wait + PAUSE * 10, "GET", &path, None).await
}

fn output(args: &RenderArgs) -> Output {
    Output {
        path: args.out.clone(),
        check: args.check.clone(),
        reload: args.reload.clone(),
    }
}

fn refused(error: &TemplateError) -> Failure {
    Failure::new(FailureKind::Rejected, with_cause(error))
}

fn failed(error: &OutputError) -> Failure {
    Failure::new(FailureKind::Failed, with_cause(error))
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
