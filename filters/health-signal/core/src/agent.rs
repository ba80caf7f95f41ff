//! What an endpoint's agent says, in HAProxy's words.
//!
//! ```text
//! 75%   weight:75%   weight:N   maxconn:N   ready   drain   maint   up   down|fail|stopped [#why]
//! ```
//!
//! Words stand in any order, divided by blanks, tabs or commas, up to the end of the first line;
//! from a `#` on, the line says why. A word that is absent changes nothing: an agent that only ever
//! says `50%` has no say in whether the endpoint is up, and one that said `drain` and then fell silent
//! has not taken it back. So what was said holds until the agent says otherwise, and an agent that
//! does not answer is no failure of the endpoint.

use crate::config::ReportedState;

/// Longest line that is read, in bytes.
pub const MAX_LINE_BYTES: usize = 1024;

/// Greatest weight, in percent of the usual one.
const MAX_WEIGHT: u16 = 256;

/// What is said of whether new requests are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// They are.
    Ready,
    /// They are not; those under way go on.
    Drain,
    /// They are not: somebody works on it.
    Maint,
}

/// What one line says, or what all lines so far have said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// Percent of the usual weight.
    pub weight: Option<u16>,
    /// Most requests at a time.
    pub max_connections: Option<u32>,
    /// Whether requests are wanted.
    pub admin: Option<Admin>,
    /// Whether it works.
    pub up: Option<bool>,
}

impl Agent {
    /// Reads the first line. `None` if a word in it is none of the grammar: then nothing of it
    /// counts, because half of a command may be the opposite of the whole.
    pub fn read(text: &[u8]) -> Option<Self> {
        let line = text.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
        if line.len() > MAX_LINE_BYTES {
            return None;
        }
        let line = line.split(|byte| *byte == b'#').next()?;
        let line = core::str::from_utf8(line).ok()?;
        let mut agent = Self::default();
        for word in line.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
            agent.take(&word.to_ascii_lowercase())?;
        }
        (agent != Self::default()).then_some(agent)
    }

    fn take(&mut self, word: &str) -> Option<()> {
        match word {
            "ready" => self.admin = Some(Admin::Ready),
            "drain" => self.admin = Some(Admin::Drain),
            "maint" => self.admin = Some(Admin::Maint),
            "up" => self.up = Some(true),
            "down" | "fail" | "stopped" => self.up = Some(false),
            _ => match word.split_once(':') {
                Some(("maxconn", count)) => self.max_connections = Some(whole(count)?),
                Some(("weight", weight)) => {
                    let weight = whole(weight.strip_suffix('%').unwrap_or(weight))?;
                    self.weight = Some(u16::try_from(weight).ok().filter(|w| *w <= MAX_WEIGHT)?);
                }
                _ => {
                    let percent = whole(word.strip_suffix('%')?)?;
                    self.weight = Some(u16::try_from(percent).ok().filter(|w| *w <= MAX_WEIGHT)?);
                }
            },
        }
        Some(())
    }

    /// As one number, as a worker's record holds it.
    pub fn pack(&self) -> u64 {
        let weight = self.weight.map_or(0, |weight| u64::from(weight) + 1);
        let admin = match self.admin {
            None => 0,
            Some(Admin::Ready) => 1,
            Some(Admin::Drain) => 2,
            Some(Admin::Maint) => 3,
        };
        let up = self.up.map_or(0, |up| 1 + u64::from(up));
        let connections = self.max_connections.map_or(0, |most| u64::from(most) + 1);
        weight | admin << 16 | up << 18 | connections << 20
    }

    /// What was packed.
    pub fn unpack(packed: u64) -> Self {
        let weight = (packed & 0xffff).checked_sub(1).and_then(|weight| weight.try_into().ok());
        let admin = match packed >> 16 & 3 {
            0 => None,
            1 => Some(Admin::Ready),
            2 => Some(Admin::Drain),
            _ => Some(Admin::Maint),
        };
        let up = (packed >> 18 & 3).checked_sub(1).map(|up| up == 1);
        let connections = (packed >> 20).checked_sub(1);
        let max_connections = connections.and_then(|most| most.try_into().ok());
        Self { weight: weight.filter(|weight| *weight <= MAX_WEIGHT), max_connections, admin, up }
    }

    /// Takes what was said later: absent words change nothing.
    pub fn say(&mut self, later: &Self) {
        self.weight = later.weight.or(self.weight);
        self.max_connections = later.max_connections.or(self.max_connections);
        self.admin = later.admin.or(self.admin);
        self.up = later.up.or(self.up);
    }

    /// The state that this amounts to; `None` if nothing was said of it.
    pub fn state(&self) -> Option<ReportedState> {
        let unwanted =
            matches!(self.admin, Some(Admin::Drain | Admin::Maint)) || self.weight == Some(0);
        match (self.up, self.admin) {
            (Some(false), _) => Some(ReportedState::Down),
            _ if unwanted => Some(ReportedState::Unready),
            (Some(true), _) | (_, Some(Admin::Ready)) => Some(ReportedState::Healthy),
            _ => None,
        }
    }
}

/// Digits and nothing else: no sign, no blank.
fn whole(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Option<Agent> {
        Agent::read(line.as_bytes())
    }

    #[test]
    fn every_word_of_the_grammar_is_known() {
        let weight = |weight| Agent { weight: Some(weight), ..Agent::default() };
        let admin = |admin| Agent { admin: Some(admin), ..Agent::default() };
        let up = |up| Agent { up: Some(up), ..Agent::default() };
        for (line, agent) in [
            ("75%", weight(75)),
            ("weight:75%", weight(75)),
            ("weight:256", weight(256)),
            ("weight:0", weight(0)),
            ("maxconn:32", Agent { max_connections: Some(32), ..Agent::default() }),
            ("ready", admin(Admin::Ready)),
            ("DRAIN", admin(Admin::Drain)),
            ("maint", admin(Admin::Maint)),
            ("up", up(true)),
            ("down", up(false)),
            ("fail", up(false)),
            ("stopped#disk full, 0% left", up(false)),
            ("down #drain", up(false)),
        ] {
            assert_eq!(read(line), Some(agent), "{line}");
        }
    }

    #[test]
    fn words_stand_in_any_order_up_to_the_end_of_the_line() {
        let all = Agent {
            weight: Some(50),
            max_connections: Some(9),
            admin: Some(Admin::Ready),
            up: Some(true),
        };
        for line in [
            "up ready 50% maxconn:9",
            "maxconn:9,\t50%,,up  ready\r\ndown",
            " ready,up maxconn:9 weight:50%\n",
        ] {
            assert_eq!(read(line), Some(all), "{line}");
        }
    }

    #[test]
    fn a_line_with_a_strange_word_says_nothing_at_all() {
        for line in [
            "",
            "\n",
            "#why",
            "up please",
            "50",
            "-5%",
            "5.5%",
            "257%",
            "weight:257",
            "weight:",
            "maxconn:",
            "maxconn:-1",
            "maxconn:99999999999",
            "%",
            "weight:+5",
            "75 %",
            "<html>",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
        assert_eq!(Agent::read(&[b'u'; MAX_LINE_BYTES + 1]), None);
        assert_eq!(Agent::read(&[0xff, 0xfe]), None);
    }

    #[test]
    fn what_is_absent_changes_nothing() {
        let mut agent = Agent::default();
        for (line, state) in [
            ("50%", None),
            ("up", Some(ReportedState::Healthy)),
            ("drain", Some(ReportedState::Unready)),
            ("75%", Some(ReportedState::Unready)),
            ("ready", Some(ReportedState::Healthy)),
            ("down", Some(ReportedState::Down)),
            ("ready", Some(ReportedState::Down)),
            ("up", Some(ReportedState::Healthy)),
            ("0%", Some(ReportedState::Unready)),
            ("100%", Some(ReportedState::Healthy)),
            ("maint", Some(ReportedState::Unready)),
        ] {
            agent.say(&read(line).unwrap());
            assert_eq!(agent.state(), state, "{line}");
        }
        assert_eq!(agent.weight, Some(100));
    }

    proptest! {
        #[test]
        fn nothing_that_is_unpacked_is_out_of_range(packed: u64) {
            let agent = Agent::unpack(packed);
            prop_assert_eq!(Agent::unpack(agent.pack()), agent);
        }

        #[test]
        fn no_text_panics(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Agent::read(&text);
        }

        #[test]
        fn no_likely_text_panics_and_weights_stay_in_range(
            words in proptest::collection::vec("[0-9]{0,5}%?|weight:[0-9]{0,6}%?|maxconn:[0-9]{0,12}|up|down#?|drain|ready|[a-z%:#]{0,4}", 0..6)
        ) {
            if let Some(agent) = Agent::read(words.join(" ").as_bytes()) {
                prop_assert_eq!(Agent::unpack(agent.pack()), agent);
                prop_assert!(agent.weight.is_none_or(|weight| weight <= MAX_WEIGHT));
            }
        }
    }
}
