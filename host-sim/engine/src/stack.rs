//! Where in a plugin's source something happens: frames of the guest's stack, with file and line.
//!
//! wasmtime can look them up itself, but only in code compiled with all of DWARF in it, for every
//! engine and every cached module. Here the module's own sections are kept beside the code, and
//! read when somebody asks: a trap, or a lint that has found something new.

use std::fmt;
use wasmparser::{Parser, Payload};
use wasmtime::WasmBacktrace;

type Slice<'a> = gimli::EndianSlice<'a, gimli::LittleEndian>;

/// A function on a guest's stack, innermost first; functions inlined into it have frames of their
/// own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its name, demangled; `wasm-function[12]` where the module has no names.
    pub function: String,
    /// Where it is, if the module carries DWARF.
    pub place: Option<Place>,
}

/// A line of source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Path, as the compiler wrote it.
    pub file: String,
    /// From 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Parts of paths that no plugin's author has written.
const FOREIGN_FILES: [&str; 8] = [
    "/rustc/",
    "/library/",
    "/rust/deps/",
    "/registry/src/",
    "/git/checkouts/",
    "proxy-wasm-rust-sdk",
    "wasi-libc",
    "/emscripten/",
];

/// Beginnings of the names of functions that no plugin's author has written.
const FOREIGN_FUNCTIONS: [&str; 8] =
    ["core::", "std::", "alloc::", "proxy_wasm::", "rust_", "__rust", "__rdl", "hashbrown::"];

impl Frame {
    /// Whether the plugin's author wrote it, rather than an SDK or a standard library.
    #[must_use]
    pub fn is_authors(&self) -> bool {
        let name = self.function.trim_start_matches('<');
        let foreign = FOREIGN_FUNCTIONS.iter().any(|start| name.starts_with(start));
        match &self.place {
            Some(place) => !FOREIGN_FILES.iter().any(|part| place.file.contains(part)),
            None => !foreign,
        }
    }
}

/// The place in the author's own code that is nearest to what happened.
#[must_use]
pub fn authors_place(frames: &[Frame]) -> Option<&Place> {
    frames.iter().find(|frame| frame.is_authors() && frame.place.is_some())?.place.as_ref()
}

/// How a VM failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// In V8's words, then wasmtime's.
    pub reason: String,
    /// What the plugin said in the callback, at warning level or above: a panic's message.
    pub said: String,
    /// The guest's stack, innermost first.
    pub frames: Vec<Frame>,
}

/// A module's debug information.
#[derive(Debug, Default)]
pub(crate) struct DebugInfo {
    /// What DWARF counts from: the code section's content, in bytes from the module's begin.
    code: usize,
    /// Sections `.debug_*`.
    sections: Vec<(String, Vec<u8>)>,
}

impl DebugInfo {
    /// Of a module that compiles; whatever cannot be read is not there.
    pub(crate) fn of(code: &[u8]) -> Self {
        let mut info = Self::default();
        for payload in Parser::new(0).parse_all(code).map_while(Result::ok) {
            match payload {
                Payload::CodeSectionStart { range, .. } => info.code = range.start,
                Payload::CustomSection(section) if section.name().starts_with(".debug_") => {
                    info.sections.push((section.name().to_owned(), section.data().to_vec()));
                }
                _ => {}
            }
        }
        info
    }

    /// Frames of a captured stack.
    pub(crate) fn frames(&self, trace: &WasmBacktrace) -> Vec<Frame> {
        let context = self.context();
        let mut frames = Vec::new();
        for info in trace.frames() {
            let before = frames.len();
            let offset = info.module_offset().and_then(|offset| offset.checked_sub(self.code));
            if let (Some(context), Some(offset)) = (&context, offset) {
                inlined(context, offset as u64, &mut frames);
            }
            if frames.len() == before {
                let name = info.func_name().map_or_else(
                    || format!("wasm-function[{}]", info.func_index()),
                    |name| format!("{:#}", rustc_demangle::demangle(name)),
                );
                frames.push(Frame { function: name, place: None });
            }
        }
        frames
    }

    /// Of the stack at which an error left the guest.
    pub(crate) fn frames_of(&self, error: &wasmtime::Error) -> Vec<Frame> {
        error.downcast_ref::<WasmBacktrace>().map(|trace| self.frames(trace)).unwrap_or_default()
    }

    fn context(&self) -> Option<addr2line::Context<Slice<'_>>> {
        if self.sections.is_empty() {
            return None;
        }
        let section = |id: gimli::SectionId| -> Result<Slice<'_>, gimli::Error> {
            let found = self.sections.iter().find(|(name, _)| name == id.name());
            let bytes = found.map_or(&[][..], |(_, bytes)| bytes.as_slice());
            Ok(Slice::new(bytes, gimli::LittleEndian))
        };
        addr2line::Context::from_dwarf(gimli::Dwarf::load(section).ok()?).ok()
    }
}

fn inlined(context: &addr2line::Context<Slice<'_>>, offset: u64, frames: &mut Vec<Frame>) {
    let Ok(mut found) = context.find_frames(offset).skip_all_loads() else { return };
    while let Ok(Some(frame)) = found.next() {
        let name = frame.function.as_ref().and_then(|name| name.raw_name().ok());
        let name = name.map(|name| format!("{:#}", rustc_demangle::demangle(&name)));
        let place = frame.location.and_then(|at| {
            Some(Place { file: at.file?.to_owned(), line: at.line.filter(|line| *line > 0)? })
        });
        // Without either it says less than the module's own names.
        if name.is_some() || place.is_some() {
            frames.push(Frame { function: name.unwrap_or_default(), place });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: Option<&str>) -> Frame {
        let place = file.map(|file| Place { file: file.to_owned(), line: 7 });
        Frame { function: function.to_owned(), place }
    }

    #[test]
    fn the_place_is_the_authors_not_the_standard_librarys_nor_the_sdks() {
        let frames = [
            frame("core::panicking::panic_fmt", Some("/rustc/abc/library/core/src/panicking.rs")),
            frame("proxy_wasm::hostcalls::get_map", Some("/x/registry/src/y/proxy-wasm/src/h.rs")),
            frame("my::Filter::on_request", Some("/home/me/src/lib.rs")),
        ];
        assert_eq!(authors_place(&frames).unwrap().to_string(), "/home/me/src/lib.rs:7");
    }

    #[test]
    fn a_frame_without_a_place_is_told_by_its_name() {
        assert!(!frame("<core::option::Option<T>>::unwrap", None).is_authors());
        assert!(frame("my_filter::run", None).is_authors());
        assert_eq!(authors_place(&[frame("my_filter::run", None)]), None);
    }

    #[test]
    fn bytes_that_are_no_module_have_no_debug_information() {
        assert!(DebugInfo::of(b"nonsense").context().is_none());
    }
}
