//! Shared data as this crate uses it: what cannot be read is absent, and noted.

use crate::Note;
use crate::note::Source;
use shared_state::{Expected, Key, Record, SetError, SharedStore, Transition, encode};

/// Notes kept between two ticks. A store that fails, fails on every access.
const MAX_NOTES: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<Note>);

impl Notes {
    pub(crate) fn push(&mut self, note: Note) {
        if self.0.len() < MAX_NOTES {
            self.0.push(note);
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Note> {
        core::mem::take(&mut self.0)
    }

    pub(crate) fn read<R: Record>(
        &mut self,
        store: &impl SharedStore,
        key: &Key<R>,
        source: Source,
    ) -> Option<R> {
        shared_state::read(store, key).unwrap_or_else(|error| {
            self.push(Note::read(source, error));
            None
        })
    }

    pub(crate) fn update<R: Record, T>(
        &mut self,
        store: &impl SharedStore,
        key: &Key<R>,
        source: Source,
        decide: impl Fn(Option<R>) -> Transition<R, T>,
    ) -> Option<T> {
        match shared_state::update(store, key, decide) {
            Ok(updated) => {
                if updated.corrupt.is_some() {
                    self.push(Note::corrupt(source));
                }
                Some(updated.value)
            }
            Err(error) => {
                self.push(Note::update(error));
                None
            }
        }
    }

    /// Writes a record that has one writer, and answers whether that worked.
    pub(crate) fn write<R: Record>(
        &mut self,
        store: &impl SharedStore,
        key: &Key<R>,
        record: &R,
    ) -> bool {
        let written = store.set(key.as_str(), &encode(record), Expected::Any);
        match written {
            Ok(()) => {}
            Err(SetError::Conflict) => self.push(Note::Contended),
            Err(SetError::Store(error)) => self.push(Note::Store(error)),
        }
        written.is_ok()
    }
}
