//! Shared data as this crate uses it: what cannot be read is absent, and noted.

use crate::Note;
use crate::note::Source;
use shared_state::{
    Cas, Expected, Key, ReadError, Record, SetError, SharedStore, Transition, decode, encode,
};

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

    /// As [`Notes::read`], into what was read before as of some version. Most records are read more
    /// often than they are written, and what is of that version still is not decoded again.
    pub(crate) fn reread<R: Record>(
        &mut self,
        store: &impl SharedStore,
        key: &Key<R>,
        source: Source,
        (record, version): (&mut Option<R>, &mut Option<Cas>),
    ) {
        let found = store.get(key.as_str()).map_err(ReadError::Store);
        let read = found.and_then(|found| match found {
            Some(found) if *version == Some(found.cas) => Ok(true),
            Some(found) => {
                *record = Some(decode(&found.bytes).map_err(ReadError::Corrupt)?);
                *version = Some(found.cas);
                Ok(true)
            }
            None => Ok(false),
        });
        if let Err(error) = read {
            self.push(Note::read(source, error));
        }
        if read != Ok(true) {
            (*record, *version) = (None, None);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use shared_state::{Members, MemoryStore, UnixNanos};

    #[test]
    fn a_record_is_decoded_once_a_version_and_what_cannot_be_read_is_absent_each_time() {
        let (store, key) = (MemoryStore::default(), Members::key("a"));
        let (mut notes, mut record, mut version) = (Notes::default(), None, None);
        let mut reread = |record: &mut Option<Members>, version: &mut Option<Cas>| {
            notes.reread(&store, &key, Source::Members, (record, version));
            notes.take().len()
        };
        assert_eq!(reread(&mut record, &mut version), 0);
        assert_eq!((&record, version), (&None, None), "nothing is there");
        let endpoint = "127.0.0.1:1".parse().unwrap();
        let seen = |prior| Members::seen(prior, endpoint, UnixNanos::from_secs(1));
        shared_state::update(&store, &key, seen).unwrap();
        reread(&mut record, &mut version);
        assert!(record.as_ref().is_some_and(|members| members.list.len() == 1));
        record = Some(Members::default());
        reread(&mut record, &mut version);
        assert_eq!(record, Some(Members::default()), "it was left alone");
        let dropped = |prior| Members::missed(prior, endpoint, 1);
        shared_state::update(&store, &key, dropped).unwrap();
        record = None;
        reread(&mut record, &mut version);
        assert!(record.is_some(), "another version");
        store.set(key.as_str(), b"no record", Expected::Any).unwrap();
        assert_eq!([0; 2].map(|_| reread(&mut record, &mut version)), [1, 1]);
        assert_eq!((record, version), (None, None));
    }
}
