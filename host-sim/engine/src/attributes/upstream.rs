//! `upstream.*`

use super::{Scene, put_int, put_text};
use crate::stream::Role;
use host_sim_abi::Status;

impl Scene<'_> {
    pub(super) fn upstream(&self, name: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
        let info = &self.stream.info;
        match name {
            b"address" => {
                let endpoint = info.endpoint.ok_or(Status::NotFound)?;
                put_text(out, &endpoint.to_string())
            }
            b"port" => put_int(out, info.endpoint.ok_or(Status::NotFound)?.port().into()),
            b"transport_failure_reason" => {
                // Empty as long as there is none to tell.
                let none = info.endpoint.map(|_| "").ok_or(Status::NotFound);
                put_text(out, info.transport_failure.as_deref().map_or(none, Ok)?)
            }
            // A message, empty: the bootstrap subset has no localities.
            b"locality" => info.endpoint.map(|_| ()).ok_or(Status::NotFound),
            b"request_attempt_count" => put_int(out, self.attempts().into()),
            b"num_endpoints" => {
                let cluster = info.cluster.as_ref().ok_or(Status::NotFound)?;
                put_int(out, cluster.endpoint_count() as u64)
            }
            _ => Err(Status::NotFound),
        }
    }

    fn attempts(&self) -> u32 {
        match &self.stream.role {
            Role::Attempt(attempt) => attempt.number,
            _ => self.stream.info.attempts,
        }
    }
}
