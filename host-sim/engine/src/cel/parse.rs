//! From words to a tree; what Envoy finds wrong with an expression it finds here.

use super::functions;
use super::lexer::{Token, words};
use super::value::Value;

/// Longest expression, in characters, and deepest nesting: the limits of Envoy's parser.
const MAX_LENGTH: usize = 100_000;
const MAX_DEPTH: usize = 250;

/// An expression.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Literal(Value),
    Ident(String),
    Select(Box<Expr>, String),
    /// `has(a.b)`
    Has(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Choose(Box<Expr>, Box<Expr>, Box<Expr>),
    /// A function, a method (its target is the first argument) or an operator.
    Call(&'static str, Vec<Expr>),
    Loop(Macro, Box<Loop>),
}

/// What a macro asks of the elements of a list, or of the keys of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Macro {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

/// The operands of a macro.
#[derive(Clone, Debug)]
pub(crate) struct Loop {
    pub(super) range: Expr,
    pub(super) variable: String,
    /// Of `map` with three arguments, which elements count.
    pub(super) condition: Option<Expr>,
    pub(super) body: Expr,
}

/// Why a text is no expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoExpression {
    /// Bad syntax, too long, too deep.
    Syntax,
    /// It calls a function that does not exist. Envoy finds that out later, with consequences of its own.
    UnknownFunction,
}

/// The tree.
pub(crate) fn parse(text: &str) -> Result<Expr, NoExpression> {
    if text.chars().count() > MAX_LENGTH {
        return Err(NoExpression::Syntax);
    }
    let tokens = words(text).ok_or(NoExpression::Syntax)?;
    let mut parser = Parser { tokens, at: 0, depth: 0, unknown: false };
    let expr = parser.expr().ok_or(NoExpression::Syntax)?;
    match parser.at == parser.tokens.len() {
        false => Err(NoExpression::Syntax),
        true if parser.unknown => Err(NoExpression::UnknownFunction),
        true => Ok(expr),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// A function was called that does not exist.
    unknown: bool,
}

/// Binary operators by precedence, loosest first.
fn precedence(sign: &str) -> Option<u8> {
    Some(match sign {
        "||" => 1,
        "&&" => 2,
        "<" | "<=" | ">" | ">=" | "==" | "!=" | "in" => 3,
        "+" | "-" => 4,
        "*" | "/" | "%" => 5,
        _ => return None,
    })
}

/// Nesting is stack, of which a guest may have used up most: what is put together from operands is
/// so in functions that are called when the operands have been read.
impl Parser {
    fn peek(&self) -> Option<&'static str> {
        match self.tokens.get(self.at)? {
            Token::Sign(sign) => Some(sign),
            _ => None,
        }
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.peek() == Some(sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Option<()> {
        self.take(sign).then_some(())
    }

    fn expr(&mut self) -> Option<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut expr = self.binary(1)?;
        if self.take("?") {
            expr = self.branches(expr)?;
        }
        self.depth -= 1;
        Some(expr)
    }

    fn branches(&mut self, condition: Expr) -> Option<Expr> {
        let yes = self.binary(1)?;
        self.expect(":")?;
        let no = self.expr()?;
        Some(Expr::Choose(Box::new(condition), Box::new(yes), Box::new(no)))
    }

    fn binary(&mut self, loosest: u8) -> Option<Expr> {
        let mut left = self.unary()?;
        // Each operator makes the tree one deeper.
        let mut deeper = 0;
        while let Some(sign) = self.peek()
            && let Some(level) = precedence(sign).filter(|level| *level >= loosest)
        {
            self.at += 1;
            deeper += 1;
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return None;
            }
            let right = self.binary(level + 1)?;
            left = joined(sign, left, right);
        }
        self.depth -= deeper;
        Some(left)
    }

    fn unary(&mut self) -> Option<Expr> {
        let signs = self.signs();
        self.depth += signs.len();
        if self.depth > MAX_DEPTH {
            return None;
        }
        let expr = self.postfix()?;
        self.depth -= signs.len();
        Some(signs.into_iter().rev().fold(expr, signed))
    }

    fn signs(&mut self) -> Vec<&'static str> {
        let mut signs = Vec::new();
        while let Some(sign @ ("!" | "-")) = self.peek() {
            self.at += 1;
            signs.push(sign);
        }
        signs
    }

    fn postfix(&mut self) -> Option<Expr> {
        let expr = self.primary()?;
        self.links(expr)
    }

    /// Members, methods and places in lists, one behind the other.
    fn links(&mut self, mut expr: Expr) -> Option<Expr> {
        let before = self.depth;
        loop {
            // Each step makes the tree one deeper, also for the arguments that it brings.
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return None;
            }
            if self.take(".") {
                let name = self.ident()?;
                expr = if self.take("(") {
                    let args = self.list(")")?;
                    self.method(expr, &name, args)?
                } else {
                    Expr::Select(Box::new(expr), name)
                };
            } else if self.take("[") {
                let key = self.expr()?;
                self.expect("]")?;
                expr = Expr::Index(Box::new(expr), Box::new(key));
            } else {
                self.depth = before;
                return Some(expr);
            }
        }
    }

    fn primary(&mut self) -> Option<Expr> {
        let token = self.tokens.get(self.at)?.clone();
        self.at += 1;
        match token {
            Token::Literal(value) => Some(Expr::Literal(value)),
            Token::Ident(name) => self.named(name),
            Token::Sign(".") => {
                let name = self.ident()?;
                self.named(name)
            }
            Token::Sign("(") => {
                let expr = self.expr()?;
                self.expect(")")?;
                Some(expr)
            }
            Token::Sign("[") => self.list("]").map(Expr::List),
            Token::Sign("{") => self.map(),
            Token::Sign(_) => None,
        }
    }

    fn named(&mut self, name: String) -> Option<Expr> {
        if !self.take("(") {
            return Some(Expr::Ident(name));
        }
        let mut args = self.list(")")?;
        if name == "has" {
            return match (args.pop()?, args.is_empty()) {
                (Expr::Select(operand, field), true) => Some(Expr::Has(operand, field)),
                _ => None,
            };
        }
        Some(self.call(&name, false, args))
    }

    fn call(&mut self, name: &str, method: bool, args: Vec<Expr>) -> Expr {
        let function = functions::known(name, method, args.len());
        self.unknown |= function.is_none();
        Expr::Call(function.unwrap_or_default(), args)
    }

    /// A method or a macro.
    fn method(&mut self, target: Expr, name: &str, mut args: Vec<Expr>) -> Option<Expr> {
        let kind = match (name, args.len()) {
            ("all", 2) => Macro::All,
            ("exists", 2) => Macro::Exists,
            ("exists_one", 2) => Macro::ExistsOne,
            ("filter", 2) => Macro::Filter,
            ("map", 2 | 3) => Macro::Map,
            _ => {
                args.insert(0, target);
                return Some(self.call(name, true, args));
            }
        };
        let body = args.pop()?;
        let condition = (args.len() == 2).then(|| args.pop()).flatten();
        let Some(Expr::Ident(variable)) = args.pop() else { return None };
        Some(Expr::Loop(kind, Box::new(Loop { range: target, variable, condition, body })))
    }

    fn ident(&mut self) -> Option<String> {
        let Some(Token::Ident(name)) = self.tokens.get(self.at) else { return None };
        self.at += 1;
        Some(name.clone())
    }

    /// To the closing bracket; a comma may stand before it.
    fn list(&mut self, close: &str) -> Option<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(self.expr()?);
            if !self.take(",") {
                self.expect(close)?;
                break;
            }
        }
        Some(items)
    }

    fn map(&mut self) -> Option<Expr> {
        let mut members = Vec::new();
        while !self.take("}") {
            let key = self.expr()?;
            self.expect(":")?;
            members.push((key, self.expr()?));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Some(Expr::Map(members))
    }
}

fn joined(sign: &'static str, left: Expr, right: Expr) -> Expr {
    match sign {
        "||" => Expr::Or(Box::new(left), Box::new(right)),
        "&&" => Expr::And(Box::new(left), Box::new(right)),
        sign => Expr::Call(sign, vec![left, right]),
    }
}

fn signed(expr: Expr, sign: &'static str) -> Expr {
    match (sign, expr) {
        ("-", Expr::Literal(Value::Int(value))) => Expr::Literal(Value::Int(value.wrapping_neg())),
        ("-", Expr::Literal(Value::Double(value))) => Expr::Literal(Value::Double(-value)),
        ("-", expr) => Expr::Call("negate", vec![expr]),
        (sign, expr) => Expr::Call(sign, vec![expr]),
    }
}
