//! DTLS of the viewers: str0m's own, with one configuration and one certificate for all that a
//! thread joins, and with the media keys handed out: the reports are sealed here, and of the
//! media only a sample is opened (RFC 5764 §4.2).

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use rtmpeer::webrtc::srtp::{SrtpKeys, SrtpProfile};
use str0m_proto::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion,
    SrtpProfile as DtlsSrtpProfile,
};
use str0m_proto::crypto::{CryptoError, CryptoProvider, DtlsVersion};

use crate::Failure;

/// Where a viewer's keys arrive.
pub(crate) type KeyReceiver = Receiver<SrtpKeys>;

/// One thread's cryptography.
pub(crate) struct ClientCrypto {
    provider: Arc<CryptoProvider>,
    made: Receiver<KeyReceiver>,
}

impl ClientCrypto {
    /// Makes it; a provider lives as long as the process.
    pub(crate) fn new() -> Result<Self, Failure> {
        let stock = str0m_aws_lc_rs::default_provider();
        let certificate = stock.dtls_provider.generate_certificate();
        let config = dimpl::Config::builder()
            .with_crypto_provider(str0m_aws_lc_rs::dimpl_crypto_provider())
            .build()
            .map_err(|why| format!("the DTLS library does not work: {why}"))?;
        let (to_joiner, made) = sync_channel(1);
        let tap: &'static Tap = Box::leak(Box::new(Tap {
            config: Arc::new(config),
            certificate: certificate.ok_or("no certificate could be made")?,
            to_joiner,
        }));
        let provider = CryptoProvider {
            dtls_provider: tap,
            ..stock
        };
        Ok(Self {
            provider: Arc::new(provider),
            made,
        })
    }

    pub(crate) fn provider(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.provider)
    }

    /// Where the keys of the viewer made last will arrive.
    pub(crate) fn keys(&self) -> Result<KeyReceiver, Failure> {
        Ok(self.made.try_recv()?)
    }
}

struct Tap {
    config: Arc<dimpl::Config>,
    certificate: DtlsCert,
    to_joiner: SyncSender<KeyReceiver>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tap")
    }
}

impl DtlsProvider for Tap {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        Some(self.certificate.clone())
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        _version: DtlsVersion,
        _mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let (to_viewer, keys) = sync_channel(1);
        // Keys that nobody took are of a viewer that nobody wanted.
        let _ = self.to_joiner.try_send(keys);
        Ok(Box::new(TappedDtls {
            dtls: dimpl::Dtls::new_12(Arc::clone(&self.config), cert.clone(), now),
            to_viewer,
        }))
    }
}

struct TappedDtls {
    dtls: dimpl::Dtls,
    to_viewer: SyncSender<SrtpKeys>,
}

impl std::fmt::Debug for TappedDtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TappedDtls")
    }
}

impl DtlsInstance for TappedDtls {
    fn set_active(&mut self, active: bool) {
        self.dtls.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.dtls.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let output = self.dtls.poll_output(buf);
        if let DtlsOutput::KeyingMaterial(material, profile) = &output {
            let profile = match *profile {
                DtlsSrtpProfile::AES128_CM_SHA1_80 => Some(SrtpProfile::Aes128CmSha1_80),
                DtlsSrtpProfile::AEAD_AES_128_GCM => Some(SrtpProfile::AeadAes128Gcm),
                DtlsSrtpProfile::AEAD_AES_256_GCM => Some(SrtpProfile::AeadAes256Gcm),
                _ => None,
            };
            let keys = profile.and_then(|profile| SrtpKeys::from_dtls(profile, material));
            if let Some(keys) = keys {
                // The viewer may be gone.
                let _ = self.to_viewer.try_send(keys);
            }
        }
        output
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.dtls.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.dtls.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.dtls.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.dtls.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.dtls.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.dtls.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.dtls.close()
    }
}
