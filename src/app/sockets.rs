//! Listening sockets that the service manager holds and passes on: what connects while the daemon is away waits in them.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use crate::config::Settings;

/// Connections that wait to be accepted: at the limit of connections, and while a busy core gets round to it. The
/// standard library asks for 128.
const BACKLOG: i32 = 1024;

/// Why the sockets that were passed on are not used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// Not one name for each.
    #[error(
        "the service manager passed {sockets} socket(s) and {names} name(s): name each in its .socket unit, \
         FileDescriptorName=public or FileDescriptorName=admin"
    )]
    Names {
        /// How many sockets.
        sockets: usize,
        /// How many names.
        names: usize,
    },
    /// A name that means nothing here.
    #[error(
        "the service manager passed a socket named '{0}': write FileDescriptorName=public or FileDescriptorName=admin \
         in its .socket unit"
    )]
    Unknown(String),
    /// Two sockets for one listener.
    #[error(
        "the service manager passed two sockets named '{0}', and there is one such listener: leave one ListenStream= in \
         the .socket unit (ListenStream=8443, without an address, takes IPv4 and IPv6)"
    )]
    Twice(&'static str),
    /// A file, a datagram socket, a connection.
    #[error(
        "the socket named '{0}' is not a listening TCP socket: write ListenStream=ADDRESS:PORT and Accept=no in its \
         .socket unit"
    )]
    Kind(&'static str),
    /// It is not where the configuration says.
    #[error(
        "the socket named '{name}' listens on {at}, and {key} is {configured}: write the same address into {key} and \
         into ListenStream= of the .socket unit"
    )]
    Elsewhere {
        /// Its name.
        name: &'static str,
        /// Where it listens.
        at: SocketAddr,
        /// The key of the configuration.
        key: &'static str,
        /// Its value.
        configured: SocketAddr,
    },
    /// A socket for a listener that is not wanted.
    #[error("the service manager passed a socket named 'admin', and admin.listen is \"off\": take one of them out")]
    AdminOff,
}

/// What the service manager passed on, by name; a listener without a socket binds one of its own.
#[derive(Debug, Default)]
pub struct Sockets {
    public: Option<TcpListener>,
    admin: Option<TcpListener>,
}

impl Sockets {
    /// Takes the sockets that `LISTEN_FDS` and `LISTEN_FDNAMES` tell of, as sd_listen_fds(3) has it; none, where they are
    /// not meant for this process. To be called before there are threads: it takes those variables out of the environment.
    pub fn inherited() -> Result<Self, SocketError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        let names: Vec<&str> = names.split(':').filter(|name| !name.is_empty()).collect();
        let mut sockets = Self::default();
        if passed.len() == 0 {
            return Ok(sockets);
        }
        if passed.len() != names.len() {
            return Err(SocketError::Names { sockets: passed.len(), names: names.len() });
        }
        for (place, name) in names.into_iter().enumerate() {
            let (name, socket) = match name {
                "public" => ("public", &mut sockets.public),
                "admin" => ("admin", &mut sockets.admin),
                other => return Err(SocketError::Unknown(other.to_owned())),
            };
            let passed = passed.take_tcp_listener(place).ok().flatten().filter(is_listening);
            if socket.replace(passed.ok_or(SocketError::Kind(name))?).is_some() {
                return Err(SocketError::Twice(name));
            }
        }
        Ok(sockets)
    }

    /// Itself, if each socket is where the configuration wants its listener.
    pub fn agreeing_with(self, settings: &Settings) -> Result<Self, SocketError> {
        if let Some(socket) = &self.public {
            agrees("public", socket, "server.listen", settings.ingest.listen)?;
        }
        match (&self.admin, &settings.admin) {
            (Some(socket), Some(admin)) => agrees("admin", socket, "admin.listen", admin.listen)?,
            (Some(_), None) => return Err(SocketError::AdminOff),
            (None, _) => {}
        }
        Ok(self)
    }

    /// For the public listener: the socket that was passed on, or a new one.
    pub(super) fn public(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        self.public.as_ref().map_or_else(|| bind(addr), TcpListener::try_clone)
    }

    /// For the admin listener, likewise.
    pub(super) fn admin(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        self.admin.as_ref().map_or_else(|| bind(addr), TcpListener::try_clone)
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addr)?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

fn is_listening(socket: &TcpListener) -> bool {
    socket_acceptconn(socket).unwrap_or(false)
}

fn agrees(
    name: &'static str,
    socket: &TcpListener,
    key: &'static str,
    configured: SocketAddr,
) -> Result<(), SocketError> {
    let at = socket.local_addr().map_err(|_| SocketError::Kind(name))?;
    if is_same(at, configured) { Ok(()) } else { Err(SocketError::Elsewhere { name, at, key, configured }) }
}

/// `[::]` takes what `0.0.0.0` takes, and port 0 is any port.
fn is_same(at: SocketAddr, configured: SocketAddr) -> bool {
    let everywhere = at.ip().is_unspecified() && configured.ip().is_unspecified();
    (everywhere || at.ip() == configured.ip()) && (configured.port() == 0 || at.port() == configured.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_where_the_configuration_says() {
        let same = |at: &str, configured: &str| is_same(at.parse().unwrap(), configured.parse().unwrap());
        assert!(same("127.0.0.1:8443", "127.0.0.1:8443"));
        assert!(same("[::]:8443", "0.0.0.0:8443"));
        assert!(same("127.0.0.1:8443", "127.0.0.1:0"));
        assert!(!same("127.0.0.1:8443", "127.0.0.1:443"));
        assert!(!same("127.0.0.1:8443", "0.0.0.0:8443"));
        assert!(!same("[::]:8443", "127.0.0.1:8443"));
        assert!(!same("[::]:8443", "127.0.0.1:0"));
    }
}
