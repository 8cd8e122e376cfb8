//! The IO shell: the only place with sockets, clocks, threads and channels. Everything it drives
//! is a state machine of another module.

mod affinity;
mod clock;
mod control_loop;
mod core_loop;
mod http_conn;
mod interfaces;
mod mailbox;
mod process;
mod tcp_conn;
mod transcode_loop;
mod udp_send;
mod udp_socket;
mod watchdog;
mod webhook_loop;

pub use affinity::{Placement, choose_cpus, pin};
pub use clock::{Clock, now};
pub use control_loop::{AllCounters, ControlLoop, ControlLoopConfig, ControlMail, Listeners};
pub use core_loop::{CoreLoop, CoreLoopConfig, CoreMail, DOORBELL};
pub use interfaces::interface_addresses;
pub use mailbox::{Doorbell, Mailbox, Postbox, mailbox};
pub use transcode_loop::TranscodeLoop;
pub use udp_socket::{UdpSocket, bind_udp_group};
pub use watchdog::{Heartbeat, Watchdog};
pub use webhook_loop::WebhookLoop;
