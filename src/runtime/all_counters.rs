//! The metrics page out of the counters of all threads.

use std::sync::Arc;
use std::time::Duration;

use super::process;
use crate::metrics::{
    ControlCounters, CoreCounters, Page, TranscodeCounters, VideoCounters, WebhookCounters,
};

/// Every thread's counters but control's own.
#[derive(Debug)]
pub struct AllCounters {
    /// Each core's.
    pub cores: Vec<Arc<CoreCounters>>,
    /// Each transcode worker's.
    pub workers: Vec<Arc<TranscodeCounters>>,
    /// The video transcoder's.
    pub video: Arc<VideoCounters>,
    /// The webhook thread's.
    pub webhook: Arc<WebhookCounters>,
}

impl AllCounters {
    /// The metrics page.
    pub(super) fn page(
        &self,
        control: &ControlCounters,
        certificate_expiry: Option<Duration>,
    ) -> String {
        let page = Page {
            version: env!("CARGO_PKG_VERSION"),
            process: process::usage(),
            certificate_expiry,
            cores: &self.cores,
            workers: &self.workers,
            video: &self.video,
            control,
            webhook: &self.webhook,
        };
        page.render()
    }
}
