//! What a run tells at its end, to people and to programs.
use std::fmt::Write;
use std::time::Duration;

use serde_json::json;
use sluice_client::Error;
use sluice_client::run::Sums;
use sluice_client::send::Outcome;

use crate::JSON_VERSION;

/// Exit code when some frames were not sent.
const PARTLY: u8 = 6;

/// A run that has ended, however it did.
#[derive(Default)]
pub(crate) struct Report {
    /// GUID of the adapter, if it was found.
    pub adapter: Option<String>,
    pub sums: Sums,
    /// Frames that there were to send, if that is known.
    pub total: Option<u64>,
    pub elapsed: Duration,
    /// Whether frames could be handed in: there are totals to be told to people.
    pub started: bool,
    pub interrupted: bool,
    /// Whether the loop had no end but Ctrl-C.
    pub endless: bool,
    pub first_failure: Option<Outcome>,
    pub error: Option<Error>,
}

impl Report {
    /// Frames that were not handed to the driver, or that it did not take.
    fn unsent(&self) -> u64 {
        let known = self.sums.totals.submitted + self.sums.skipped_frames() + self.sums.unanswered;
        self.total.map_or(self.sums.unsent, |total| total.saturating_sub(known))
    }

    pub(crate) fn exit_code(&self) -> u8 {
        if let Some(error) = &self.error {
            return error.exit_code();
        }
        let totals = &self.sums.totals;
        let stopped_early = self.interrupted && !self.endless && self.total.is_none();
        let all = totals.sent == totals.submitted && self.sums.unanswered == 0 && !stopped_early;
        let rest = if self.endless { self.sums.unsent } else { self.unsent() };
        if all && (rest == 0 || self.endless) { 0 } else { PARTLY }
    }

    pub(crate) fn object(&self) -> serde_json::Value {
        let (sums, totals) = (&self.sums, &self.sums.totals);
        let mut object = json!({
            "version": JSON_VERSION,
            "adapter": self.adapter,
            "frames_submitted": totals.submitted,
            "frames_sent": totals.sent,
            "frames_paused": totals.paused,
            "frames_failed": totals.failed,
            "frames_skipped": sums.skipped,
            "skipped": sums.reasons,
            "frames_resent": sums.resent,
            "frames_unsent": self.unsent(),
            "frames_unanswered": sums.unanswered,
            "bytes_sent": totals.bytes_sent,
            "requests": totals.requests,
            "removals": sums.removals,
            "interrupted": self.interrupted,
            "seconds": self.seconds(),
            "exit_code": self.exit_code(),
        });
        if let (Some(error), Some(object)) = (&self.error, object.as_object_mut()) {
            object.insert("error".to_owned(), error.to_string().into());
        }
        object
    }

    fn seconds(&self) -> f64 {
        self.elapsed.as_secs_f64().max(1e-6)
    }

    pub(crate) fn text(&self, quiet: bool) -> String {
        let (sums, totals) = (&self.sums, &self.sums.totals);
        let seconds = self.seconds();
        let rate = totals.sent as f64 / seconds;
        let megabits = totals.bytes_sent as f64 * 8.0 / seconds / 1e6;
        let total = self.total.map_or_else(String::new, |total| format!("of {total} "));
        let mut text = format!(
            "{} {total}frames sent, {} bytes, {seconds:.3} s, {rate:.0} frames/s, {megabits:.1} Mbit/s\n",
            totals.sent, totals.bytes_sent
        );
        let mut line = |count: u64, what: &str| {
            if count != 0 {
                let _ = writeln!(text, "{count} {} {what}", if count == 1 { "frame" } else { "frames" });
            }
        };
        line(totals.paused, "refused because the adapter was paused");
        line(totals.failed, "came back with an error");
        line(sums.resent, "handed in again after a refusal");
        let reasons: Vec<String> = sums
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {}", reason.replace('_', " ")))
            .collect();
        line(sums.skipped, &format!("left out: {}", reasons.join(", ")));
        line(self.unsent(), "not handed to the driver");
        line(sums.unanswered, "still with the driver, which has not said what became of them");
        if let (Some(Outcome::Failed(status)), false) = (self.first_failure, quiet) {
            let _ = writeln!(text, "the first error was {status:#010x}");
        }
        text
    }
}
