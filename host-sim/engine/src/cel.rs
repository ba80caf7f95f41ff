//! The Common Expression Language, as `expr_create` and `expr_evaluate` offer it to plugins.
//!
//! An evaluator of our own, because of what it runs over: the attributes, whose values, groups and
//! messages `proxy_get_property` walks and encodes with the same code. Expressions come from guests
//! and are not to be trusted: their length, depth and work, and the size of what they make, are
//! bounded.

mod eval;
mod functions;
mod lexer;
mod number;
mod parse;
mod time;
mod value;

pub(crate) use eval::{Activation, evaluate};
pub(crate) use parse::{Expr, NoExpression, parse};
pub(crate) use value::{Group, Message, Value, field, serialize};
