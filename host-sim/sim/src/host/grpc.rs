//! gRPC services among the endpoints: they answer before the client has said all, message by
//! message.

use super::Host;
use super::drive::What;
use crate::GrpcAnswer;
use crate::endpoint::{Behaviour, Failure};
use bytes::Bytes;
use host_sim_engine::{AttemptId, UpstreamFailure};
use std::sync::Arc;
use std::time::Duration;

impl Host {
    /// Says the next thing of an answer, and when the one after it is due.
    pub(super) fn say_grpc(&mut self, worker: usize, id: AttemptId, step: usize) {
        let Some(behaviour) = self.attempts.get(&(worker, id)).and_then(|a| a.behaviour.clone())
        else {
            return;
        };
        let Some(answer) = &behaviour.grpc else { return };
        if step == 0 && answer.trailers_only && self.say_all_in_headers(worker, id, answer) {
            return;
        }
        let mut step = step;
        if step == 0 {
            self.workers[worker].upstream_headers(id, answer.head(), false);
        }
        loop {
            if let Some(message) = answer.messages.get(step) {
                let frame = Bytes::from(GrpcAnswer::frame(message));
                self.workers[worker].upstream_data(id, frame, false);
            } else {
                return self.end_grpc(worker, id, &behaviour);
            }
            step += 1;
            // The status follows the last message after an interval, too.
            if answer.interval > Duration::ZERO {
                return self.schedule(answer.interval, worker, What::SayGrpc(id, step));
            }
        }
    }

    /// False if there is no status to say.
    fn say_all_in_headers(&mut self, worker: usize, id: AttemptId, answer: &GrpcAnswer) -> bool {
        let Some(trailers) = answer.trailers() else { return false };
        let mut headers = answer.head();
        trailers.iter().for_each(|(name, value)| headers.add(name, value));
        self.attempts.remove(&(worker, id));
        self.workers[worker].upstream_headers(id, headers, true);
        true
    }

    fn end_grpc(&mut self, worker: usize, id: AttemptId, behaviour: &Arc<Behaviour>) {
        let broken = behaviour.failure.and_then(Failure::kind);
        if let Some((kind, detail)) = broken {
            self.attempts.remove(&(worker, id));
            let failure = UpstreamFailure { kind, detail: detail.to_owned() };
            self.workers[worker].upstream_failed(id, failure);
        } else if let Some(trailers) = behaviour.grpc.as_ref().and_then(GrpcAnswer::trailers) {
            self.attempts.remove(&(worker, id));
            self.workers[worker].upstream_trailers(id, trailers);
        }
    }
}
