//! What the benchmarks share: figures as JSON lines, the machine they ran on, a payload that tells when it runs.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

/// One figure, printed as one line of JSON.
#[derive(Debug, Serialize)]
pub struct Figure<'a> {
    /// The benchmark.
    pub bench: &'a str,
    /// What was measured; names its statistic and, last, its unit.
    pub figure: &'a str,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: &'a str,
    /// How many samples it is from.
    pub samples: usize,
}

impl Figure<'_> {
    /// Prints it on standard output.
    pub fn print(&self) {
        println!("{}", serde_json::to_string(self).expect("a figure is plain data"));
    }
}

/// Prints the percentiles of samples.
pub fn print_percentiles(bench: &str, figure: &str, unit: &str, samples: &mut [f64]) {
    samples.sort_by(f64::total_cmp);
    for (name, share) in [("p50", 0.50), ("p95", 0.95), ("p99", 0.99)] {
        let value = percentile(samples, share);
        Figure {
            bench,
            figure: &format!("{figure}_{name}_{unit}"),
            value,
            unit,
            samples: samples.len(),
        }
        .print();
    }
}

/// A percentile of sorted samples, by the nearest rank.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// What a benchmark runs on, on standard error.
pub fn print_machine(bench: &str) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!(
        "{bench}: {cores} cores, load average {}",
        load.split(' ').take(3).collect::<Vec<_>>().join(" ")
    );
}

/// Whether `--quick` was given: a run of under 20 s.
pub fn is_quick() -> bool {
    std::env::args().any(|arg| arg == "--quick")
}

/// The resident memory of a process, MiB.
///
/// # Errors
/// It has ended.
pub fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context("no VmRSS")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// Nanoseconds of the monotonic clock, which all processes of the machine share.
pub fn monotonic_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A static program whose first act is to send the time to a UDP port of the loopback: `stamp PORT ID [STAY_SECONDS]`.
/// It sends `ID first-nanos last-nanos`: the second just before it ends, where it does not stay.
#[derive(Debug)]
pub struct Stamp {
    /// The program.
    pub program: PathBuf,
    port: u16,
    stamps: mpsc::Receiver<String>,
}

/// How long a stamp is waited for.
const STAMP_DEADLINE: Duration = Duration::from_secs(60);

const STAMP_SOURCE: &str = r#"
use std::net::UdpSocket;
#[repr(C)]
struct Timespec { sec: i64, nsec: i64 }
unsafe extern "C" { fn clock_gettime(clock: i32, time: *mut Timespec) -> i32; }
fn now() -> u64 {
    let mut time = Timespec { sec: 0, nsec: 0 };
    unsafe { clock_gettime(1, &mut time) };
    time.sec as u64 * 1_000_000_000 + time.nsec as u64
}
fn main() {
    let first = now();
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().unwrap().parse().unwrap();
    let id = args.next().unwrap();
    let stay: u64 = args.next().map_or(0, |text| text.parse().unwrap());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(format!("{id} {first} {}", now()).as_bytes(), ("127.0.0.1", port)).unwrap();
    if stay > 0 { std::thread::sleep(std::time::Duration::from_secs(stay)); }
}
"#;

impl Stamp {
    /// Compiles the program into `directory`, which every user must be able to read.
    ///
    /// # Errors
    /// No `rustc`, or no libc to link statically with.
    pub fn build(directory: &Path) -> anyhow::Result<Self> {
        let source = directory.join("stamp.rs");
        let program = directory.join("stamp");
        std::fs::write(&source, STAMP_SOURCE)?;
        let status = Command::new("rustc")
            .args([
                "--edition=2024",
                "-O",
                "-Cpanic=abort",
                "-Ctarget-feature=+crt-static",
                "-Crelocation-model=static",
                "-o",
            ])
            .args([&program, &source])
            .status()
            .context("cannot run rustc")?;
        ensure!(status.success(), "rustc failed on the payload");
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let port = socket.local_addr()?.port();
        let (sender, stamps) = mpsc::channel();
        // The socket holds a few hundred datagrams only, so they are taken out as they come.
        std::thread::spawn(move || receive_all(&socket, &sender));
        Ok(Stamp { program, port, stamps })
    }

    /// The line that runs it as a task.
    pub fn arguments(&self, id: &str, stay_seconds: u64) -> Vec<String> {
        vec![self.port.to_string(), id.to_owned(), stay_seconds.to_string()]
    }

    /// The next stamp: the id, and the first and last time in nanoseconds.
    pub fn receive(&self) -> anyhow::Result<(String, u64, u64)> {
        let text = self
            .stamps
            .recv_timeout(STAMP_DEADLINE)
            .context("no stamp came in time")?;
        let mut fields = text.split(' ');
        let mut next = || fields.next().context("a stamp has three fields");
        Ok((next()?.to_owned(), next()?.parse()?, next()?.parse()?))
    }
}

fn receive_all(socket: &UdpSocket, sender: &mpsc::Sender<String>) {
    let mut buffer = [0; 256];
    while let Ok(length) = socket.recv(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if sender.send(text).is_err() {
            return;
        }
    }
}
