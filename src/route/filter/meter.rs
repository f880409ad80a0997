//! What an evaluation may cost. The library has no such bound, so the checked expression carries calls of these
//! functions around everything that takes or makes more than one value; without them `l.all(a, l.all(b, ..))` over a
//! long list, or a few doublings of a text, would never end.
//!
//! One unit is about one step of the interpreter, one value, or 16 bytes of text.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::common::types::{CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelString};
use cel::common::value::{CowVal, Val};
use cel::{Context, ExecutionError, FunctionContext};
use regex::Regex;

/// Of one evaluation: some tenths of a second at worst.
const BUDGET: u64 = 1_000_000;

/// Charges for a value (and all that is in it) that something is about to work on or to copy.
pub(super) const PAY: &str = "@pay";
/// Charges for the list that a macro goes through, and for what is done with each item.
pub(super) const LOOP: &str = "@loop";
/// Refuses indexes for which the library would copy the whole list into its error.
pub(super) const KEY: &str = "@key";
/// Looks for a regular expression that was compiled with the filter.
pub(super) const MATCHES: &str = "matches";

type Called<'c, 'v> = Result<CowVal<'c, 'v>, ExecutionError>;
type Function = Box<dyn for<'c, 'v> Fn(&mut FunctionContext<'c, 'v>) -> Called<'c, 'v> + Send + Sync>;

/// A pattern and what it costs to look for it in 4 bytes of text.
pub(super) struct Pattern {
    pub(super) regex: Regex,
    pub(super) weight: u64,
}

/// What is left of the budget.
#[derive(Default)]
pub(super) struct Meter(AtomicU64);

impl Meter {
    pub(super) fn refill(&self) {
        self.0.store(BUDGET, Ordering::Relaxed);
    }

    /// Whether the last evaluation ran out. Its result means nothing then, because `||` swallows errors.
    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn spend(&self, units: u64) -> Result<(), ExecutionError> {
        let left = self.0.load(Ordering::Relaxed).saturating_sub(units);
        self.0.store(left, Ordering::Relaxed);
        if left == 0 { Err(ExecutionError::InternalError("too costly".to_owned())) } else { Ok(()) }
    }

    fn pay(&self, value: &dyn Val) -> Result<(), ExecutionError> {
        if let Some(list) = value.downcast_ref::<CelList<'_>>() {
            self.spend(1)?;
            list.inner().iter().try_for_each(|item| self.pay(item.as_ref()))
        } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
            self.spend(1)?;
            map.inner().iter().try_for_each(|(key, item)| self.pay(key.inner()).and_then(|()| self.pay(item.as_ref())))
        } else if let Some(text) = value.downcast_ref::<CelString<'_>>() {
            self.spend(1 + text.inner().len() as u64 / 16)
        } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
            self.spend(1 + bytes.inner().len() as u64 / 16)
        } else {
            self.spend(1)
        }
    }
}

/// The functions that a checked expression calls beside the standard ones.
pub(super) fn add_functions(
    context: &mut Context<'_, '_>,
    meter: &Arc<Meter>,
    patterns: HashMap<String, Pattern>,
) -> Result<(), cel::DeclarationError> {
    context.add_function(PAY, pay(Arc::clone(meter)))?;
    context.add_function(LOOP, each(Arc::clone(meter)))?;
    context.add_function(KEY, key())?;
    context.add_function(MATCHES, matches(Arc::clone(meter), patterns))
}

fn pay(meter: Arc<Meter>) -> Function {
    Box::new(move |call| {
        let value = call.args.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
        meter.pay(value.as_ref())?;
        Ok(value)
    })
}

/// The second argument is the weight of the body: how many nodes of the expression each item is given to.
fn each(meter: Arc<Meter>) -> Function {
    Box::new(move |call| {
        let weight = call.args.pop().and_then(|weight| Some(*weight.downcast_ref::<CelInt>()?.inner()));
        let weight = weight.and_then(|weight| u64::try_from(weight).ok()).unwrap_or(BUDGET);
        let range = call.args.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
        meter.pay(range.as_ref())?;
        let items = range.as_sizer().map_or(0, |sizer| u64::try_from(*sizer.size().inner()).unwrap_or(BUDGET));
        meter.spend(items.saturating_mul(weight))?;
        Ok(range)
    })
}

fn key() -> Function {
    Box::new(|call| {
        let key = call.args.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
        match key.downcast_ref::<CelDouble>() {
            Some(_) => Err(ExecutionError::no_such_overload("_[_]", vec!["double".to_owned()])),
            None => Ok(key),
        }
    })
}

fn matches(meter: Arc<Meter>, patterns: HashMap<String, Pattern>) -> Function {
    Box::new(move |call| {
        let pattern = call.args.pop();
        let text = call.this.take().or_else(|| call.args.pop());
        let pattern = pattern.as_ref().and_then(|value| value.downcast_ref::<CelString<'_>>());
        let pattern = pattern.and_then(|pattern| patterns.get(pattern.inner()));
        let text = text.as_ref().and_then(|value| value.downcast_ref::<CelString<'_>>());
        let (Some(pattern), Some(text)) = (pattern, text) else {
            return Err(ExecutionError::no_such_overload(MATCHES, Vec::new()));
        };
        meter.spend((1 + text.inner().len() as u64 / 4).saturating_mul(pattern.weight))?;
        Ok(CowVal::owned(CelBool::from(pattern.regex.is_match(text.inner()))))
    })
}
