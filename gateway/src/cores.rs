//! One runtime a core, each on a thread of its own with a listener of its own: a connection lives where it was accepted, and
//! none of its wakings crosses to another core. The kernel spreads new connections over the listeners (SO_REUSEPORT).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::available_parallelism;

use nearcast_runtime::lifecycle::{Shutdown, Tasks};
use socket2::{Domain, SockRef, Socket, Type};
use tokio_util::task::TaskTracker;

use crate::gateway::Gateway;
use crate::ws;

/// Connections that the kernel holds for one listener until they are accepted, at most.
const BACKLOG: i32 = 1_024;

/// Accepts connections on `threads` threads until `closing` begins; 0 is one a core. The threads go on for their
/// connections until the shutdown of `tasks`.
///
/// # Errors
/// When the operating system refuses another listener or thread.
pub fn serve(
    listener: tokio::net::TcpListener,
    threads: u32,
    gateway: &Arc<Gateway>,
    connections: &TaskTracker,
    closing: &Shutdown,
    tasks: &mut Tasks,
) -> io::Result<()> {
    let threads = match threads {
        0 => available_parallelism()?.get(),
        threads => usize::try_from(threads).unwrap_or(usize::MAX),
    };
    for (number, listener) in listeners(listener.into_std()?, threads)?.into_iter().enumerate() {
        let (gateway, connections, closing) = (Arc::clone(gateway), connections.clone(), closing.clone());
        let behind = tasks.shutdown().clone();
        tasks.spawn_thread(format!("connections-{number}"), move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                ws::accept(listener, gateway, connections, closing).await;
                behind.begun().await;
                io::Result::Ok(())
            })
        })?;
    }
    Ok(())
}

/// The listener and others on its address. It was bound alone, so that an address that somebody else has was refused; only
/// then it shares.
fn listeners(first: TcpListener, count: usize) -> io::Result<Vec<TcpListener>> {
    let address = first.local_addr()?;
    if count > 1 {
        SockRef::from(&first).set_reuse_port(true)?;
    }
    let mut listeners = vec![first];
    while listeners.len() < count {
        listeners.push(another(address)?);
    }
    Ok(listeners)
}

fn another(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn listeners_share_an_address_that_nobody_else_gets() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        first.set_nonblocking(true).unwrap();
        let listeners = listeners(first, 3).unwrap();
        assert!(TcpListener::bind(address).is_err(), "another gateway is refused");
        let clients: Vec<_> = (0..150).map(|_| TcpStream::connect(address).unwrap()).collect();
        let accepted: Vec<usize> =
            listeners.iter().map(|listener| std::iter::from_fn(|| listener.accept().ok()).count()).collect();
        assert_eq!(accepted.iter().sum::<usize>(), clients.len());
        assert!(accepted.iter().all(|&count| count > 0), "{accepted:?}");
    }
}
