//! What must hold when a process has ended in good order, and when nothing is left to do.

use super::stage::{Stage, Who};
use crate::inbox::memory::Row;
use crate::inbox::{Job, JobState, Task};
use crate::metrics::Metrics;
use crate::model::Seq;

/// Whether nothing is left to do.
pub(super) fn is_at_rest(stage: &Stage) -> bool {
    let (state, memory) = (stage.state(), stage.memory.state());
    let last = memory.last();
    let sinks = (0..stage.plan.sinks.len()).map(|sink| Who { sink, replay: None });
    let mut rows = sinks.map(|who| state.ids.get(&who).and_then(|id| memory.row(*id)));
    rows.all(|row| row.is_some_and(|row| row.cursor == last && row.parked.is_empty()))
        && memory.all_jobs().all(|job| job.state.has_ended())
}

/// After a process that was not killed, the ledger holds all that it did, unless it could not be recorded.
pub(super) fn ended_in_order(stage: &Stage) -> Result<(), String> {
    let state = stage.state();
    match state.witnesses.iter().find(|(who, witness)| !witness.is_recorded() && !state.could_not_record(**who)) {
        Some((who, _)) => Err(format!("{who} has ended in good order, and the ledger does not know all that it did")),
        None => Ok(()),
    }
}

/// Every pair has come to its one end.
pub(super) fn at_rest(stage: &Stage, metrics: &Metrics) -> Result<(), String> {
    let (state, memory) = (stage.state(), stage.memory.state());
    for (who, id) in &state.ids {
        let row = memory.row(*id).ok_or("a consumer is gone")?;
        let witness = state.witnesses.get(who).ok_or("a consumer is unknown")?;
        let wrong = |what: String| Err(format!("{who}: {what}"));
        if row.attempts.len() != witness.recorded() {
            return wrong(format!(
                "{} attempts are in the ledger, {} were made",
                row.attempts.len(),
                witness.recorded()
            ));
        }
        if let Some((seq, _)) =
            row.attempts.keys().find(|(seq, _)| row.has_delivered(*seq) && !witness.has_arrived(*seq))
        {
            return wrong(format!("{seq} counts as delivered, and never arrived"));
        }
        let job = memory.all_jobs().find(|job| Some(job.id) == who.replay);
        let upto = match job {
            Some(job) => match replayed(job, row)? {
                Some(last) => last,
                None => continue,
            },
            None => memory.last(),
        };
        for at in row.first.get()..=upto.get() {
            let event = Seq::new(at).and_then(|seq| memory.event(seq)).ok_or("an event is gone")?;
            let is_filtered = !stage.plan.sinks[who.sink].config.route.wants(&event.event_type);
            let ends = [is_filtered, row.has_delivered(event.seq), row.letters.contains_key(&event.seq)];
            let ends = ends.into_iter().filter(|end| *end).count();
            if ends != 1 {
                return wrong(format!("{at} has ended in {ends} ways"));
            }
        }
        if who.replay.is_none() {
            gauges(stage, metrics, who.sink, row).or_else(wrong)?;
        }
    }
    Ok(())
}

/// Up to where a replay has delivered; `None` for one that was cancelled.
fn replayed(job: &Job, row: &Row) -> Result<Option<Seq>, String> {
    let delivered = row.attempts.keys().map(|(seq, _)| *seq).filter(|seq| row.has_delivered(*seq));
    let delivered = delivered.collect::<std::collections::BTreeSet<_>>().len() as u64;
    let counted = (job.done, job.failed);
    if counted != (delivered, row.open_letters() as u64) {
        return Err(format!("replay {} counts {counted:?}, and delivered {delivered}", job.id));
    }
    let Task::Replay { .. } = &job.task else { return Err(format!("job {} is no replay", job.id)) };
    Ok((job.state == JobState::Done).then(|| row.last().unwrap_or(Seq::ZERO)))
}

fn gauges(stage: &Stage, metrics: &Metrics, sink: usize, row: &Row) -> Result<(), String> {
    let name = stage.plan.sinks[sink].config.name.as_str();
    let of = |gauges: &prometheus::IntGaugeVec| gauges.with_label_values(&[name]).get();
    let told = (of(&metrics.dead_letters), of(&metrics.sink_parked));
    let is = (row.open_letters() as i64, row.parked.len() as i64);
    if told == is {
        Ok(())
    } else {
        Err(format!("dead letters and parked events: {told:?} in gauges, {is:?} in the inbox"))
    }
}
