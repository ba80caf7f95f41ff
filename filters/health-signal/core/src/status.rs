//! Sets of HTTP statuses, written as `"503"` or `"200-299"`.

/// A set of statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusRanges(Vec<(u16, u16)>);

impl StatusRanges {
    /// Adds one status, or all from the first to the last of a range. False if `text` is neither.
    pub fn add(&mut self, text: &str) -> bool {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Some(first), Some(last)) = (status(first), status(last)) else { return false };
        if first > last {
            return false;
        }
        self.0.push((first, last));
        true
    }

    /// True if `status` is in the set.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

fn status(text: &str) -> Option<u16> {
    // `u16::from_str` takes a plus sign.
    let plain = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|status| plain && (100..=599).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_includes_both_ends() {
        let mut ranges = StatusRanges::default();
        assert!(ranges.add("200-299") && ranges.add("404"));
        let held = [199, 200, 299, 300, 404, 405].map(|status| ranges.contains(status));
        assert_eq!(held, [false, true, true, false, true, false]);
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for text in ["", "-", "2xx", "+20", "99", "600", "299-200", "200-", "200-299-399"] {
            assert!(!StatusRanges::default().add(text), "{text}");
        }
    }
}
