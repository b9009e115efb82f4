//! The life cycle of a task.
//!
//! A task is staging, perhaps starting, running, perhaps being killed, and ends in a terminal state. It may be
//! unreachable or unknown in between, from which it can come back in any state.

use crate::v1::TaskState;

impl TaskState {
    /// Whether a task in this state is over, and its resources are free.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::TaskFinished
            | Self::TaskFailed
            | Self::TaskKilled
            | Self::TaskError
            | Self::TaskLost
            | Self::TaskDropped
            | Self::TaskGone
            | Self::TaskGoneByOperator => true,
            Self::TaskStaging
            | Self::TaskStarting
            | Self::TaskRunning
            | Self::TaskKilling
            | Self::TaskUnreachable
            | Self::TaskUnknown => false,
        }
    }

    /// How far the task has come: a move to a lower stage is illegal.
    const fn stage(self) -> Stage {
        match self {
            Self::TaskStaging => Stage::Staging,
            Self::TaskStarting => Stage::Starting,
            Self::TaskRunning => Stage::Running,
            Self::TaskKilling => Stage::Killing,
            Self::TaskUnreachable | Self::TaskUnknown => Stage::OutOfSight,
            _ => Stage::Over,
        }
    }

    /// Whether a task may go from this state to another.
    ///
    /// Repeating a state that is not terminal is legal: such updates carry news of health or checks. A terminal state is
    /// final, but for a task that was given up (lost, gone) while its agent could not be seen and turns out to be
    /// there.
    pub const fn may_become(self, next: Self) -> bool {
        match (self.stage(), next.stage()) {
            (Stage::Over, Stage::Over) => self as i32 == next as i32 || self.is_given_up(),
            (Stage::Over, _) => self.is_given_up(),
            (_, Stage::Over | Stage::OutOfSight) | (Stage::OutOfSight, _) => true,
            (before, after) => before as u8 <= after as u8,
        }
    }

    /// Whether the state says that the task could not be seen any more, and not how it ended.
    const fn is_given_up(self) -> bool {
        matches!(self, Self::TaskLost | Self::TaskGone)
    }
}

#[derive(Clone, Copy)]
enum Stage {
    Staging,
    Starting,
    Running,
    Killing,
    OutOfSight,
    Over,
}

#[cfg(test)]
mod tests {
    use super::TaskState::{self, *};

    const ALL: [TaskState; 14] = [
        TaskStaging,
        TaskStarting,
        TaskRunning,
        TaskKilling,
        TaskFinished,
        TaskFailed,
        TaskKilled,
        TaskError,
        TaskLost,
        TaskDropped,
        TaskUnreachable,
        TaskGone,
        TaskGoneByOperator,
        TaskUnknown,
    ];

    #[test]
    fn legal_moves_of_a_task() {
        let mut table = String::new();
        for from in ALL {
            let row: String = ALL
                .iter()
                .map(|to| if from.may_become(*to) { 'x' } else { '.' })
                .collect();
            let name = from.as_str_name().trim_start_matches("TASK_");
            let over = if from.is_terminal() { "over" } else { "" };
            table += format!("{name:17} {row} {over}").trim_end();
            table += "\n";
        }
        // Columns in the order of the rows.
        let expected = "\
STAGING           xxxxxxxxxxxxxx
STARTING          .xxxxxxxxxxxxx
RUNNING           ..xxxxxxxxxxxx
KILLING           ...xxxxxxxxxxx
FINISHED          ....x......... over
FAILED            .....x........ over
KILLED            ......x....... over
ERROR             .......x...... over
LOST              xxxxxxxxxxxxxx over
DROPPED           .........x.... over
UNREACHABLE       xxxxxxxxxxxxxx
GONE              xxxxxxxxxxxxxx over
GONE_BY_OPERATOR  ............x. over
UNKNOWN           xxxxxxxxxxxxxx
";
        assert_eq!(table, expected, "\n{table}");
    }
}
