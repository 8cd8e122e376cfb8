//! The IO shell: the only place with sockets, clocks, threads and channels. Everything it drives
//! is a state machine of another module.

mod affinity;
mod all_counters;
mod audio_child;
mod child;
mod child_sockets;
mod clock;
mod control_loop;
mod core_loop;
mod crowd;
mod handshakes;
mod http_conn;
mod interfaces;
mod listen;
mod mailbox;
mod open_files;
mod process;
mod tcp_conn;
mod tls;
mod tls_dates;
mod tls_files;
mod tls_make;
mod transcode_loop;
mod udp_send;
mod udp_socket;
mod video_loop;
mod watchdog;
mod webhook_loop;

pub use affinity::{Placement, allowed_cpus, choose_cpus, pin};
pub use all_counters::AllCounters;
pub use child::Containment;
pub use clock::{Clock, now};
pub use control_loop::{ControlLoop, ControlLoopConfig, ControlMail, Listeners};
pub use core_loop::{CoreLoop, CoreLoopConfig, CoreMail, DOORBELL};
pub use interfaces::{interface_addresses, reachable_addresses};
pub use listen::listen_on;
pub use mailbox::{Doorbell, Mailbox, Postbox, mailbox};
pub use open_files::raise_open_files;
pub use tls::{TlsProtocol, TlsTerms};
pub use tls_files::{TlsFiles, TlsFilesError, TlsKeeper};
pub use tls_make::{MadeCertificate, NewCertificate, NewCertificateError, make_certificate};
pub use transcode_loop::TranscodeLoop;
pub use udp_socket::{SendOutcome, SendPlace, UdpSocket, bind_udp_group};
pub use video_loop::{VideoLoop, VideoLoopConfig, VideoMail};
pub use watchdog::{Heartbeat, Watchdog};
pub use webhook_loop::WebhookLoop;
