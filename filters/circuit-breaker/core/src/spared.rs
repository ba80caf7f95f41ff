//! How many endpoints each cluster can do without, as the filter that steers has last said.
//!
//! A word costs that filter a hostcall, so it says it with some requests only, and what it said holds
//! for [`BELIEVED`].

use core::time::Duration;
use shared_state::UnixNanos;
use std::rc::Rc;

/// How long a word holds. The load it was said of may be another one by then; that somebody knows the
/// load is not less true.
const BELIEVED: Duration = Duration::from_secs(10);

/// Words that still hold. They are as many as there are clusters at the most, and of these the host
/// has a list.
#[derive(Debug, Default)]
pub(crate) struct Spared(Vec<Word>);

#[derive(Debug)]
struct Word {
    cluster: Rc<str>,
    spare: u32,
    heard_at: UnixNanos,
}

impl Spared {
    /// What holds of a cluster, of which this was said just now, or nothing.
    pub(crate) fn hear(
        &mut self,
        cluster: &Rc<str>,
        said: Option<u32>,
        now: UnixNanos,
    ) -> Option<u32> {
        // A word from the future is one from before the clock stepped back.
        let holds = |word: &Word| word.heard_at <= now && now.since(word.heard_at) < BELIEVED;
        self.0.retain(|word| holds(word) && !(said.is_some() && word.cluster == *cluster));
        if let Some(spare) = said {
            self.0.push(Word { cluster: Rc::clone(cluster), spare, heard_at: now });
        }
        let known = self.0.iter().find(|word| word.cluster == *cluster);
        known.map(|word| word.spare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    #[test]
    fn what_was_said_holds_until_something_else_is_or_it_is_old() {
        let (mut spared, cluster) = (Spared::default(), Rc::from("backend"));
        let mut hear = |said, now| spared.hear(&cluster, said, at(now));
        assert_eq!([hear(None, 1), hear(Some(4), 1), hear(None, 2)], [None, Some(4), Some(4)]);
        assert_eq!([hear(Some(2), 9), hear(None, 18), hear(None, 19)], [Some(2), Some(2), None]);
    }

    #[test]
    fn it_holds_for_its_cluster() {
        let mut spared = Spared::default();
        let mut hear = |cluster: &str, said| spared.hear(&cluster.into(), said, at(1));
        assert_eq!((hear("one", Some(1)), hear("two", Some(2))), (Some(1), Some(2)));
        assert_eq!(
            (hear("one", None), hear("two", None), hear("three", None)),
            (Some(1), Some(2), None)
        );
    }

    #[test]
    fn it_does_not_hold_for_ever_where_the_clock_steps_back() {
        let (mut spared, cluster) = (Spared::default(), Rc::from("backend"));
        assert_eq!(spared.hear(&cluster, Some(3), at(100)), Some(3));
        assert_eq!(spared.hear(&cluster, None, at(1)), None);
    }
}
