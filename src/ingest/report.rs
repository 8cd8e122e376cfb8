//! What handling a message leads to: outputs to be polled, counts, and whether what is known of
//! the stream has changed. Bounded, since whoever polls may be late.

use std::collections::VecDeque;

use super::IngestOutput;
use super::stats::{DropReason, IngestStats};
use super::warning::{IngestWarning, WARNING_KINDS};

/// Outputs that wait to be polled. One message makes at most a few, and they are polled after
/// each; beyond this, media is dropped.
const OUTPUTS_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Report {
    outputs: VecDeque<IngestOutput>,
    warned: [bool; WARNING_KINDS],
    pub(super) stats: IngestStats,
    pub(super) info_changed: bool,
}

impl Report {
    /// Adds an output; returns whether there was room.
    pub(super) fn push(&mut self, output: IngestOutput) -> bool {
        if self.outputs.len() >= OUTPUTS_MAX {
            self.drop(DropReason::Backlog);
            return false;
        }
        self.outputs.push_back(output);
        true
    }

    pub(super) fn pop(&mut self) -> Option<IngestOutput> {
        self.outputs.pop_front()
    }

    pub(super) fn drop(&mut self, reason: DropReason) {
        self.stats.count_drop(reason);
    }

    /// Adds a warning, unless one of its kind was given before.
    pub(super) fn warn(&mut self, warning: IngestWarning) {
        let Some(warned) = self.warned.get_mut(warning.kind()) else {
            return;
        };
        if !*warned {
            *warned = true;
            self.push(IngestOutput::Warning(warning));
        }
    }
}
