//! The ABI's numbers. Decoding is total: a number without a meaning is `None`, and what that is
//! answered with is the hostcall's affair.

macro_rules! abi_enum {
    ($(#[$doc:meta])* $name:ident: $repr:ty { $($(#[$vdoc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr($repr)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $value,)+
        }

        impl $name {
            /// Every value, ascending.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The meaning of a number, if it has one.
            #[must_use]
            pub const fn from_raw(raw: $repr) -> Option<Self> {
                match raw {
                    $($value => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The number.
            #[must_use]
            pub const fn raw(self) -> $repr {
                self as $repr
            }
        }
    };
}

abi_enum! {
    /// What a hostcall returns.
    Status: i32 {
        /// Done.
        Ok = 0,
        /// No such key, context, queue, property, metric or call.
        NotFound = 1,
        /// An argument is out of its domain, or the thing is not available in this phase.
        BadArgument = 2,
        /// A value has no encoding.
        SerializationFailure = 3,
        /// Bytes could not be decoded.
        ParseFailure = 4,
        /// Not in the specification; named by the C++ SDK.
        BadExpression = 5,
        /// A pointer or length lies outside of the guest's memory.
        InvalidMemoryAccess = 6,
        /// The queue is empty.
        Empty = 7,
        /// The value changed since it was read.
        CasMismatch = 8,
        /// Not in the specification; named by the C++ SDK.
        ResultMismatch = 9,
        /// The host could not do it.
        InternalFailure = 10,
        /// Seen in `proxy_get_status` after a truncated response.
        BrokenConnection = 11,
        /// The host does not have this.
        Unimplemented = 12,
    }
}

abi_enum! {
    /// Which byte buffer.
    BufferType: u32 {
        /// Body of the request.
        HttpRequestBody = 0,
        /// Body of the response.
        HttpResponseBody = 1,
        /// TCP, from the client.
        DownstreamData = 2,
        /// TCP, from the upstream.
        UpstreamData = 3,
        /// Body of the answer to `proxy_http_call`.
        HttpCallResponseBody = 4,
        /// Message of a gRPC answer.
        GrpcCallMessage = 5,
        /// `vm_config.configuration`.
        VmConfiguration = 6,
        /// The plugin's `configuration`.
        PluginConfiguration = 7,
        /// Arguments of a foreign function.
        CallData = 8,
    }
}

abi_enum! {
    /// Which header map.
    MapType: u32 {
        /// Headers of the request.
        HttpRequestHeaders = 0,
        /// Trailers of the request.
        HttpRequestTrailers = 1,
        /// Headers of the response.
        HttpResponseHeaders = 2,
        /// Trailers of the response.
        HttpResponseTrailers = 3,
        /// First metadata of a gRPC answer.
        GrpcCallInitialMetadata = 4,
        /// Last metadata of a gRPC answer.
        GrpcCallTrailingMetadata = 5,
        /// Headers of the answer to `proxy_http_call`.
        HttpCallResponseHeaders = 6,
        /// Trailers of the answer to `proxy_http_call`.
        HttpCallResponseTrailers = 7,
    }
}

abi_enum! {
    /// Which half of a stream.
    StreamType: u32 {
        /// HTTP request.
        HttpRequest = 0,
        /// HTTP response.
        HttpResponse = 1,
        /// TCP, from the client.
        Downstream = 2,
        /// TCP, from the upstream.
        Upstream = 3,
    }
}

abi_enum! {
    /// Kind of a metric.
    MetricType: u32 {
        /// Only grows.
        Counter = 0,
        /// Goes up and down.
        Gauge = 1,
        /// Distribution.
        Histogram = 2,
    }
}

abi_enum! {
    /// Severity of a log line.
    LogLevel: u32 {
        /// Most verbose.
        Trace = 0,
        /// For debugging.
        Debug = 1,
        /// Worth knowing.
        Info = 2,
        /// Worth looking at.
        Warn = 3,
        /// Something failed.
        Error = 4,
        /// Something failed for good.
        Critical = 5,
    }
}

abi_enum! {
    /// Who closed a TCP connection.
    PeerType: u32 {
        /// Not known.
        Unknown = 0,
        /// We.
        Local = 1,
        /// The other side.
        Remote = 2,
    }
}

abi_enum! {
    /// What a stream callback answers.
    Action: u32 {
        /// Go on.
        Continue = 0,
        /// Hold until `proxy_continue_stream`.
        Pause = 1,
    }
}

impl LogLevel {
    /// As Envoy names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_decodes_to_the_value_that_encodes_to_it() {
        for raw in 0..64 {
            if let Some(status) = Status::from_raw(raw) {
                assert_eq!(status.raw(), raw);
            }
        }
        assert_eq!(Status::ALL.len(), 13);
        assert!(BufferType::ALL.iter().all(|b| BufferType::from_raw(b.raw()) == Some(*b)));
    }

    #[test]
    fn a_number_without_meaning_is_none() {
        assert_eq!(Status::from_raw(-1), None);
        assert_eq!(BufferType::from_raw(9), None);
        assert_eq!(MapType::from_raw(8), None);
        assert_eq!(StreamType::from_raw(4), None);
        assert_eq!(MetricType::from_raw(3), None);
        assert_eq!(LogLevel::from_raw(6), None);
    }
}
