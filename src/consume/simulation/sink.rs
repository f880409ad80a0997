//! A sink that behaves as its plan and chance say.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::stage::{Stage, Who};
use crate::model::{Outcome, Outgoing, Reason};
use crate::sink::Sink;

/// See the module.
pub(super) struct Far {
    pub stage: Arc<Stage>,
    pub sink: usize,
}

/// A call that is under way. Dropped without an answer, nobody knows what became of it.
struct Call<'a> {
    stage: &'a Stage,
    who: Who,
    number: usize,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.stage.call_ends(self.who, self.number);
    }
}

impl Far {
    /// `None`: it never answers.
    fn answer(&self, event: &Outgoing) -> Option<Outcome> {
        let (stage, plan) = (&self.stage, &self.stage.plan.sinks[self.sink]);
        if stage.is_out(&plan.outages) {
            return stage.chance(80).then(|| Outcome::transient("down"));
        }
        if stage.mishap(plan.hangs) {
            return None;
        }
        let is_poison = event.seq.get().unsigned_abs().wrapping_mul(37) % 100 < u64::from(plan.poisoned);
        if is_poison && !stage.state().healed || stage.mishap(plan.permanent) {
            return Some(Outcome::permanent("HTTP 400"));
        }
        let of_class =
            |(begin, _): &(&str, bool)| !stage.state().healed && event.event_type.as_str().starts_with(begin);
        if let Some((_, permanent)) = plan.class.filter(of_class) {
            stage.count("events of a class");
            return Some(if permanent { Outcome::permanent("HTTP 422") } else { Outcome::transient("HTTP 500") });
        }
        if stage.mishap(plan.transient) {
            let retry_after = stage.chance(20).then(|| Duration::from_secs(3));
            return Some(Outcome::Transient { reason: Reason::new("HTTP 503"), retry_after });
        }
        Some(Outcome::delivered("ok"))
    }
}

#[async_trait]
impl Sink for Far {
    async fn deliver(&self, event: &Outgoing) -> Outcome {
        let (stage, who) = (&self.stage, Who { sink: self.sink, replay: event.replay });
        let Some(number) = stage.call_begins(who, event) else { return std::future::pending().await };
        let call = Call { stage, who, number };
        let latency = stage.plan.sinks[self.sink].latency / 2;
        stage.step(format!("{who} hands {} over", event.seq)).await;
        let answer = self.answer(event);
        stage.pass(latency).await;
        // What fails, or is never answered, may have arrived all the same.
        if matches!(answer, Some(Outcome::Delivered { .. })) || stage.chance(30) {
            stage.step(format!("{who} takes {}", event.seq)).await;
            stage.call_arrives(who, number);
            stage.pass(latency).await;
        }
        let Some(outcome) = answer else { return std::future::pending().await };
        stage.step(format!("{who} answers to {}: {}", event.seq, outcome.label())).await;
        stage.call_answers(who, number, &outcome);
        drop(call);
        outcome
    }

    async fn probe(&self) -> Result<Option<String>, String> {
        Ok(None)
    }

    async fn close(&self) {}
}
