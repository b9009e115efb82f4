//! Makes the checks that the core orders: commands in containers, and questions to ports of this host.

mod command;
mod grpc;
mod http;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

use crate::core::Input;
use crate::core::checks::{CheckAnswer, CheckOrder, Probe, Seen};
use crate::driver::Event;
use crate::launcher::Launcher;

/// How many commands run at once: more would only delay each other, and launches. The others wait before their time counts.
static COMMANDS: Semaphore = Semaphore::const_new(16);
/// How many questions are under way at once.
static QUESTIONS: Semaphore = Semaphore::const_new(256);
/// What is said of a check is no longer than this, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024;

/// What was seen, and more of it for people.
type Result = std::result::Result<(Seen, String), String>;

/// Makes a check and tells the driver.
pub(crate) fn run(launcher: &Arc<Launcher>, order: Box<CheckOrder>, events: &mpsc::Sender<Event>) {
    let (launcher, events) = (Arc::clone(launcher), events.clone());
    tokio::spawn(async move {
        let (seen, mut message) = make(&launcher, &order).await;
        let end = (0..=MESSAGE_BYTES_MAX.min(message.len()))
            .rev()
            .find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or(0));
        let answer = CheckAnswer {
            number: order.number,
            seen,
            message,
        };
        let checked = Input::Checked(order.container, order.kind, answer);
        let _ = events.send(Event::Input(checked)).await;
    });
}

async fn make(launcher: &Launcher, order: &CheckOrder) -> (Seen, String) {
    let permits = match order.probe {
        Probe::Command(_) => &COMMANDS,
        _ => &QUESTIONS,
    };
    let _permit = permits.acquire().await;
    let ask = async {
        match &order.probe {
            Probe::Command(command) => command::ask(launcher, order, command).await,
            Probe::Http { tls, address, path, .. } => http::ask(*tls, *address, path).await,
            Probe::Tcp { address } => match connect(*address).await {
                Ok(_connected) => Ok((Seen::Connected(true), String::new())),
                Err(problem) => Ok((Seen::Connected(false), problem)),
            },
            Probe::Grpc { address, service } => grpc::ask(*address, service).await,
        }
    };
    match tokio::time::timeout(order.timeout, ask).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(problem)) => (Seen::Nothing, problem),
        Err(_) => {
            let seen = match order.probe {
                Probe::Tcp { .. } => Seen::Connected(false),
                _ => Seen::Nothing,
            };
            (seen, format!("no answer within {}", seconds(order.timeout)))
        }
    }
}

async fn connect((host, port): (IpAddr, u16)) -> std::result::Result<TcpStream, String> {
    let address = SocketAddr::new(host, port);
    let connected = TcpStream::connect(address).await;
    connected.map_err(|error: io::Error| format!("cannot connect to {address}: {error}"))
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}
