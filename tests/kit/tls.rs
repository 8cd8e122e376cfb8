//! TLS for the kit's clients: a certificate made for the test, and streams that are plain or not.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rtmpeer::runtime::{Clock, NewCertificate, make_certificate, now};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

/// Longest wait for the server.
const PATIENCE: Duration = Duration::from_secs(20);

/// A stream to the server.
pub enum KitStream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl KitStream {
    /// Connects, with TLS if a certificate is given.
    pub fn connect(server: SocketAddr, tls: Option<&KitTls>) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match tls {
            None => Self::Plain(stream),
            Some(tls) => Self::Tls(Box::new(StreamOwned::new(tls.session(), stream))),
        }
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for KitStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for KitStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A certificate in a folder of its own, and clients that trust it and no other.
#[derive(Clone)]
pub struct KitTls {
    pub folder: PathBuf,
    pub client: Arc<ClientConfig>,
}

impl KitTls {
    /// Makes one.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rtmpeer-kit-{}-{number}", std::process::id());
        Self::make(std::env::temp_dir().join(name))
    }

    /// Makes another in the same folder, as a renewal does.
    pub fn renew(&self) -> Self {
        Self::make(self.folder.clone())
    }

    fn make(folder: PathBuf) -> Self {
        let wanted = NewCertificate {
            folder: folder.clone(),
            names: Vec::new(),
            replace: true,
        };
        make_certificate(&wanted, Clock::start().timebase().wall(now())).unwrap();
        let client = client(&folder, &[&rustls::version::TLS13, &rustls::version::TLS12]);
        Self { folder, client }
    }

    /// The same with a client that speaks one version only.
    pub fn speaking(&self, version: &'static SupportedProtocolVersion) -> Self {
        Self {
            folder: self.folder.clone(),
            client: client(&self.folder, &[version]),
        }
    }

    /// Settings of a server that uses it.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.folder.join(name).to_string_lossy().into_owned();
        vec![
            ("RTMPEER_TLS__CERTIFICATE", file("cert.pem")),
            ("RTMPEER_TLS__KEY", file("key.pem")),
            ("RTMPEER_RTMPS__LISTEN", "127.0.0.1:0".into()),
            ("RTMPEER_HTTP__TLS", "true".into()),
        ]
    }

    /// A client's session.
    pub fn session(&self) -> ClientConnection {
        let name = ServerName::try_from("localhost").unwrap();
        ClientConnection::new(Arc::clone(&self.client), name).unwrap()
    }

    /// Whether a server shows this certificate.
    pub fn is_shown_by(&self, server: SocketAddr) -> bool {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut session = self.session();
        while session.is_handshaking() {
            if session.complete_io(&mut stream).is_err() {
                return false;
            }
        }
        true
    }
}

fn client(
    folder: &std::path::Path,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}
