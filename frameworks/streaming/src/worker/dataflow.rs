//! The dataflow of the job, the same on every worker.
//!
//! ```text
//! source -> batches, exchanged by route -> windows -> acknowledgements, exchanged back to the source
//! ```
//!
//! A timestamp is a watermark in milliseconds, rounded down to a whole window, which loses nothing: windows close at their
//! multiples only. A source stamps with its own watermark, and the frontier at the windows is the least of all sources'.
//! Records may be older than their stamp; whether they are late is decided where the windows are.
//!
//! timely has no flow control. A source has credit for [`CREDIT_BYTES`] of lines whose batches have not come back as
//! acknowledged, which bounds what can queue up between any two workers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::ActivateCapability;
use timely::dataflow::operators::core::unordered_input::{UnorderedHandle, UnorderedInput};
use timely::dataflow::operators::generic::operator::Operator;
use timely::worker::Worker;

use crate::access_log::Hit;
use crate::windows::{WindowRow, Windows};

/// How many bytes of lines a source may have under way.
pub(super) const CREDIT_BYTES: u64 = 4 << 20;

/// Requests from one source for the routes of one worker. Routes are spelled once a batch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Batch {
    target: u32,
    source: u32,
    bytes: u64,
    routes: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Row {
    route: u32,
    status: u16,
    ts_ms: u64,
    latency_us: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Acknowledgement {
    source: u32,
    bytes: u64,
}

/// What the operators of this worker share with the loop that drives them.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) windows: Windows,
    /// Rows of closed windows that are not written yet.
    pub(super) rows: Vec<WindowRow>,
    /// The least watermark of all sources; none when there is no more input.
    pub(super) watermark_ms: Option<u64>,
}

/// The loop's side of the dataflow.
pub(super) struct Flow {
    input: UnorderedHandle<u64, CapacityContainerBuilder<Vec<Batch>>>,
    /// The source's promise: nothing it sends is stamped with less.
    stamp: ActivateCapability<u64>,
    pub(super) shared: Rc<RefCell<Shared>>,
    acknowledged: Rc<Cell<u64>>,
    sent: u64,
}

impl Flow {
    /// Builds the dataflow on this worker.
    pub(super) fn build(worker: &mut Worker, window_ms: u64) -> Flow {
        let shared = Shared {
            windows: Windows::new(window_ms),
            rows: Vec::new(),
            watermark_ms: Some(0),
        };
        let shared = Rc::new(RefCell::new(shared));
        let acknowledged = Rc::new(Cell::new(0));
        let (state, credit) = (Rc::clone(&shared), Rc::clone(&acknowledged));
        let (input, stamp) = worker.dataflow::<u64, _, _>(|scope| {
            // Unlike the plain input, this one passes everything on when its session ends, even if time stands still.
            let (input, batches) = scope.new_unordered_input();
            let to_target = Exchange::new(|batch: &Batch| u64::from(batch.target));
            let acknowledgements = batches.unary_frontier(to_target, "windows", move |_, _| {
                move |(input, frontier), output| {
                    let state = &mut *state.borrow_mut();
                    input.for_each_stamp(|stamp, batches| {
                        let mut session = output.session(&stamp);
                        for batch in batches.flat_map(|batches: &mut Vec<Batch>| batches.drain(..)) {
                            session.give(Acknowledgement {
                                source: batch.source,
                                bytes: batch.bytes,
                            });
                            state.fold(batch);
                        }
                    });
                    state.watermark_ms = frontier.frontier().first().copied();
                    state
                        .windows
                        .close(state.watermark_ms.unwrap_or(u64::MAX), &mut state.rows);
                }
            });
            let to_source = Exchange::new(|acknowledgement: &Acknowledgement| u64::from(acknowledgement.source));
            acknowledgements.sink(to_source, "credit", move |(input, _)| {
                input.for_each(|_, acknowledgements: &mut Vec<Acknowledgement>| {
                    let bytes: u64 = acknowledgements
                        .drain(..)
                        .map(|acknowledgement| acknowledgement.bytes)
                        .sum();
                    credit.set(credit.get() + bytes);
                });
            });
            input
        });
        Flow {
            input,
            stamp,
            shared,
            acknowledged,
            sent: 0,
        }
    }

    /// How many bytes of lines may be read now.
    pub(super) fn credit(&self) -> u64 {
        CREDIT_BYTES.saturating_sub(self.sent - self.acknowledged.get())
    }

    /// Sends what was read, and promises that the source's watermark is `watermark_ms`.
    pub(super) fn send(&mut self, batches: &mut Batches, watermark_ms: u64, window_ms: u64) {
        let mut batches = batches.take().peekable();
        if batches.peek().is_some() {
            let mut activation = self.input.activate();
            let mut session = activation.session(&self.stamp);
            for batch in batches {
                self.sent += batch.bytes;
                session.give(batch);
            }
        }
        let stamp = watermark_ms - watermark_ms % window_ms;
        if stamp > *self.stamp.time() {
            self.stamp.downgrade(&stamp);
        }
    }
}

impl Shared {
    fn fold(&mut self, batch: Batch) {
        let routes: Vec<_> = batch.routes.iter().map(|name| self.windows.route(name)).collect();
        for row in batch.rows {
            // A batch comes from a worker of this attempt, which numbers its rows by its own list of routes.
            self.windows
                .add(routes[row.route as usize], row.ts_ms, row.status, row.latency_us);
        }
    }
}

/// Collects what is read into one batch for each target.
#[derive(Debug)]
pub(super) struct Batches {
    index: u32,
    targets: Vec<(Batch, HashMap<String, u32>)>,
}

impl Batches {
    pub(super) fn new(index: usize, peers: usize) -> Batches {
        Batches {
            index: index as u32,
            targets: (0..peers).map(|_| Default::default()).collect(),
        }
    }

    pub(super) fn push(&mut self, hit: &Hit<'_>, bytes: usize) {
        let target = (crate::hash(hit.route.as_bytes()) % self.targets.len() as u64) as usize;
        let (batch, numbers) = &mut self.targets[target];
        let route = match numbers.get(&*hit.route) {
            Some(&route) => route,
            None => {
                let route = batch.routes.len() as u32;
                batch.routes.push(hit.route.to_string());
                numbers.insert(hit.route.to_string(), route);
                route
            }
        };
        batch.bytes += bytes as u64;
        batch.rows.push(Row {
            route,
            status: hit.status,
            ts_ms: hit.ts_ms,
            latency_us: hit.latency_us,
        });
    }

    fn take(&mut self) -> impl Iterator<Item = Batch> {
        let source = self.index;
        self.targets
            .iter_mut()
            .enumerate()
            .filter(|(_, (batch, _))| !batch.rows.is_empty())
            .map(move |(target, (batch, numbers))| {
                numbers.clear();
                Batch {
                    target: target as u32,
                    source,
                    ..std::mem::take(batch)
                }
            })
    }
}
