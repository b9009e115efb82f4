//! The executor: counts each task's part in a thread.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proffer_proto::v1::{KillPolicy, TaskId, TaskInfo, TaskState, TaskStatus};
use proffer_sdk::executor::{Context, Executor, Options};

/// A thread's result; none where it was told to stop.
struct Counted {
    task_id: TaskId,
    primes: Option<usize>,
}

#[derive(Default)]
struct Counter {
    /// Set for those that are to stop.
    stops: HashMap<TaskId, Arc<AtomicBool>>,
}

impl Executor for Counter {
    type Message = Counted;

    async fn launch(&mut self, context: &mut Context<Counted>, task: TaskInfo) {
        let Some(part) = super::read(task.data()) else {
            return context.failed(&task.task_id, "its data are not FROM..TO");
        };
        context.running(&task.task_id);
        let stop = Arc::new(AtomicBool::new(false));
        self.stops.insert(task.task_id.clone(), Arc::clone(&stop));
        let sender = context.sender();
        std::thread::spawn(move || {
            let counted = Counted {
                task_id: task.task_id,
                primes: count(part, &stop),
            };
            // Nobody listens only where the executor ends.
            let _ = sender.send(counted);
        });
    }

    async fn message(&mut self, context: &mut Context<Counted>, Counted { task_id, primes }: Counted) {
        self.stops.remove(&task_id);
        match primes {
            Some(primes) => context.update(TaskStatus {
                data: Some(primes.to_string().into()),
                ..context.status(&task_id, TaskState::TaskFinished)
            }),
            None => context.killed(&task_id),
        }
    }

    async fn kill(&mut self, _: &mut Context<Counted>, task_id: TaskId, _: Option<KillPolicy>) {
        if let Some(stop) = self.stops.get(&task_id) {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs the executor that the environment describes until it is shut down.
pub(super) async fn run() -> anyhow::Result<()> {
    proffer_sdk::executor::run(Counter::default(), Options::from_environment()?).await?;
    Ok(())
}

fn count(part: Range<u64>, stop: &AtomicBool) -> Option<usize> {
    let mut primes = 0;
    for number in part {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        primes += usize::from(is_prime(number));
    }
    Some(primes)
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_counted_until_told_to_stop() {
        let stop = AtomicBool::new(false);
        assert_eq!(count(0..100, &stop), Some(25));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(count(0..100, &stop), None);
    }
}
