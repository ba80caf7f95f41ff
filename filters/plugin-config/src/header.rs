//! Headers that no plugin may be told to write.

/// Those that belong to the connection or to the message's framing, in lower case.
const OF_THE_CONNECTION: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// True for a header, in lower case, that frames the message or speaks of its connection: to write it
/// is to tell the next hop where a message ends, or whom it is for.
pub fn frames_messages(name: &str) -> bool {
    OF_THE_CONNECTION.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::frames_messages;

    #[test]
    fn what_frames_a_message_is_known_and_what_an_application_means_is_not_taken_for_it() {
        assert!(
            ["content-length", "transfer-encoding", "expect", "host"].map(frames_messages)
                == [true; 4]
        );
        assert!(["x-host", "content-type", "", "te-x"].map(frames_messages) == [false; 4]);
    }
}
