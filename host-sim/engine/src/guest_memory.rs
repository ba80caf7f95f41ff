//! Reading and writing a guest's memory, checked: no pointer of a guest can hurt the host.

use crate::fault::{Fault, Reply};
use crate::vm::VmState;
use host_sim_abi::Status;
use wasmtime::Caller;

/// A guest in the middle of a hostcall.
pub(crate) type Guest<'a> = Caller<'a, VmState>;

/// The guest's memory beside the VM's state, both at once.
pub(crate) fn split<'g>(
    guest: &'g mut Guest<'_>,
) -> Result<(&'g mut [u8], &'g mut VmState), Fault> {
    let Some(memory) = guest.data().memory else {
        return Err(Fault::trap("a start section calls the host; Envoy aborts on such a module"));
    };
    Ok(memory.data_and_store_mut(guest))
}

/// `len` bytes at `ptr`.
pub(crate) fn slice(memory: &[u8], ptr: u32, len: u32) -> Result<&[u8], Status> {
    let start = ptr as usize;
    memory.get(start..start + len as usize).ok_or(Status::InvalidMemoryAccess)
}

/// `len` writable bytes at `ptr`.
pub(crate) fn slice_mut(memory: &mut [u8], ptr: u32, len: u32) -> Result<&mut [u8], Status> {
    let start = ptr as usize;
    memory.get_mut(start..start + len as usize).ok_or(Status::InvalidMemoryAccess)
}

/// The `u32` at `ptr`.
pub(crate) fn u32_at(memory: &[u8], ptr: u32) -> Result<u32, Status> {
    let bytes = slice(memory, ptr, 4)?;
    Ok(bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
}

/// Writes bytes to `ptr`.
pub(crate) fn put(memory: &mut [u8], ptr: u32, bytes: &[u8]) -> Result<(), Status> {
    let len = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
    slice_mut(memory, ptr, len)?.copy_from_slice(bytes);
    Ok(())
}

/// Writes a `u32` to `ptr`.
pub(crate) fn put_u32(memory: &mut [u8], ptr: u32, value: u32) -> Result<(), Status> {
    put(memory, ptr, &value.to_le_bytes())
}

/// Hands bytes to the guest: the two words at `ptr_out` and `len_out` say where they are.
pub(crate) fn give(guest: &mut Guest<'_>, bytes: &[u8], ptr_out: u32, len_out: u32) -> Reply {
    let ptr = place(guest, bytes)?;
    let (memory, _) = split(guest)?;
    put_u32(memory, ptr_out, ptr)?;
    put_u32(memory, len_out, u32::try_from(bytes.len()).unwrap_or(u32::MAX))?;
    if let Some(observer) = &guest.data().observer {
        observer.given(guest.data().origin(), bytes.len());
    }
    Ok(())
}

/// Copies bytes to where the guest's own allocator makes room. Nothing is allocated for no bytes.
pub(crate) fn place(guest: &mut Guest<'_>, bytes: &[u8]) -> Result<u32, Fault> {
    let len = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
    if len == 0 {
        return Ok(0);
    }
    let ptr = allocate(guest, len)?;
    let (memory, _) = split(guest)?;
    put(memory, ptr, bytes)?;
    Ok(ptr)
}

fn allocate(guest: &mut Guest<'_>, len: u32) -> Result<u32, Fault> {
    // Taken and put back: a clone of a typed function counts references under way to a shared type.
    let Some(allocate) = guest.data_mut().allocate.take() else {
        return Err(Status::InternalFailure.into());
    };
    guest.data_mut().allocating = true;
    let ptr = allocate.call(&mut *guest, len);
    let state = guest.data_mut();
    state.allocating = false;
    state.allocate = Some(allocate);
    match ptr.map_err(Fault::Trap)? {
        0 => Err(Status::InvalidMemoryAccess.into()),
        ptr => Ok(ptr),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pointer_and_length_reach_outside() {
        let mut memory = vec![0; 8];
        assert_eq!(slice(&memory, 4, 4).map(<[u8]>::len), Ok(4));
        assert_eq!(slice(&memory, 5, 4), Err(Status::InvalidMemoryAccess));
        assert_eq!(slice(&memory, u32::MAX, u32::MAX), Err(Status::InvalidMemoryAccess));
        assert_eq!(put_u32(&mut memory, 6, 1), Err(Status::InvalidMemoryAccess));
        assert_eq!(put_u32(&mut memory, 4, 0x0102_0304), Ok(()));
        assert_eq!(u32_at(&memory, 4), Ok(0x0102_0304));
    }
}
