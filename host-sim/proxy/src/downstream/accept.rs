//! Accepts connections until the proxy takes no more.

use super::connection::Connection;
use super::listener::WorkerListener;
use crate::driver::Driver;
use crate::lifecycle::{self, Connections, Phase};
use host_sim_engine::LogLevel;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// Pause after an accept that failed for want of file descriptors or memory: the connection stays
/// in the queue, so trying at once would spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Serves `socket` until the proxy closes its listeners.
pub(crate) async fn accept_loop(
    driver: Rc<Driver>,
    listener: Rc<WorkerListener>,
    socket: TcpListener,
    connections: Rc<Connections>,
    mut phase: watch::Receiver<Phase>,
) {
    let spawn = |(stream, remote): (TcpStream, SocketAddr)| {
        let connection = Connection::new(driver.clone(), listener.clone(), remote);
        let open = connections.open();
        let connections = connections.clone();
        let (driver, id) = (driver.clone(), connection.id);
        tokio::task::spawn_local(async move {
            connection.serve(stream, &connections).await;
            driver.input(|worker| worker.connection_closed(id));
            drop(open);
        });
    };
    loop {
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok(accepted) => spawn(accepted),
                Err(error) => recover(&driver, &error).await,
            },
            () = lifecycle::reached(&mut phase, Phase::Closed) => break,
        }
    }
    // Closing the socket resets what waits in its queue: those clients were promised an answer.
    let socket = socket.into_std();
    if let Ok(socket) = &socket {
        while let Ok((stream, remote)) = socket.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                spawn((stream, remote));
            }
        }
    }
    // Before the socket closes: who sees it closed may count on every response from now on saying
    // that its connection ends.
    if *phase.borrow() >= Phase::Draining {
        connections.drain();
    }
}

async fn recover(driver: &Driver, error: &io::Error) {
    // The client gave up while it waited: nothing is wrong with us.
    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
        return;
    }
    driver.log(LogLevel::Warn, &format!("accept failed: {error}"));
    sleep(EXHAUSTED_PAUSE).await;
}
