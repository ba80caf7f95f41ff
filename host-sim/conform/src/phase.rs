//! The callbacks in which the probe runs its hostcalls.

macro_rules! phases {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)+) => {
        /// A callback of the module. The number is how the probe names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Phase {
            $($(#[$doc])* $variant = $number,)+
        }

        impl Phase {
            /// Every phase, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in cells and reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

phases! {
    /// `proxy_on_context_create` of a root.
    RootCreate = 1, "root_create";
    /// `proxy_on_vm_start`
    VmStart = 2, "vm_start";
    /// `proxy_on_configure`
    Configure = 3, "configure";
    /// `proxy_on_tick`
    Tick = 4, "tick";
    /// `proxy_on_context_create` of a stream.
    Create = 5, "create";
    /// `proxy_on_request_headers`
    RequestHeaders = 6, "request_headers";
    /// `proxy_on_request_body`
    RequestBody = 7, "request_body";
    /// `proxy_on_request_trailers`
    RequestTrailers = 8, "request_trailers";
    /// `proxy_on_response_headers`
    ResponseHeaders = 9, "response_headers";
    /// `proxy_on_response_body`
    ResponseBody = 10, "response_body";
    /// `proxy_on_response_trailers`
    ResponseTrailers = 11, "response_trailers";
    /// `proxy_on_log`
    Log = 12, "log";
    /// `proxy_on_done` of a stream.
    Done = 13, "done";
    /// `proxy_on_delete` of a stream.
    Delete = 14, "delete";
    /// `proxy_on_http_call_response`
    HttpCall = 15, "http_call_response";
    /// `proxy_on_grpc_receive_initial_metadata`
    GrpcInitial = 16, "grpc_initial_metadata";
    /// `proxy_on_grpc_receive`
    GrpcReceive = 17, "grpc_receive";
    /// `proxy_on_grpc_receive_trailing_metadata`
    GrpcTrailing = 18, "grpc_trailing_metadata";
    /// `proxy_on_grpc_close`
    GrpcClose = 19, "grpc_close";
    /// `proxy_on_queue_ready`
    Queue = 20, "queue_ready";
    /// `proxy_on_new_connection`
    NewConnection = 22, "new_connection";
    /// `proxy_on_downstream_data`
    DownstreamData = 23, "downstream_data";
    /// `proxy_on_downstream_connection_close`
    DownstreamClose = 24, "downstream_close";
    /// `proxy_on_upstream_data`
    UpstreamData = 25, "upstream_data";
    /// `proxy_on_upstream_connection_close`
    UpstreamClose = 26, "upstream_close";
}

impl Phase {
    /// The phase with that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|phase| *phase as u8 == number)
    }

    /// The callbacks of an HTTP stream that has bodies and trailers, in order.
    pub const HTTP: &'static [Self] = &[
        Self::Create,
        Self::RequestHeaders,
        Self::RequestBody,
        Self::RequestTrailers,
        Self::ResponseHeaders,
        Self::ResponseBody,
        Self::ResponseTrailers,
        Self::Log,
        Self::Done,
        Self::Delete,
    ];

    /// The callbacks of a root's start.
    pub const ROOT: &'static [Self] =
        &[Self::RootCreate, Self::VmStart, Self::Configure, Self::Tick];
}
