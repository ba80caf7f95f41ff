//! Sets of HTTP status codes, written `"503"` or `"500-599"`.

use core::ops::RangeInclusive;

/// A set of status codes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusSet {
    ranges: Vec<RangeInclusive<u16>>,
}

impl StatusSet {
    /// Adds what `text` names, a code or a range of codes. False if it is neither.
    pub fn add(&mut self, text: &str) -> bool {
        let range = range(text);
        let is_status = range.is_some();
        self.ranges.extend(range);
        is_status
    }

    /// True if `status` is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.ranges.iter().any(|range| range.contains(&status))
    }

    /// A code that stands in both sets.
    pub fn overlap(&self, other: &Self) -> Option<u16> {
        let starts = self.ranges.iter().chain(&other.ranges).map(|range| *range.start());
        starts.into_iter().find(|status| self.contains(*status) && other.contains(*status))
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (code(first)?, code(last)?);
    (first <= last).then_some(first..=last)
}

fn code(text: &str) -> Option<u16> {
    let is_plain = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
    let code = text.parse().ok().filter(|code| (100..=599).contains(code));
    code.filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> StatusSet {
        let mut set = StatusSet::default();
        assert!(texts.iter().all(|text| set.add(text)), "{texts:?}");
        set
    }

    #[test]
    fn codes_and_ranges_are_inclusive() {
        let set = set(&["404", "500-502"]);
        let inside = [403, 404, 405, 499, 500, 502, 503].map(|status| set.contains(status));
        assert_eq!(inside, [false, true, false, false, true, true, false]);
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "5xx", "500-", "502-500", "99", "600", "+500", "500-599-"] {
            let mut set = StatusSet::default();
            assert!(!set.add(bad), "{bad}");
            assert_eq!(set, StatusSet::default());
        }
    }

    #[test]
    fn an_overlap_names_a_code_of_both() {
        let failures = set(&["500-599"]);
        assert_eq!(failures.overlap(&set(&["501"])), Some(501));
        assert_eq!(failures.overlap(&set(&["499-520"])), Some(500));
        assert_eq!(failures.overlap(&set(&["404", "100-499"])), None);
    }
}
