//! Real worker processes, without a cluster.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proffer_streaming::output::{Layout, Totals};
use proffer_streaming::windows::WindowRow;
use proffer_streaming::worker::Exit;

/// How long to wait for what must happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// A job of some workers, its logs and its output. Workers still running at the end are killed.
struct Job {
    dir: tempfile::TempDir,
    peers: Vec<String>,
    attempt: u64,
    job: &'static str,
    arguments: Vec<String>,
    workers: Vec<Worker>,
}

struct Worker {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Job {
    fn new(count: usize) -> Job {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        Job {
            dir,
            peers: addresses(count),
            attempt: 1,
            job: "requests",
            arguments: Vec::new(),
            workers: Vec::new(),
        }
    }

    fn with(mut self, arguments: &[&str]) -> Job {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    fn layout(&self) -> Layout {
        Layout::new(self.dir.path().join("out"))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join("logs").join(name)
    }

    /// Starts the worker of an index.
    fn start(&mut self, index: usize) -> &mut Worker {
        let stderr = std::fs::File::create(self.dir.path().join(format!("stderr-{}", self.workers.len()))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_proffer-stream-worker"))
            .args([
                "--job",
                self.job,
                "--attempt",
                &self.attempt.to_string(),
                "--index",
                &index.to_string(),
            ])
            .args([
                "--peers",
                &self.peers.join(","),
                "--source",
                &format!("{}/*.log", self.dir.path().join("logs").display()),
            ])
            .arg("--out-dir")
            .arg(self.dir.path().join("out"))
            .args(&self.arguments)
            .env("PROFFER_STREAM_TOKEN", "3f5c1d")
            .stdin(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        self.workers.push(Worker { child, ended: None });
        self.workers.last_mut().unwrap()
    }

    fn start_all(&mut self) {
        (0..self.peers.len()).for_each(|index| {
            self.start(index);
        });
    }

    fn totals(&self) -> Vec<Totals> {
        let layout = self.layout();
        (0..self.peers.len())
            .filter_map(|index| layout.read_totals(self.attempt, index))
            .collect()
    }

    fn rows(&self) -> Vec<WindowRow> {
        let read = |index| std::fs::read_to_string(self.layout().windows(self.attempt, index)).unwrap_or_default();
        let text: String = (0..self.peers.len()).map(read).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn wait(&self, what: &str, mut done: impl FnMut(&Job) -> bool) {
        let until = Instant::now() + DEADLINE;
        while !done(self) {
            assert!(Instant::now() < until, "waited in vain for {what}\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for_records(&self, records: u64) {
        self.wait(&format!("{records} records"), |job| {
            job.totals().iter().map(|totals| totals.records).sum::<u64>() == records
        });
    }

    /// Sends SIGTERM to all workers and expects them to drain.
    fn drain(&mut self) {
        self.workers.iter().for_each(Worker::terminate);
        self.expect_drained();
    }

    fn expect_drained(&mut self) {
        for number in 0..self.workers.len() {
            let code = self.workers[number].wait().code();
            assert_eq!(code, Some(0), "worker {number}\n{}", self.stderr());
        }
        assert!(
            self.totals()
                .iter()
                .all(|totals| totals.drained && totals.watermark_ms.is_none())
        );
    }

    fn stderr(&self) -> String {
        let read =
            |number| std::fs::read_to_string(self.dir.path().join(format!("stderr-{number}"))).unwrap_or_default();
        (0..self.workers.len()).map(read).collect()
    }
}

impl Worker {
    fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + DEADLINE;
        while self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
            assert!(Instant::now() < until, "a worker does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.ended.unwrap()
    }

    fn expect(&mut self, exit: Exit) {
        assert_eq!(self.wait().code(), Some(i32::from(exit.code())));
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            if worker.ended.is_none() {
                let _ = worker.child.kill();
                let _ = worker.child.wait();
            }
        }
    }
}

/// Free ports on a loopback address that no other test process uses.
fn addresses(count: usize) -> Vec<String> {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let pid = std::process::id();
    let host = format!(
        "127.{}.{}.{}",
        1 + (pid >> 8) % 254,
        pid & 255,
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((host.as_str(), 0)).unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().to_string())
        .collect()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn append(path: &Path, text: &str) {
    std::fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

/// Access-log lines by a small generator of its own, and what a batch makes of them.
struct Generator {
    state: u64,
    cells: BTreeMap<(u64, String), Vec<u64>>,
    errors: BTreeMap<(u64, String), u64>,
    count: u64,
}

impl Generator {
    fn new() -> Generator {
        Generator {
            state: 42,
            cells: BTreeMap::new(),
            errors: BTreeMap::new(),
            count: 0,
        }
    }

    fn next(&mut self, below: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    fn lines(&mut self, count: usize) -> String {
        let mut text = String::new();
        for _ in 0..count {
            let ts_ms = 1_700_000_000_000 + self.next(20_000);
            let route = format!("/api/{}", self.next(7));
            let status = if self.next(10) == 0 { 503 } else { 200 };
            let latency_us = self.next(1_000) * self.next(1_000);
            text += &format!(
                r#"{{"ts_ms":{ts_ms},"route":"{route}","method":"GET","status":{status},"latency_us":{latency_us},"instance":"web.1"}}"#
            );
            text.push('\n');
            let key = (ts_ms / 1_000 * 1_000, route);
            *self.errors.entry(key.clone()).or_default() += u64::from(status >= 500);
            self.cells.entry(key).or_default().push(latency_us);
            self.count += 1;
        }
        text
    }

    fn check(mut self, rows: &[WindowRow]) {
        assert_eq!(rows.len(), self.cells.len());
        for row in rows {
            let key = (row.window_start_ms, row.route.clone());
            let mut values = self.cells.remove(&key).expect("a row of no window, or twice");
            values.sort_unstable();
            assert_eq!((row.count, row.errors), (values.len() as u64, self.errors[&key]));
            assert_eq!(row.max_us, *values.last().unwrap());
            for (quantile, got) in [(50, row.p50_us), (90, row.p90_us), (99, row.p99_us)] {
                let exact = values[(values.len() * quantile).div_ceil(100) - 1];
                assert!(
                    got >= exact && got - exact <= exact / 64,
                    "p{quantile}: {got} for {exact}"
                );
            }
        }
    }
}

#[test]
fn two_workers_make_of_growing_logs_what_a_batch_makes_of_them() {
    let mut job = Job::new(2).with(&["--lateness-ms", "3600000", "--idle-ms", "86400000"]);
    let mut generator = Generator::new();
    append(&job.log("web.1.log"), &generator.lines(5_000));
    append(&job.log("web.2.log"), &generator.lines(1));
    append(&job.log("other.txt"), "not named by the pattern\n");
    job.start_all();
    job.wait_for_records(generator.count);
    for round in 0..20 {
        append(&job.log(&format!("web.{}.log", 1 + round % 6)), &generator.lines(100));
        append(&job.log("web.1.log"), "GET / 200\n{\"ts_ms\":1}\n");
    }
    job.wait_for_records(generator.count);
    // What is written just before the end is counted too, even without a newline.
    append(&job.log("web.9.log"), generator.lines(10).trim_end());
    job.drain();

    let totals = job.totals();
    assert_eq!(totals.iter().map(|totals| totals.records).sum::<u64>(), generator.count);
    assert_eq!(totals.iter().map(|totals| totals.late).sum::<u64>(), 0);
    assert_eq!(totals.iter().map(|totals| totals.files).sum::<u64>(), 7);
    let mut reasons = BTreeMap::new();
    for (reason, count) in totals.iter().flat_map(|totals| &totals.reasons) {
        *reasons.entry(reason.as_str()).or_insert(0) += count;
    }
    assert_eq!(
        reasons,
        BTreeMap::from([("not a JSON object", 20), ("route: missing", 20)])
    );
    assert!(
        totals.iter().all(|totals| totals.records > 0),
        "the routes are spread over the workers"
    );
    generator.check(&job.rows());
}

#[test]
fn windows_close_while_the_job_runs_and_late_lines_are_counted() {
    // By host name, as agents are called in a cluster.
    let listeners: Vec<_> = (0..2)
        .map(|_| {
            TcpListener::bind("[::]:0")
                .or_else(|_| TcpListener::bind("0.0.0.0:0"))
                .unwrap()
        })
        .collect();
    let peers = listeners
        .iter()
        .map(|listener| format!("localhost:{}", listener.local_addr().unwrap().port()))
        .collect();
    drop(listeners);
    let mut job = Job::new(2).with(&["--lateness-ms", "100", "--idle-ms", "200", "--window-ms", "500"]);
    job.peers = peers;
    job.start_all();
    let line = |ts_ms: u64| {
        format!(r#"{{"ts_ms":{ts_ms},"route":"/","method":"GET","status":200,"latency_us":5,"instance":"web.1"}}"#)
            + "\n"
    };
    let start = now_ms();
    append(&job.log("a.log"), &line(start));
    job.wait("the window to close without further lines", |job| job.rows().len() == 1);
    append(&job.log("a.log"), &line(start));
    append(&job.log("a.log"), &line(now_ms()));
    job.wait_for_records(3);
    std::fs::write(job.layout().drain(), "").unwrap();
    job.expect_drained();
    let late: u64 = job.totals().iter().map(|totals| totals.late).sum();
    assert_eq!(late, 1);
    assert_eq!(job.rows().iter().map(|row| row.count).sum::<u64>() + late, 3);
}

#[test]
fn the_peer_of_a_killed_worker_ends_with_the_code_for_it_and_a_new_attempt_counts_all_again() {
    let mut job = Job::new(3);
    let mut generator = Generator::new();
    append(&job.log("web.1.log"), &generator.lines(1_000));
    job.start_all();
    job.wait_for_records(1_000);
    job.workers[1].child.kill().unwrap();
    job.workers[0].expect(Exit::PeerLost);
    job.workers[2].expect(Exit::PeerLost);
    job.workers[1].wait();

    append(&job.log("web.2.log"), &generator.lines(10));
    job.attempt = 2;
    job.workers.clear();
    job.start_all();
    job.wait_for_records(1_010);
    job.drain();
    assert_eq!(job.layout().newest_attempt(), Some(2));
}

#[test]
fn strangers_are_refused_and_do_not_hold_up_the_job() {
    let mut job = Job::new(2);
    job.start(0);
    let address = job.peers[0].clone();
    let connect = || {
        let until = Instant::now() + DEADLINE;
        loop {
            match TcpStream::connect(&address) {
                Ok(stream) => return stream,
                Err(_) => assert!(Instant::now() < until, "worker 0 does not listen"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let _silent = connect();
    let mut http = connect();
    http.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    // Closed, or reset because not all was read; in any case there is no answer.
    assert!(!matches!(http.read(&mut [0; 16]), Ok(read) if read > 0));

    // An older attempt is fenced at once, well before its own deadline.
    let mut stale = Job::new(0).with(&["--connect-timeout-ms", "600000"]);
    stale.peers = job.peers.clone();
    stale.attempt = 0;
    stale.start(1).expect(Exit::Refused);
    // Another job keeps trying until its deadline.
    let mut other = Job::new(0).with(&["--connect-timeout-ms", "100"]);
    other.peers = job.peers.clone();
    other.job = "other";
    other.start(1).expect(Exit::Refused);

    append(&job.log("web.1.log"), &Generator::new().lines(100));
    job.start(1);
    job.wait_for_records(100);
    job.drain();
}

#[test]
fn a_worker_that_cannot_start_says_why() {
    let mut alone = Job::new(2).with(&["--connect-timeout-ms", "50"]);
    alone.start(1).expect(Exit::PeersMissing);
    assert!(alone.stderr().contains("worker 0 at"), "{}", alone.stderr());

    let mut wrong = Job::new(1);
    wrong.start(3).expect(Exit::Usage);
    assert!(
        wrong
            .stderr()
            .contains("--index 3: expected less than the number of peers"),
        "{}",
        wrong.stderr()
    );

    let mut unwritable = Job::new(1);
    std::fs::write(
        unwritable.dir.path().join("out"),
        "a file where the directory should be",
    )
    .unwrap();
    unwritable.start(0).expect(Exit::Output);
}

#[test]
fn a_job_of_one_worker_needs_no_peers() {
    let mut job = Job::new(1);
    append(&job.log("web.1.log"), &Generator::new().lines(500));
    job.start_all();
    job.wait_for_records(500);
    job.drain();
}
