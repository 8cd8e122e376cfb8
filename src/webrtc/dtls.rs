//! The DTLS of a viewer: str0m's own, with one shared configuration, and with a tap that hands
//! the media keys to us.
//!
//! RFC 5764 (DTLS-SRTP), RFC 6347 (DTLS 1.2). str0m asks its `DtlsProvider` for one session per
//! viewer and polls the media keys out of it; ours passes everything through and keeps a copy of
//! the keys. A provider must live for the whole process, so each core leaks one, once. Players made
//! of this crate (the load generator's) use it from the other side.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use crossbeam_channel::{Receiver, Sender, bounded};
use dimpl::crypto::{Buf, KeyProvider, SigningKey};
use dimpl::{CryptoOperation, HashAlgorithm, SignatureAlgorithm};
use str0m_proto::DATAGRAM_MTU_TARGET;
use str0m_proto::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion,
    SrtpProfile as DtlsSrtpProfile,
};
use str0m_proto::crypto::{CryptoError, CryptoProvider, DtlsVersion};

use super::ViewerError;
use super::srtp::{SrtpKeys, SrtpProfile};

/// The server's certificate: one per process, so that a join costs no key generation.
#[derive(Clone)]
pub struct Certificate(DtlsCert);

impl Certificate {
    /// Generates a self-signed certificate (ECDSA P-256), as every WebRTC peer has one.
    ///
    /// # Errors
    /// The environment's fault: the cryptographic library made none.
    pub fn generate() -> Result<Self, ViewerError> {
        str0m_aws_lc_rs::default_provider()
            .dtls_provider
            .generate_certificate()
            .map(Self)
            .ok_or(ViewerError::Setup("no certificate could be generated"))
    }

    pub(super) fn to_str0m(&self) -> DtlsCert {
        self.0.clone()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

/// The keys that a handshake ended with.
#[derive(Debug)]
pub struct TappedKeys {
    /// The keys of both directions.
    pub keys: SrtpKeys,
    /// Whether we were the DTLS client (the viewer insisted on being the server).
    pub client: bool,
}

/// Where a session's keys arrive.
pub type KeyReceiver = Receiver<TappedKeys>;

/// Cryptography for str0m: of a core, or of a thread of players.
pub struct TappedCrypto {
    provider: Arc<CryptoProvider>,
    made: Receiver<KeyReceiver>,
}

impl TappedCrypto {
    /// Makes it, once per core or thread: the provider is leaked.
    ///
    /// # Errors
    /// The environment's fault: the cryptographic library failed its self-tests.
    pub fn new(certificate: &Certificate) -> Result<Self, ViewerError> {
        let mut provider = str0m_aws_lc_rs::dimpl_crypto_provider();
        provider.key_provider = Box::leak(Box::new(LoadedKey::new(
            certificate,
            provider.key_provider,
        )?));
        // ICE has proved the viewer's address before DTLS begins, so cookies are needless.
        let config = dimpl::Config::builder()
            .with_crypto_provider(provider)
            .use_server_cookie(false)
            .mtu(DATAGRAM_MTU_TARGET)
            .build()
            .map_err(|_why| ViewerError::Setup("the DTLS library failed its self-tests"))?;
        // One place: a session's receiver is taken in the call that makes the session.
        let (to_factory, made) = bounded(1);
        let tap: &'static Tap = Box::leak(Box::new(Tap {
            config: Arc::new(config),
            certificate: certificate.to_str0m(),
            to_factory,
        }));
        let provider = CryptoProvider {
            dtls_provider: tap,
            ..str0m_aws_lc_rs::default_provider()
        };
        Ok(Self {
            provider: Arc::new(provider),
            made,
        })
    }

    /// What str0m is to be configured with.
    #[must_use]
    pub fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// The key receiver of the session made last, to be taken before the next is made; `None` if it
    /// was taken.
    #[must_use]
    pub fn take_receiver(&self) -> Option<KeyReceiver> {
        self.made.try_recv().ok()
    }
}

impl fmt::Debug for TappedCrypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TappedCrypto")
    }
}

/// The certificate's private key, read and checked once: that is a multiplication on the curve,
/// a twentieth of a join.
struct LoadedKey {
    der: Vec<u8>,
    pair: Arc<EcdsaKeyPair>,
    others: &'static dyn KeyProvider,
}

impl LoadedKey {
    fn new(
        certificate: &Certificate,
        others: &'static dyn KeyProvider,
    ) -> Result<Self, ViewerError> {
        let der = certificate.0.private_key.clone();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der)
            .map_err(|_why| ViewerError::Setup("the certificate's key cannot be read"))?;
        Ok(Self {
            der,
            pair: Arc::new(pair),
            others,
        })
    }
}

impl fmt::Debug for LoadedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoadedKey")
    }
}

impl KeyProvider for LoadedKey {
    fn load_private_key(&self, der: &[u8]) -> Result<Box<dyn SigningKey>, dimpl::CryptoError> {
        if der == self.der {
            return Ok(Box::new(SharedKey(Arc::clone(&self.pair))));
        }
        self.others.load_private_key(der)
    }
}

/// Signs with the certificate's key (ECDSA P-256, SHA-256).
struct SharedKey(Arc<EcdsaKeyPair>);

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey")
    }
}

impl SigningKey for SharedKey {
    fn sign(
        &mut self,
        data: &[u8],
        hash: HashAlgorithm,
        out: &mut Buf,
    ) -> Result<(), dimpl::CryptoError> {
        if hash != self.hash_algorithm() {
            return Err(dimpl::CryptoError::SigningKeyHashMismatch {
                key_hash: self.hash_algorithm(),
                requested: hash,
            });
        }
        let signature = self.0.sign(&SystemRandom::new(), data);
        let signature =
            signature.map_err(|_why| dimpl::CryptoError::OperationFailed(CryptoOperation::Sign))?;
        out.clear();
        out.extend_from_slice(signature.as_ref());
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}

struct Tap {
    config: Arc<dimpl::Config>,
    certificate: DtlsCert,
    to_factory: Sender<KeyReceiver>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl DtlsProvider for Tap {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        // Of all of its sessions, unless they are given another.
        Some(self.certificate.clone())
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        _version: DtlsVersion,
        _mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let (to_viewer, keys) = bounded(1);
        self.to_factory
            .try_send(keys)
            .map_err(|_full| CryptoError::Other("the last session's keys were not taken".into()))?;
        Ok(Box::new(TappedDtls {
            dtls: dimpl::Dtls::new_12(Arc::clone(&self.config), cert.clone(), now),
            to_viewer,
        }))
    }
}

struct TappedDtls {
    dtls: dimpl::Dtls,
    to_viewer: Sender<TappedKeys>,
}

impl TappedDtls {
    fn tap(&self, profile: DtlsSrtpProfile, material: &[u8]) {
        let profile = match profile {
            DtlsSrtpProfile::AES128_CM_SHA1_80 => SrtpProfile::Aes128CmSha1_80,
            DtlsSrtpProfile::AEAD_AES_128_GCM => SrtpProfile::AeadAes128Gcm,
            DtlsSrtpProfile::AEAD_AES_256_GCM => SrtpProfile::AeadAes256Gcm,
            // Not offered by us, so not chosen: without keys the viewer is not served.
            _ => return,
        };
        if let Some(keys) = SrtpKeys::from_dtls(profile, material) {
            let client = self.dtls.is_active();
            // Full after a renegotiation, which DTLS-SRTP has not: the first keys hold.
            let _ = self.to_viewer.try_send(TappedKeys { keys, client });
        }
    }
}

impl fmt::Debug for TappedDtls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
            let (profile, material) = (*profile, material.to_vec());
            self.tap(profile, &material);
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
