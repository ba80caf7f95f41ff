//! A client's connection, from after its handshake to its end.

use super::side::{ServeHttp, Side, Socket};
use crate::driver::Driver;
use host_sim_engine::Downstream;
use std::rc::Rc;

/// Serves until the engine closes the connection. `http` is what serves HTTP behind network
/// filters.
pub(crate) async fn serve<S: Socket>(
    driver: &Rc<Driver>,
    listener: usize,
    info: Downstream,
    socket: S,
    http: Option<ServeHttp>,
) {
    let (id, sides) = driver.open_connection(listener, info, http);
    sides.run(driver, id, Side::Client, socket).await;
    driver.forget_connection(id);
}
