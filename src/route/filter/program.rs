//! An expression that has been checked, and its evaluation. Lives and dies on the filter's own thread.

use std::sync::Arc;

use cel::common::types::CelBool;
use cel::{Context, Env, ExecutionError, IdedExpr, ParseErrors, Value};

use super::check::{self, Found};
use super::meter::{self, Meter};
use super::values;
use crate::route::Subject;

/// The most of the parser's words that are repeated.
const MAX_MESSAGE_CHARS: usize = 300;

/// Names of types, as they may appear in an error.
const TYPES: [&str; 9] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "uint"];

pub(super) struct Program {
    expression: IdedExpr,
    found: Found,
    meter: Arc<Meter>,
    context: Context<'static, 'static>,
}

impl Program {
    /// `Err` says what is wrong with the expression, beginning with a verb.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        let env = Env::stdlib().with_optional_support(false);
        let mut expression = env.parser().parse(source).map_err(|errors| syntax(&errors))?;
        let mut found = check::check(&mut expression)?;
        let meter = Arc::new(Meter::default());
        let mut context = Context::with_env(Arc::new(env));
        meter::add_functions(&mut context, &meter, std::mem::take(&mut found.patterns))
            .map_err(|error| format!("cannot be compiled: {error}"))?;
        Ok(Self { expression, found, meter, context })
    }

    /// True or false, or why neither. The text holds nothing of the event.
    pub(super) fn evaluate(&self, subject: &Subject) -> Result<bool, String> {
        let mut scope = self.context.new_inner_scope();
        scope.add_variable_as_val("meta", values::meta(subject));
        let mut unreadable = None;
        if self.found.needs_event {
            match values::event(&subject.reading()) {
                Ok(event) => scope.add_variable_as_val("event", event),
                // The expression may do without it: `meta.type == 'malformed' || event.data.x`.
                Err(why) => unreadable = Some(why),
            }
        }
        self.meter.refill();
        let result = Value::resolve_val(&self.expression, &scope);
        if self.meter.is_empty() {
            return Err("the filter takes too long for this event: simplify it".to_owned());
        }
        match (result, unreadable) {
            (Ok(value), _) => match value.downcast_ref::<CelBool>() {
                Some(truth) => Ok(*truth.inner()),
                None => Err("the filter did not give true or false".to_owned()),
            },
            (Err(_), Some(why)) => Err(format!("the filter looks at the body, and {why}")),
            (Err(error), None) => Err(self.explain(&error)),
        }
    }

    /// An error in words of the expression alone: what the library says may repeat values of the event.
    fn explain(&self, error: &ExecutionError) -> String {
        let known = |word: &str| self.found.words.contains(word);
        match error {
            ExecutionError::NoSuchKey(name) if known(name) => {
                format!("the filter found no '{name}' in the event: ask with has() first")
            }
            ExecutionError::NoSuchKey(_) => "the filter found no such key in the event".to_owned(),
            ExecutionError::NoSuchOverload(error) => {
                let types = error.argument_types().iter().map(String::as_str);
                let types: Vec<&str> = types.map(|name| if TYPES.contains(&name) { name } else { "?" }).collect();
                let function = error.function().replace(['_', '@'], "");
                format!("the filter cannot apply '{function}' to ({})", types.join(", "))
            }
            ExecutionError::IndexOutOfBounds(_) => "the filter went beyond the end of a list".to_owned(),
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
                "the filter divided by zero".to_owned()
            }
            ExecutionError::Overflow(..) => "the filter's arithmetic went beyond 64 bits".to_owned(),
            ExecutionError::FunctionError { function, .. } if check::is_function(function) => {
                format!("the filter's {function}() failed")
            }
            _ => "the filter met a value of a type that it cannot use".to_owned(),
        }
    }
}

fn syntax(errors: &ParseErrors) -> String {
    let Some(error) = errors.errors.first() else { return "is not an expression".to_owned() };
    let message: String = error.msg.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let message: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
    format!("is not an expression (line {}, column {}): {message}", error.pos.0, error.pos.1)
}
