//! The calls to rate limit services.

use plugin_kit::{CallError, grpc};
use token_bucket_core::Config;
use token_bucket_core::global::{MAX_ANSWER, METHOD, Question, SERVICE};

/// Sends a question. Gives the number of the call.
pub(crate) fn send(question: &Question, config: &Config) -> Result<u32, CallError> {
    let policy = config.policies.get(question.policy);
    let global = policy.and_then(|policy| policy.global.as_ref()).ok_or(CallError::BadArgument)?;
    grpc::dispatch(&global.cluster, SERVICE, METHOD, question.message(), global.timeout)
}

/// The service's message, if the call ended well. Only in the call's own callback.
pub(crate) fn message(status: u32) -> Option<Vec<u8>> {
    // One that is longer is cut, and what is cut is no message.
    (status == 0).then(|| grpc::message(MAX_ANSWER))
}
