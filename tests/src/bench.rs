//! What the benchmarks share: figures as JSON lines, the machine they ran on, a payload that tells when it runs.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::sync::mpsc;

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

/// Prints one figure.
pub fn print(bench: &str, figure: &str, value: f64, unit: &str, samples: usize) {
    Figure {
        bench,
        figure,
        value,
        unit,
        samples,
    }
    .print();
}

/// Prints the percentiles of samples.
pub fn print_percentiles(bench: &str, figure: &str, unit: &str, samples: &mut [f64]) {
    samples.sort_by(f64::total_cmp);
    for (name, share) in [("p50", 0.50), ("p95", 0.95), ("p99", 0.99)] {
        let value = percentile(samples, share);
        print(bench, &format!("{figure}_{name}_{unit}"), value, unit, samples.len());
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

/// Whether a part of a benchmark is to be run: all are, unless `--only=PART` names one.
pub fn wants(part: &str) -> bool {
    let only = std::env::args().find_map(|arg| arg.strip_prefix("--only=").map(str::to_owned));
    only.is_none_or(|only| only == part)
}

/// The number of an option such as `--puts=N`, if it was given.
///
/// # Errors
/// It is no number.
pub fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(option: &str) -> anyhow::Result<Option<T>> {
    let text = std::env::args().find_map(|arg| arg.strip_prefix(option).map(str::to_owned));
    let number = text.map(|text| text.parse().with_context(|| format!("{option}{text} is no number")));
    number.transpose()
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

/// The processor time that a process has used so far, in seconds.
///
/// # Errors
/// It has ended.
pub fn processor_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold anything.
    let fields = stat.rsplit_once(')').context("no name")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// Linux counts the processor time of processes in hundredths of a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// Nanoseconds of the monotonic clock, which all processes of the machine share.
pub fn monotonic_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A static program (x86-64) whose first act is to send the time to a UDP port of the loopback: `stamp PORT ID [STAY_SECONDS]`.
/// It sends `ID first-nanos last-nanos`: the second just before it ends, where it does not stay.
#[derive(Debug)]
pub struct Stamp {
    /// The program.
    pub program: PathBuf,
    port: u16,
    stamps: mpsc::UnboundedReceiver<String>,
}

/// How long a stamp is waited for.
const STAMP_DEADLINE: Duration = Duration::from_secs(60);

/// Without a C library, whose start takes longer than a launch where a virtual machine traps CPUID.
const STAMP_SOURCE: &str = r#"
#![no_std]
#![no_main]
use core::arch::{asm, global_asm};
global_asm!(".globl _start", "_start: mov rdi, rsp", "and rsp, -16", "call start");
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
unsafe fn call(number: usize, a: [usize; 6]) -> isize {
    let result;
    unsafe { asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
        in("r10") a[3], in("r8") a[4], in("r9") a[5], out("rcx") _, out("r11") _) };
    result
}
fn now() -> u64 {
    let mut time = [0u64; 2];
    unsafe { call(228, [1, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    time[0] * 1_000_000_000 + time[1]
}
struct Text { bytes: &'static mut [u8; 512], length: usize }
static mut BYTES: [u8; 512] = [0; 512];
impl Text {
    fn put(&mut self, byte: u8) { if let Some(place) = self.bytes.get_mut(self.length) { *place = byte; self.length += 1; } }
    fn number(&mut self, value: u64) {
        if value > 9 { self.number(value / 10); }
        self.put(b'0' + (value % 10) as u8);
    }
}
unsafe fn number(mut text: *const u8) -> u64 {
    let mut value = 0;
    unsafe { while *text != 0 { value = value * 10 + u64::from(*text - b'0'); text = text.add(1); } }
    value
}
#[unsafe(no_mangle)]
unsafe extern "C" fn start(stack: *const usize) -> ! {
    let first = now();
    unsafe {
        let count = *stack;
        let argument = |index: usize| *stack.add(1 + index) as *const u8;
        let (port, mut id) = (number(argument(1)) as u16, argument(2));
        let stay = if count > 3 { number(argument(3)) } else { 0 };
        let mut text = Text { bytes: &mut *(&raw mut BYTES), length: 0 };
        while *id != 0 { text.put(*id); id = id.add(1); }
        text.put(b' ');
        text.number(first);
        text.put(b' ');
        let socket = call(41, [2, 2, 0, 0, 0, 0]) as usize;
        let port = port.to_be_bytes();
        let to = [2u8, 0, port[0], port[1], 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        text.number(now());
        call(44, [socket, text.bytes.as_ptr() as usize, text.length, 0, to.as_ptr() as usize, to.len()]);
        if stay > 0 { call(35, [[stay, 0].as_ptr() as usize, 0, 0, 0, 0, 0]); }
        loop { call(231, [0; 6]); }
    }
}
"#;

impl Stamp {
    /// Compiles the program into `directory`, which every user must be able to read.
    ///
    /// # Errors
    /// No `rustc`, or another processor.
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
                "-Clink-arg=-nostartfiles",
                "-Clink-arg=-nostdlib",
                "-o",
            ])
            .args([&program, &source])
            .status()
            .context("cannot run rustc")?;
        ensure!(status.success(), "rustc failed on the payload");
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let port = socket.local_addr()?.port();
        let (sender, stamps) = mpsc::unbounded_channel();
        // The socket holds a few hundred datagrams only, so they are taken out as they come.
        std::thread::spawn(move || receive_all(&socket, &sender));
        Ok(Stamp { program, port, stamps })
    }

    /// The line that runs it as a task.
    pub fn arguments(&self, id: &str, stay_seconds: u64) -> Vec<String> {
        vec![self.port.to_string(), id.to_owned(), stay_seconds.to_string()]
    }

    /// The next stamp: the id, and the first and last time in nanoseconds.
    ///
    /// # Errors
    /// None came in time.
    pub async fn receive(&mut self) -> anyhow::Result<(String, u64, u64)> {
        let text = tokio::time::timeout(STAMP_DEADLINE, self.stamps.recv()).await;
        let text = text.ok().flatten().context("no stamp came in time")?;
        let mut fields = text.split(' ');
        let mut next = || fields.next().context("a stamp has three fields");
        Ok((next()?.to_owned(), next()?.parse()?, next()?.parse()?))
    }
}

fn receive_all(socket: &UdpSocket, sender: &mpsc::UnboundedSender<String>) {
    let mut buffer = [0; 256];
    while let Ok(length) = socket.recv(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if sender.send(text).is_err() {
            return;
        }
    }
}
