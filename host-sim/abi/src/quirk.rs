//! Where Envoy does otherwise than the specification, each with the test that shows it.
//!
//! host-sim has one profile, Envoy's. The rows are data so that a report can print them, and so
//! that none of them is only said: each names a test of the engine, and a test there sees to it
//! that all of these exist.

/// A difference between Envoy 1.40 and ABI 0.2.1 as specified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirk {
    /// Short name, unique.
    pub id: &'static str,
    /// What Envoy, and so host-sim, does.
    pub envoy: &'static str,
    /// What the specification says.
    pub specified: &'static str,
    /// Name of the engine's test that shows it.
    pub test: &'static str,
}

const fn row(
    id: &'static str,
    envoy: &'static str,
    specified: &'static str,
    test: &'static str,
) -> Quirk {
    Quirk { id, envoy, specified, test }
}

/// The profile `envoy`, row by row.
pub const QUIRKS: &[Quirk] = &[
    row(
        "teardown-order",
        "HTTP contexts end with on_log, on_done, on_delete",
        "on_done, on_log, on_delete",
        "requests_run_in_order_responses_backwards_and_logs_come_before_all_dones",
    ),
    row(
        "stream-done",
        "what a stream's on_done returns is ignored",
        "false waits for proxy_done",
        "a_stream_is_done_whatever_it_answers",
    ),
    row(
        "malloc",
        "malloc is preferred",
        "proxy_on_memory_allocate is preferred",
        "malloc_is_preferred_to_the_specifications_allocator",
    ),
    row(
        "buffer-range",
        "a range beyond a buffer is no bytes",
        "BAD_ARGUMENT",
        "a_range_beyond_a_buffer_is_no_bytes_and_no_error",
    ),
    row(
        "buffer-middle",
        "a write in the middle of a body is BAD_ARGUMENT",
        "bytes are inserted or replaced",
        "a_body_can_be_replaced_and_appended_to_but_not_changed_in_the_middle",
    ),
    row(
        "pairs-unavailable",
        "pairs of a map out of sight are none",
        "BAD_ARGUMENT or NOT_FOUND",
        "request_headers_are_gone_once_the_callback_has_continued_and_back_in_the_log",
    ),
    row(
        "size-read-only",
        "maps of calls, of gRPC and in on_log have no size: BAD_ARGUMENT",
        "their size",
        "a_stream_hears_initial_metadata_messages_trailers_and_a_close",
    ),
    row(
        "size-bytes",
        "the size of a map is the length of its names and values",
        "the length of its encoding",
        "the_size_of_a_map_is_that_of_its_names_and_values",
    ),
    row(
        "value-unavailable",
        "a value of a map out of sight is BAD_ARGUMENT",
        "NOT_FOUND",
        "request_headers_are_gone_once_the_callback_has_continued_and_back_in_the_log",
    ),
    row(
        "call-data",
        "buffer 8 shows whatever buffer was read last",
        "only foreign functions' arguments",
        "buffer_8_shows_whatever_was_read_last",
    ),
    row(
        "sticky-status",
        "the code of proxy_get_status stays after its callback",
        "it belongs to the callback",
        "a_truncated_response_arrives_empty_with_a_sticky_status",
    ),
    row(
        "no-endpoint",
        "a call to a cluster without endpoints is INTERNAL_FAILURE, and no callback comes",
        "a callback without headers",
        "a_cluster_without_endpoints_is_an_internal_failure_and_no_callback_comes",
    ),
    row(
        "call-timeout",
        "a call that times out is answered 504",
        "a callback without headers",
        "a_timeout_arrives_as_a_504",
    ),
    row(
        "reply-never-fails",
        "proxy_send_local_response is OK where it can have no effect",
        "BAD_ARGUMENT",
        "a_reply_from_a_root_goes_nowhere_and_is_fine",
    ),
    row(
        "continue-never-fails",
        "proxy_continue_stream is OK where nothing is paused",
        "BAD_ARGUMENT",
        "stream_types_answer_as_in_envoy",
    ),
    row(
        "continue-upstream",
        "the upstream direction cannot be continued: UNIMPLEMENTED",
        "it continues",
        "stream_types_answer_as_in_envoy",
    ),
    row(
        "metric-again",
        "a metric that is defined again gets another id for the same value",
        "the same id",
        "metrics_answer_as_in_envoy",
    ),
    row(
        "metric-types",
        "one name can be defined with several types",
        "BAD_ARGUMENT",
        "metrics_answer_as_in_envoy",
    ),
    row(
        "counter-zero",
        "a counter does not grow by 0: BAD_ARGUMENT",
        "OK",
        "metrics_answer_as_in_envoy",
    ),
    row(
        "counter-record",
        "to record a value on a counter adds it",
        "sets it, or BAD_ARGUMENT",
        "metrics_answer_as_in_envoy",
    ),
    row(
        "histogram-get",
        "a histogram has no value: BAD_ARGUMENT",
        "a value",
        "metrics_answer_as_in_envoy",
    ),
    row(
        "struct-configuration",
        "a configuration of type Struct arrives as protobuf bytes",
        "(documented as JSON)",
        "a_configuration_of_type_struct_arrives_as_protobuf",
    ),
    row(
        "vm-start",
        "on_vm_start runs for every plugin of a VM",
        "once a VM",
        "plugins_of_one_vm_key_share_a_vm_and_each_is_started",
    ),
    row(
        "queue-ready",
        "only who registered a queue last is told of it",
        "everybody who registered it",
        "only_the_last_registrant_of_a_queue_is_woken",
    ),
    row(
        "cas-creates",
        "a key that is missing is created whatever version is named",
        "CAS_MISMATCH",
        "a_missing_key_is_created_whatever_version_is_named",
    ),
    row(
        "bad-pairs",
        "malformed pairs are an empty map",
        "BAD_ARGUMENT",
        "malformed_pairs_are_an_empty_map",
    ),
    row(
        "proc-exit",
        "proc_exit logs, and returns",
        "it does not return",
        "stream_types_answer_as_in_envoy",
    ),
    row(
        "close-no-reply",
        "proxy_close_stream ends the stream without a response",
        "the stream is closed as the protocol has it",
        "closing_the_stream_gives_no_response_at_all",
    ),
    row(
        "grpc-no-close",
        "a gRPC call that succeeds has no on_grpc_close",
        "every call ends with it",
        "a_call_that_succeeds_ends_with_its_message_and_no_close",
    ),
    row(
        "grpc-timeout",
        "a gRPC call that times out has code 14",
        "4",
        "a_timeout_is_unavailable_and_not_deadline_exceeded",
    ),
    row(
        "grpc-ghost",
        "a gRPC call that cannot begin is INTERNAL_FAILURE, and closes an id nobody got",
        "only the status",
        "an_unknown_cluster_is_a_failure_and_a_close_of_an_id_nobody_got",
    ),
    row(
        "property-empty",
        "the empty path is SERIALIZATION_FAILURE",
        "NOT_FOUND",
        "groups_have_members_but_no_encoding",
    ),
    row(
        "effective-zero",
        "effective context 0 is the callback's own",
        "BAD_ARGUMENT",
        "effective_context_0_goes_back_to_the_callbacks_own",
    ),
    row("action-two", "an action of 2 continues", "undefined", "an_action_of_2_continues"),
    row(
        "fail-open-first",
        "FAIL_OPEN still answers 503 to the request that trapped",
        "(documented as: requests pass)",
        "fail_open_still_answers_503_to_the_request_that_trapped",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_names_of_their_own() {
        let mut ids: Vec<_> = QUIRKS.iter().map(|quirk| quirk.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), QUIRKS.len());
        assert_eq!(QUIRKS.len(), 35);
    }
}
