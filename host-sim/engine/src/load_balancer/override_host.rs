//! `override_host`: the hosts that a request header names, in its order.
//!
//! As Envoy: the list is read once an exchange, on its first attempt, and every host selection
//! afterwards takes the next entry; what is no member is skipped, whatever its health; an
//! exhausted list leaves the choice to the fallback policy. The list is not read again on a retry,
//! so a filter's later change of the header has no effect.

use std::net::SocketAddr;

use super::Host;

/// How far one exchange has walked down its list. Starts as [`Default`].
#[derive(Clone, Debug, Default)]
pub struct OverrideWalk {
    entries: Option<std::vec::IntoIter<SocketAddr>>,
}

impl OverrideWalk {
    /// The position of the next listed member; `listed` gives the header's value.
    pub(super) fn next<'h>(
        &mut self,
        listed: impl FnOnce() -> Option<&'h [u8]>,
        hosts: &[Host],
    ) -> Option<usize> {
        if self.entries.is_none() {
            self.entries = Some(parse(listed()?).into_iter());
        }
        let entries = self.entries.as_mut()?;
        entries.find_map(|entry| hosts.iter().position(|host| host.address == entry))
    }
}

/// `ip:port,ip:port`, IPv6 in brackets. Envoy looks entries up as text, so an entry counts only in
/// the canonical spelling; what is no address can be no member either and is dropped here.
fn parse(value: &[u8]) -> Vec<SocketAddr> {
    let entries = value.split(|byte| *byte == b',').filter_map(|entry| {
        let text = std::str::from_utf8(entry).ok()?.trim();
        let address: SocketAddr = text.parse().ok()?;
        (address.is_ipv4() || address.to_string() == text).then_some(address)
    });
    entries.collect()
}
