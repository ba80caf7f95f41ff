//! How a call ended, in gRPC's terms: the server's status, or one made of what is there instead.

use crate::Headers;

/// `grpc-status` and `grpc-message`. What is no status that gRPC knows is -1.
pub(super) fn status_of(headers: &Headers) -> (Option<u32>, String) {
    let status = headers.get("grpc-status").filter(|value| !value.is_empty()).map(|value| {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.filter(|number| *number <= 16).unwrap_or(u32::MAX)
    });
    let message = headers.get("grpc-message").unwrap_or_default();
    (status, String::from_utf8_lossy(message).into_owned())
}

/// What gRPC makes of an HTTP status.
pub(crate) fn http_to_grpc(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// Envoy puts its details behind the server's words.
pub(super) fn enhanced(message: &str, details: &str) -> String {
    match (message, details) {
        ("", details) => details.to_owned(),
        (message, "") => message.to_owned(),
        (message, details) => format!("{message}{{{details}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_stand_in_braces_unless_there_is_nothing_else() {
        assert_eq!(enhanced("no way", "via_upstream"), "no way{via_upstream}");
        assert_eq!(enhanced("", "via_upstream"), "via_upstream");
        assert_eq!(enhanced("Cluster not available", ""), "Cluster not available");
    }

    #[test]
    fn a_status_that_grpc_does_not_know_is_minus_one() {
        let status = |text: &str| status_of(&Headers::from_pairs([("grpc-status", text)])).0;
        assert_eq!([status("0"), status("16")], [Some(0), Some(16)]);
        assert_eq!([status("17"), status("x")], [Some(u32::MAX), Some(u32::MAX)]);
        assert_eq!(status(""), None);
    }
}
