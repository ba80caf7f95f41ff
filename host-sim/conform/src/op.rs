//! One operation of a probe's program: a hostcall with its arguments, or a step of the probe's own.
//!
//! Programs are data: the probe interprets them, so a new cell needs no new module. Every argument
//! of every hostcall can be anything, also what no SDK would send.

use crate::{Phase, wasi};
use host_sim_abi::{AbiVersion, HOSTCALLS};

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// The number.
    Imm(u32),
    /// A pointer to these bytes.
    Data(Vec<u8>),
    /// A pointer to an out slot that holds a number after the call.
    OutInt(u8),
    /// A pointer to an out slot that holds a pointer after the call; its length is in the next.
    OutPtr(u8),
    /// A pointer to the out slot of that pointer's length.
    OutLen(u8),
    /// What an earlier operation saved.
    Reg(u8),
    /// The context of the callback, plus a number.
    Context(i32),
    /// For an `i64`: the number in its upper half.
    High(u32),
    /// The end of memory, plus a number.
    End(i32),
    /// The root context last created in this VM.
    Root,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A hostcall, by its index in [`HOSTCALLS`].
    Host(usize),
    /// A function of WASI, by its index in the table of `wasi.rs`.
    Wasi(usize),
    /// Sets what the callback returns.
    Return,
    /// Executes `unreachable`.
    Trap,
    /// Sets a register: number, value.
    Set,
    /// The next stream context begins with this very program, or so many after it, before any
    /// header can be read.
    Next,
}

/// Functions of WASI come after the hostcalls.
pub(crate) const WASI: usize = 100;

impl Call {
    /// Whether the host does it, and answers.
    pub(crate) fn is_import(self) -> bool {
        matches!(self, Self::Host(_) | Self::Wasi(_))
    }

    /// How the probe names it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Host(index) => u8::try_from(index).unwrap_or(u8::MAX),
            Self::Wasi(index) => u8::try_from(WASI + index).unwrap_or(u8::MAX),
            Self::Return => 200,
            Self::Trap => 201,
            Self::Set => 202,
            Self::Next => 203,
        }
    }
}

/// In which invocations of the callback an operation runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// In all.
    #[default]
    Always = 0,
    /// Where the stream's end is signalled.
    AtEnd = 1,
    /// Where it is not.
    BeforeEnd = 2,
}

/// Which part of an answer two hosts must agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Agree {
    /// Status, numbers and bytes.
    #[default]
    All,
    /// Status and lengths: a time, a port, an identity.
    Shape,
    /// The status: a text or a duration of the host's own.
    Status,
}

/// An operation.
#[derive(Clone, Debug)]
pub struct Op {
    /// Name of the cell, unique within phase and program.
    pub label: String,
    /// The callback it runs in.
    pub phase: Phase,
    /// What it does.
    pub call: Call,
    /// Its arguments.
    pub args: Vec<Arg>,
    /// When.
    pub when: When,
    /// How often at most, in one VM.
    pub limit: Option<u8>,
    /// Register and out slot: what is kept for later operations.
    pub save: Option<(u8, u8)>,
    /// What must agree.
    pub agree: Agree,
}

impl Op {
    /// A hostcall by name, without its `proxy_`; the label is the name and `what`.
    ///
    /// # Panics
    /// When the ABI has no such hostcall, or takes another number of arguments.
    #[must_use]
    pub fn host(phase: Phase, name: &str, what: &str, args: Vec<Arg>) -> Self {
        let full = format!("proxy_{name}");
        let found = HOSTCALLS.iter().position(|hostcall| hostcall.name == full);
        let index = found.unwrap_or_else(|| panic!("no hostcall {full}"));
        assert_eq!(args.len(), HOSTCALLS[index].params.len(), "{full}: arguments");
        Self::new(phase, format!("{name}({what})"), Call::Host(index), args)
    }

    /// A function of WASI; the label is the name and `what`.
    ///
    /// # Panics
    /// When there is none of that name, or it takes another number of arguments.
    #[must_use]
    pub fn wasi(phase: Phase, name: &str, what: &str, args: Vec<Arg>) -> Self {
        let found = wasi::FUNCTIONS.iter().position(|(known, _)| *known == name);
        let index = found.unwrap_or_else(|| panic!("no WASI function {name}"));
        assert_eq!(args.len(), wasi::FUNCTIONS[index].1.len(), "{name}: arguments");
        Self::new(phase, format!("{name}({what})"), Call::Wasi(index), args)
    }

    /// Lets the callback return this.
    #[must_use]
    pub fn answer(phase: Phase, value: u32) -> Self {
        Self::new(phase, format!("return {value}"), Call::Return, vec![Arg::Imm(value)])
    }

    /// Lets the module trap.
    #[must_use]
    pub fn trap(phase: Phase) -> Self {
        Self::new(phase, "trap".to_owned(), Call::Trap, Vec::new())
    }

    /// Any operation.
    #[must_use]
    pub fn new(phase: Phase, label: String, call: Call, args: Vec<Arg>) -> Self {
        let (when, agree) = (When::default(), Agree::default());
        Self { label, phase, call, args, when, limit: None, save: None, agree }
    }

    /// Only in some invocations.
    #[must_use]
    pub fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    /// Only the first time in a VM.
    #[must_use]
    pub fn once(self) -> Self {
        Self { limit: Some(1), ..self }
    }

    /// Keeps the first out slot in a register.
    #[must_use]
    pub fn save(self, register: u8) -> Self {
        Self { save: Some((register, 0)), ..self }
    }

    /// Keeps that out slot in a register.
    #[must_use]
    pub fn save_slot(self, register: u8, slot: u8) -> Self {
        Self { save: Some((register, slot)), ..self }
    }

    /// What must agree.
    #[must_use]
    pub fn agree(self, agree: Agree) -> Self {
        Self { agree, ..self }
    }

    /// Whether a module of that version can do it.
    pub(crate) fn is_in(&self, version: AbiVersion) -> bool {
        match self.call {
            Call::Host(index) => HOSTCALLS.get(index).is_some_and(|call| call.is_in(version)),
            _ => true,
        }
    }

    /// Out slots that hold numbers, one bit each.
    pub(crate) fn int_slots(&self) -> u8 {
        let slots = self.args.iter().filter_map(|arg| match arg {
            Arg::OutInt(slot) => Some(1 << slot),
            _ => None,
        });
        slots.sum()
    }

    /// The out slot that holds a pointer.
    pub(crate) fn pointer_slot(&self) -> Option<u8> {
        self.args.iter().find_map(|arg| match arg {
            Arg::OutPtr(slot) => Some(*slot),
            _ => None,
        })
    }
}

/// Arguments of a byte string: pointer and length.
#[must_use]
pub fn text(bytes: impl AsRef<[u8]>) -> [Arg; 2] {
    let bytes = bytes.as_ref();
    [Arg::Data(bytes.to_vec()), Arg::Imm(u32::try_from(bytes.len()).unwrap_or(u32::MAX))]
}
