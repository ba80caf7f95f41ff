//! Programs, encoded for the probe.
//!
//! All programs of a run are one table, which every probe carries in its memory: a request names
//! its program by number, so the requests themselves stay small and alike.
//!
//! The table: count, then one offset a program. A program: number of operations, then 64 bytes
//! each: phase, call, when, limit, number slots, pointer slot, register, its slot, the kinds of the
//! arguments (4 bits each), 12 arguments. Everything little-endian; offsets from the table's start.

use crate::op::{Arg, Op};

/// Largest number of arguments.
const ARGS: usize = 12;

/// The table of these programs.
pub(crate) fn table(programs: &[&[Op]]) -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, programs.len());
    let mut at = 4 + 4 * programs.len();
    for program in programs {
        push(&mut out, at);
        at += 4 + 64 * program.len();
    }
    // Data comes after all programs.
    let mut data = Vec::new();
    for program in programs {
        push(&mut out, program.len());
        for op in *program {
            encode(op, &mut out, &mut data, at);
        }
    }
    out.append(&mut data);
    out
}

fn encode(op: &Op, out: &mut Vec<u8>, data: &mut Vec<u8>, data_at: usize) {
    let (register, slot) = op.save.unwrap_or((0, 0));
    out.extend([
        op.phase as u8,
        op.call.number(),
        op.when as u8,
        op.limit.unwrap_or(u8::MAX),
        op.int_slots(),
        op.pointer_slot().unwrap_or(u8::MAX),
        register,
        slot,
    ]);
    let mut kinds = 0_u64;
    let mut values = [0_u32; ARGS];
    for (at, arg) in op.args.iter().enumerate() {
        let (kind, value) = match arg {
            Arg::Imm(value) => (0, *value),
            Arg::Data(bytes) => {
                let place = u32::try_from(data_at + data.len()).unwrap_or(u32::MAX);
                data.extend(bytes);
                (1, place)
            }
            Arg::OutInt(slot) | Arg::OutPtr(slot) => (2, 4 * u32::from(*slot)),
            Arg::OutLen(slot) => (2, 4 * (u32::from(*slot) + 1)),
            Arg::Reg(register) => (3, u32::from(*register)),
            Arg::Context(plus) => (4, plus.cast_unsigned()),
            Arg::High(value) => (5, *value),
            Arg::End(plus) => (6, plus.cast_unsigned()),
            Arg::Root => (7, 0),
        };
        kinds |= kind << (4 * at);
        values[at] = value;
    }
    out.extend(kinds.to_le_bytes());
    values.iter().for_each(|value| out.extend(value.to_le_bytes()));
}

fn push(out: &mut Vec<u8>, number: usize) {
    out.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}
