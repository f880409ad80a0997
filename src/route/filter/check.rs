//! What a parsed expression must be before it becomes a filter. Names are checked, so that a typing error is found at
//! the start and not with the first event; and what costs is wrapped in calls that charge for it (`meter`).

use std::collections::{HashMap, HashSet};

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators as op};
use regex::{Regex, RegexBuilder};

use super::meter::{KEY, LOOP, MATCHES, PAY, Pattern};
use super::values::META;

/// Levels of an expression. The parser's own limit is lower, and does not count chains such as `a + a + a`.
const MAX_DEPTH: usize = 256;

/// What a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 256 << 10;

const VARIABLES: [&str; 2] = ["event", "meta"];

/// Names of types, for `type(x) == string`.
const TYPES: [&str; 10] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

const FUNCTIONS: [&str; 13] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    MATCHES,
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// Operators that evaluate their operands themselves, and keep nothing of them.
const LOGIC: [&str; 5] = [op::CONDITIONAL, op::LOGICAL_AND, op::LOGICAL_OR, op::LOGICAL_NOT, op::NOT_STRICTLY_FALSE];

const OPERATORS: [&str; 13] = [
    op::ADD,
    op::SUBSTRACT,
    op::MULTIPLY,
    op::DIVIDE,
    op::MODULO,
    op::NEGATE,
    op::EQUALS,
    op::NOT_EQUALS,
    op::LESS,
    op::LESS_EQUALS,
    op::GREATER,
    op::GREATER_EQUALS,
    op::IN,
];

/// What the check found.
#[derive(Default)]
pub(super) struct Found {
    /// Whether the body is looked at.
    pub(super) needs_event: bool,
    /// Every name and text of the expression: what an error may repeat.
    pub(super) words: HashSet<String>,
    /// Every regular expression.
    pub(super) patterns: HashMap<String, Pattern>,
    /// The variables of the macros around.
    scopes: Vec<String>,
}

/// Checks the expression and puts the charges into it.
pub(super) fn check(expression: &mut IdedExpr) -> Result<Found, String> {
    let mut found = Found::default();
    found.walk(expression, 0)?;
    Ok(found)
}

impl Found {
    /// Answers the number of nodes.
    fn walk(&mut self, expression: &mut IdedExpr, depth: usize) -> Result<u64, String> {
        if depth > MAX_DEPTH {
            return Err(format!("is nested too deeply: {MAX_DEPTH} levels are the limit"));
        }
        let depth = depth + 1;
        match &mut expression.expr {
            Expr::Unspecified => Err("is incomplete".to_owned()),
            Expr::Literal(literal) => {
                if let LiteralValue::String(text) = literal {
                    self.words.insert(text.inner().to_owned());
                }
                Ok(1)
            }
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(select, depth),
            Expr::List(list) => self.all(&mut list.elements, depth, true),
            Expr::Map(map) => {
                let mut weight = 1;
                for entry in &mut map.entries {
                    let EntryExpr::MapEntry(entry) = &mut entry.expr else { return Err(NO_MESSAGES.to_owned()) };
                    for part in [&mut entry.key, &mut entry.value] {
                        weight += self.walk(part, depth)?;
                        wrap(part, PAY, None);
                    }
                }
                Ok(weight)
            }
            Expr::Struct(_) => Err(NO_MESSAGES.to_owned()),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth),
            Expr::Call(call) => self.call(call, depth),
        }
    }

    fn all(&mut self, expressions: &mut [IdedExpr], depth: usize, pay: bool) -> Result<u64, String> {
        let mut weight = 1;
        for expression in expressions {
            weight += self.walk(expression, depth)?;
            if pay {
                wrap(expression, PAY, None);
            }
        }
        Ok(weight)
    }

    fn name(&mut self, name: &str) -> Result<u64, String> {
        if name == "event" && !self.scopes.iter().any(|scope| scope == name) {
            self.needs_event = true;
        }
        // Names with an '@' cannot be written: they come from macros.
        let is_known = self.scopes.iter().any(|scope| scope == name) || name.starts_with('@');
        if is_known || VARIABLES.contains(&name) || TYPES.contains(&name) {
            self.words.insert(name.to_owned());
            return Ok(1);
        }
        Err(format!("has an unknown variable '{name}': known are {}", VARIABLES.join(" and ")))
    }

    fn select(&mut self, select: &mut SelectExpr, depth: usize) -> Result<u64, String> {
        let is_meta = matches!(&select.operand.expr, Expr::Ident(name) if name == "meta");
        let is_shadowed = self.scopes.iter().any(|scope| scope == "meta");
        if is_meta && !is_shadowed && !META.contains(&select.field.as_str()) {
            return Err(format!("has an unknown 'meta.{}': in meta are {}", select.field, META.join(", ")));
        }
        self.words.insert(select.field.clone());
        Ok(1 + self.walk(&mut select.operand, depth)?)
    }

    fn comprehension(&mut self, loops: &mut ComprehensionExpr, depth: usize) -> Result<u64, String> {
        let range = self.walk(&mut loops.iter_range, depth)?;
        self.walk(&mut loops.accu_init, depth)?;
        self.scopes.push(loops.iter_var.clone());
        let mut weight = 0;
        for part in [&mut loops.loop_cond, &mut loops.loop_step, &mut loops.result] {
            weight += self.walk(part, depth)?;
        }
        self.scopes.pop();
        wrap(&mut loops.iter_range, LOOP, Some(weight));
        Ok(range + weight)
    }

    fn call(&mut self, call: &mut CallExpr, depth: usize) -> Result<u64, String> {
        let name = call.func_name.as_str();
        if LOGIC.contains(&name) {
            return self.all(&mut call.args, depth, false);
        }
        if name == op::INDEX {
            let weight = self.all(&mut call.args, depth, false)?;
            if let Some(key) = call.args.last_mut() {
                wrap(key, KEY, None);
            }
            return Ok(weight);
        }
        if OPERATORS.contains(&name) {
            // Where a macro collects, the library knows the shape of the call, and what is added has been charged for.
            let collects =
                matches!(call.args.first(), Some(IdedExpr { expr: Expr::Ident(name), .. }) if name.starts_with('@'));
            return self.all(&mut call.args, depth, !collects);
        }
        if !FUNCTIONS.contains(&name) {
            return Err(format!(
                "has an unknown function '{name}', or one with a wrong number of arguments: known are {}, has, all, \
                 exists, exists_one, filter and map",
                FUNCTIONS.join(", ")
            ));
        }
        if name == MATCHES {
            self.pattern(call)?;
        }
        let mut weight = self.all(&mut call.args, depth, true)?;
        if let Some(target) = &mut call.target {
            weight += self.walk(target, depth)?;
            wrap(target, PAY, None);
        }
        Ok(weight)
    }

    /// A pattern from an event could be anything; and one that is known can be refused at once.
    fn pattern(&mut self, call: &CallExpr) -> Result<(), String> {
        let operands = call.args.len() + usize::from(call.target.is_some());
        match call.args.last().map(|last| &last.expr) {
            Some(Expr::Literal(LiteralValue::String(pattern))) if operands == 2 => {
                let pattern = pattern.inner();
                if !self.patterns.contains_key(pattern) {
                    self.patterns.insert(pattern.to_owned(), compile(pattern)?);
                }
                Ok(())
            }
            _ => Err("has matches() without a pattern in quotes: write event.data.x.matches('^a.*z$')".to_owned()),
        }
    }
}

/// Whether a name is a function's: such a name may be repeated.
pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

const NO_MESSAGES: &str = "makes a message, and there are no types of messages: use a map, {'a': 1}";

/// `name(expression)`, with a number as second argument where there is one. A literal costs nothing.
fn wrap(expression: &mut IdedExpr, name: &str, number: Option<u64>) {
    if number.is_none() && matches!(expression.expr, Expr::Literal(_)) && name == PAY {
        return;
    }
    let mut args = vec![std::mem::take(expression)];
    if let Some(number) = number {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        args.push(IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(number.into())) });
    }
    expression.expr = Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args });
}

/// The weight is the least size, in KiB and as a power of two, that the compiled pattern fits: at worst a search
/// follows all of it at once.
fn compile(pattern: &str) -> Result<Pattern, String> {
    let build = |limit: usize| RegexBuilder::new(pattern).size_limit(limit).dfa_size_limit(1 << 20).build();
    let mut limit = 1 << 10;
    loop {
        match build(limit) {
            Ok(regex) => return Ok(Pattern { regex, weight: limit as u64 >> 10 }),
            Err(regex::Error::CompiledTooBig(_)) if limit < MAX_PATTERN_BYTES => limit *= 2,
            Err(regex::Error::CompiledTooBig(_)) => {
                return Err("has a regular expression that is too large: use fewer or smaller repetitions".to_owned());
            }
            Err(_) => return Err(format!("has an invalid regular expression '{pattern}': {}", syntax(pattern))),
        }
    }
}

/// The last line of the library's picture of what is wrong.
fn syntax(pattern: &str) -> String {
    let error = Regex::new(pattern).err().map(|error| error.to_string()).unwrap_or_default();
    let line = error.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
