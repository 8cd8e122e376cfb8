//! SRTP and SRTCP with the keys of a DTLS handshake: seals what a viewer is sent, opens the
//! RTCP it sends back.
//!
//! RFC 3711 (packet format, key derivation, AES-CM with HMAC-SHA1), RFC 7714 (AES-GCM),
//! RFC 5764 §4.2 (where the keys come from). A key must never seal two packets of one source
//! under one index, so nothing else may send with the keys given to an [`SrtpSender`].

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

/// Longest master key, in bytes: AES-256.
const KEY_BYTES_MAX: usize = 32;
/// Salt of the key derivation and of AES-CM, in bytes (RFC 3711 §8.2).
const SALT_BYTES: usize = 14;
/// Salt and nonce of AES-GCM, in bytes (RFC 7714 §12, §8.1).
const GCM_SALT_BYTES: usize = 12;
/// Authentication tag of AES-GCM, in bytes (RFC 7714 §12).
const GCM_TAG_BYTES: usize = 16;
/// Authentication tag of AES128_CM_SHA1_80, in bytes (RFC 5764 §4.1.2).
const SHA1_TAG_BYTES: usize = 10;
/// Key of HMAC-SHA1, in bytes (RFC 3711 §5.2).
const SHA1_KEY_BYTES: usize = 20;
/// The word that ends an SRTCP packet: encryption flag and index (RFC 3711 §3.4), in bytes.
const SRTCP_WORD_BYTES: usize = 4;
/// Part of an RTCP packet that stays readable: first header and sender's SSRC, in bytes.
const RTCP_CLEAR_BYTES: usize = 8;
/// Fixed part of an RTP header, in bytes (RFC 3550 §5.1).
const RTP_FIXED_BYTES: usize = 12;
/// The flag that says the packet is encrypted (RFC 3711 §3.4).
const SRTCP_ENCRYPTED: u32 = 0x8000_0000;
/// Greatest SRTCP index: 31 bits (RFC 3711 §3.4).
const SRTCP_INDEX_MAX: u32 = 0x7fff_ffff;
/// Greatest SRTP index: 48 bits, rollover counter and sequence number (RFC 3711 §3.3.1).
const SRTP_INDEX_MAX: u64 = 0xffff_ffff_ffff;
/// Packets a replay window looks back; RFC 3711 §3.3.2 wants 64 at least.
const REPLAY_WINDOW_PACKETS: u64 = 128;
/// Sources followed of one peer: a browser has one or two for each of its tracks.
pub const SOURCES_MAX: usize = 16;

/// What a DTLS handshake chose to protect media with (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SrtpProfile {
    /// AES in counter mode with an 80-bit HMAC-SHA1 tag; every WebRTC peer has it.
    Aes128CmSha1_80,
    /// AES-128 in Galois counter mode.
    AeadAes128Gcm,
    /// AES-256 in Galois counter mode.
    AeadAes256Gcm,
}

impl SrtpProfile {
    /// Bytes that sealing adds to an RTP packet.
    #[must_use]
    pub fn tag_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => SHA1_TAG_BYTES,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => GCM_TAG_BYTES,
        }
    }

    /// Bytes that sealing adds to an RTCP packet: the tag and the index.
    #[must_use]
    pub fn rtcp_overhead_bytes(self) -> usize {
        self.tag_bytes().saturating_add(SRTCP_WORD_BYTES)
    }

    /// Length of a master key, and of the session key made of it, in bytes.
    #[must_use]
    pub fn key_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 | Self::AeadAes128Gcm => 16,
            Self::AeadAes256Gcm => KEY_BYTES_MAX,
        }
    }

    /// Length of a master salt, in bytes.
    #[must_use]
    pub fn salt_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => SALT_BYTES,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => GCM_SALT_BYTES,
        }
    }

    /// Length of the keying material to export from DTLS, in bytes: two keys and two salts.
    #[must_use]
    pub fn keying_material_bytes(self) -> usize {
        2 * (self.key_bytes() + self.salt_bytes())
    }
}

/// The master keys and salts of both directions. `Debug` hides them.
#[derive(Clone)]
pub struct SrtpKeys {
    profile: SrtpProfile,
    client: MasterKey,
    server: MasterKey,
}

#[derive(Clone)]
struct MasterKey {
    key: Vec<u8>,
    salt: Vec<u8>,
}

impl SrtpKeys {
    /// Takes apart what DTLS exported: client key, server key, client salt, server salt
    /// (RFC 5764 §4.2). `None` if it is shorter than the profile needs.
    #[must_use]
    pub fn from_dtls(profile: SrtpProfile, keying_material: &[u8]) -> Option<Self> {
        let (client_key, rest) = keying_material.split_at_checked(profile.key_bytes())?;
        let (server_key, rest) = rest.split_at_checked(profile.key_bytes())?;
        let (client_salt, rest) = rest.split_at_checked(profile.salt_bytes())?;
        let (server_salt, _) = rest.split_at_checked(profile.salt_bytes())?;
        let master = |key: &[u8], salt: &[u8]| MasterKey {
            key: key.to_vec(),
            salt: salt.to_vec(),
        };
        Some(Self {
            profile,
            client: master(client_key, client_salt),
            server: master(server_key, server_salt),
        })
    }

    /// The profile they are for.
    #[must_use]
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }
}

impl fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SrtpKeys({:?}, ***)", self.profile)
    }
}

/// Why a packet could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpError {
    /// Our fault: a key or salt has a length that does not fit its profile.
    BadKey,
    /// Our fault: what is to be sealed is no RTP or RTCP packet.
    BadPacket,
    /// Nobody's fault: every index of these keys is used up; only a new session goes on.
    IndexExhausted,
    /// The peer's fault: too short, or without the encryption that DTLS agreed on.
    Malformed,
    /// The peer's fault: the index was received before, or is too old to tell.
    Replayed,
    /// The peer's fault: the tag is wrong, so somebody else sent it or altered it.
    NotAuthentic,
    /// The peer's fault: more than [`SOURCES_MAX`] sources.
    TooManySources,
    /// The environment's fault: the crypto library refused.
    Library,
}

impl fmt::Display for SrtpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadKey => "SRTP key or salt of a wrong length",
            Self::BadPacket => "not an RTP or RTCP packet",
            Self::IndexExhausted => "every SRTP index of this session is used up",
            Self::Malformed => "SRTP packet too short or not encrypted",
            Self::Replayed => "SRTP packet received before",
            Self::NotAuthentic => "SRTP packet with a wrong authentication tag",
            Self::TooManySources => "more SRTP sources than one peer may have",
            Self::Library => "the crypto library refused",
        })
    }
}

impl std::error::Error for SrtpError {}

/// Seals what one peer is sent. Its keys are expanded once; sealing allocates nothing but the
/// growth of the caller's buffer.
pub struct SrtpSender {
    rtp: Cipher,
    rtcp: Cipher,
    /// Index of the next RTCP packet, one more than [`SRTCP_INDEX_MAX`] when none is left.
    rtcp_index: u32,
}

impl SrtpSender {
    /// Makes the sender of the DTLS server's side, which a viewer's server always is.
    ///
    /// # Errors
    /// [`SrtpError::BadKey`], [`SrtpError::Library`].
    pub fn new(keys: &SrtpKeys) -> Result<Self, SrtpError> {
        Self::of(keys.profile, &keys.server)
    }

    /// Makes the sender of the DTLS client's side, for players made of this crate.
    ///
    /// # Errors
    /// [`SrtpError::BadKey`], [`SrtpError::Library`].
    pub fn new_client(keys: &SrtpKeys) -> Result<Self, SrtpError> {
        Self::of(keys.profile, &keys.client)
    }

    fn of(profile: SrtpProfile, master: &MasterKey) -> Result<Self, SrtpError> {
        Ok(Self {
            rtp: Cipher::derive(profile, master, &RTP_LABELS)?,
            rtcp: Cipher::derive(profile, master, &RTCP_LABELS)?,
            rtcp_index: 0,
        })
    }

    /// Appends one SRTP packet to `out`: `header` as it is, `payload` encrypted, the tag.
    /// `index` is the packet's rollover counter (32 bits) and sequence number (16 bits), which
    /// must be new for `ssrc`. If it fails, `out` is as before.
    ///
    /// # Errors
    /// [`SrtpError::IndexExhausted`] past 48 bits, [`SrtpError::Library`].
    pub fn seal_rtp(
        &self,
        header: &[u8],
        ssrc: u32,
        index: u64,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        self.seal_rtp_parts(header, ssrc, index, &[], payload, out)
    }

    /// Appends one retransmission: as [`SrtpSender::seal_rtp`], with the number that the packet
    /// first had before its payload (RFC 4588 §4). `header`, `ssrc` and `index` are those of
    /// the retransmission's own source.
    ///
    /// # Errors
    /// As [`SrtpSender::seal_rtp`].
    pub fn seal_rtx(
        &self,
        header: &[u8],
        ssrc: u32,
        index: u64,
        original_sequence: u16,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        let original = original_sequence.to_be_bytes();
        self.seal_rtp_parts(header, ssrc, index, &original, payload, out)
    }

    fn seal_rtp_parts(
        &self,
        header: &[u8],
        ssrc: u32,
        index: u64,
        prefix: &[u8],
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        debug_assert!(header_says(header, ssrc, index), "another packet's header");
        if index > SRTP_INDEX_MAX {
            return Err(SrtpError::IndexExhausted);
        }
        let start = out.len();
        out.reserve(header.len() + prefix.len() + payload.len() + GCM_TAG_BYTES);
        out.extend_from_slice(header);
        out.extend_from_slice(prefix);
        out.extend_from_slice(payload);
        let sealed = self.rtp.seal_rtp(start, header.len(), ssrc, index, out);
        if sealed.is_err() {
            out.truncate(start);
        }
        sealed
    }

    /// Appends one SRTCP packet made of the compound `packet` to `out`, under the next index.
    /// If it fails, `out` is as before.
    ///
    /// # Errors
    /// [`SrtpError::BadPacket`] if it is shorter than a header with a sender,
    /// [`SrtpError::IndexExhausted`] after 2^31 packets, [`SrtpError::Library`].
    pub fn seal_rtcp(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), SrtpError> {
        let index = self.rtcp_index;
        if index > SRTCP_INDEX_MAX {
            return Err(SrtpError::IndexExhausted);
        }
        let ssrc = rtcp_ssrc(packet).ok_or(SrtpError::BadPacket)?;
        // Counted even if sealing fails: an index used twice would give the key away.
        self.rtcp_index = index.saturating_add(1);
        let start = out.len();
        out.extend_from_slice(packet);
        let sealed = self.rtcp.seal_rtcp(start, ssrc, index, out);
        if sealed.is_err() {
            out.truncate(start);
        }
        sealed
    }
}

impl fmt::Debug for SrtpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SrtpSender(***, rtcp_index={})", self.rtcp_index)
    }
}

/// Opens the RTCP of one peer.
pub struct SrtcpReceiver {
    cipher: Cipher,
    sources: Sources<ReplayWindow>,
}

impl SrtcpReceiver {
    /// Makes the receiver of the DTLS server's side: it opens what the client sent.
    ///
    /// # Errors
    /// [`SrtpError::BadKey`], [`SrtpError::Library`].
    pub fn new(keys: &SrtpKeys) -> Result<Self, SrtpError> {
        Self::of(keys.profile, &keys.client)
    }

    /// Makes the receiver of the DTLS client's side, for players made of this crate.
    ///
    /// # Errors
    /// [`SrtpError::BadKey`], [`SrtpError::Library`].
    pub fn new_client(keys: &SrtpKeys) -> Result<Self, SrtpError> {
        Self::of(keys.profile, &keys.server)
    }

    fn of(profile: SrtpProfile, master: &MasterKey) -> Result<Self, SrtpError> {
        Ok(Self {
            cipher: Cipher::derive(profile, master, &RTCP_LABELS)?,
            sources: Sources::default(),
        })
    }

    /// Replaces `out` by the compound RTCP packet in `datagram`; empties it if that fails.
    ///
    /// # Errors
    /// [`SrtpError::Malformed`], [`SrtpError::Replayed`], [`SrtpError::NotAuthentic`],
    /// [`SrtpError::TooManySources`].
    pub fn open(&mut self, datagram: &[u8], out: &mut Vec<u8>) -> Result<(), SrtpError> {
        out.clear();
        let ssrc = rtcp_ssrc(datagram).ok_or(SrtpError::Malformed)?;
        let word = self.cipher.rtcp_word(datagram)?;
        if word & SRTCP_ENCRYPTED == 0 {
            return Err(SrtpError::Malformed);
        }
        let index = word & SRTCP_INDEX_MAX;
        self.sources
            .check(ssrc, |window| window.is_new(u64::from(index)))?;
        let opened = self.cipher.open_rtcp(datagram, ssrc, index, out);
        if opened.is_err() {
            out.clear();
            return opened;
        }
        self.sources.of(ssrc).accept(u64::from(index));
        Ok(())
    }
}

impl fmt::Debug for SrtcpReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SrtcpReceiver(***, sources={})", self.sources.0.len())
    }
}

/// Opens the RTP that the server sent, for players made of this crate: the server itself
/// receives no media.
pub struct SrtpReceiver {
    cipher: Cipher,
    sources: Sources<ReplayWindow>,
}

/// Where the parts of an opened RTP packet are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedRtp {
    /// Length of the header with its extensions, in bytes; the payload follows it.
    pub header_bytes: usize,
    /// Rollover counter (32 bits) and sequence number (16 bits).
    pub index: u64,
}

impl SrtpReceiver {
    /// Makes the receiver of the DTLS client's side.
    ///
    /// # Errors
    /// [`SrtpError::BadKey`], [`SrtpError::Library`].
    pub fn new_client(keys: &SrtpKeys) -> Result<Self, SrtpError> {
        Ok(Self {
            cipher: Cipher::derive(keys.profile, &keys.server, &RTP_LABELS)?,
            sources: Sources::default(),
        })
    }

    /// Replaces `out` by the RTP packet in `datagram`, header and payload; empties it if that
    /// fails.
    ///
    /// # Errors
    /// [`SrtpError::Malformed`], [`SrtpError::Replayed`], [`SrtpError::NotAuthentic`],
    /// [`SrtpError::TooManySources`].
    pub fn open_rtp(&mut self, datagram: &[u8], out: &mut Vec<u8>) -> Result<OpenedRtp, SrtpError> {
        out.clear();
        let header_bytes = rtp_header_bytes(datagram).ok_or(SrtpError::Malformed)?;
        let sequence = be_u16(datagram, 2).ok_or(SrtpError::Malformed)?;
        let ssrc = be_u32(datagram, 8).ok_or(SrtpError::Malformed)?;
        let highest = self.sources.find(ssrc).and_then(ReplayWindow::highest);
        let index = estimate_index(highest, sequence).ok_or(SrtpError::Replayed)?;
        self.sources.check(ssrc, |window| window.is_new(index))?;
        let opened = self
            .cipher
            .open_rtp(datagram, header_bytes, ssrc, index, out);
        if let Err(error) = opened {
            out.clear();
            return Err(error);
        }
        self.sources.of(ssrc).accept(index);
        Ok(OpenedRtp {
            header_bytes,
            index,
        })
    }
}

impl fmt::Debug for SrtpReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SrtpReceiver(***, sources={})", self.sources.0.len())
    }
}

/// Labels of the key derivation (RFC 3711 §4.3.1, §4.3.2).
struct Labels {
    encryption: u8,
    authentication: u8,
    salt: u8,
}

const RTP_LABELS: Labels = Labels {
    encryption: 0x00,
    authentication: 0x01,
    salt: 0x02,
};
const RTCP_LABELS: Labels = Labels {
    encryption: 0x03,
    authentication: 0x04,
    salt: 0x05,
};

/// The session keys of one direction, of RTP or of RTCP, expanded.
enum Cipher {
    /// AES-GCM: one cache-friendly block, on the path of nearly every packet.
    Gcm {
        key: LessSafeKey,
        salt: [u8; GCM_SALT_BYTES],
    },
    Counter(Box<CounterCipher>),
}

struct CounterCipher {
    key: EncryptingKey,
    salt: [u8; SALT_BYTES],
    authentication: hmac::Key,
}

impl Cipher {
    fn derive(
        profile: SrtpProfile,
        master: &MasterKey,
        labels: &Labels,
    ) -> Result<Self, SrtpError> {
        let right =
            master.key.len() == profile.key_bytes() && master.salt.len() == profile.salt_bytes();
        if !right {
            return Err(SrtpError::BadKey);
        }
        let derivation = Derivation::new(master)?;
        let mut key_buffer = [0; KEY_BYTES_MAX];
        let key = key_buffer
            .get_mut(..profile.key_bytes())
            .ok_or(SrtpError::BadKey)?;
        derivation.fill(labels.encryption, key)?;
        match profile {
            SrtpProfile::Aes128CmSha1_80 => {
                let mut salt = [0; SALT_BYTES];
                derivation.fill(labels.salt, &mut salt)?;
                let mut authentication = [0; SHA1_KEY_BYTES];
                derivation.fill(labels.authentication, &mut authentication)?;
                Ok(Self::Counter(Box::new(CounterCipher {
                    key: counter_key(key)?,
                    salt,
                    authentication: hmac::Key::new(
                        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                        &authentication,
                    ),
                })))
            }
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => {
                let mut salt = [0; GCM_SALT_BYTES];
                derivation.fill(labels.salt, &mut salt)?;
                Ok(Self::Gcm {
                    key: gcm_key(key)?,
                    salt,
                })
            }
        }
    }

    /// Encrypts what follows `header_bytes` after `start` and appends the tag.
    fn seal_rtp(
        &self,
        start: usize,
        header_bytes: usize,
        ssrc: u32,
        index: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        let packet = out.get_mut(start..).ok_or(SrtpError::BadPacket)?;
        let (header, payload) = packet
            .split_at_mut_checked(header_bytes)
            .ok_or(SrtpError::BadPacket)?;
        match self {
            Self::Gcm { key, salt } => {
                let nonce = gcm_nonce(salt, ssrc, index);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(&*header), payload)
                    .map_err(refused)?;
                out.extend_from_slice(tag.as_ref());
            }
            Self::Counter(cipher) => {
                cipher.apply(ssrc, index, payload)?;
                let tag = cipher.tag(packet, &rollover(index).to_be_bytes());
                out.extend_from_slice(&tag);
            }
        }
        Ok(())
    }

    /// Appends the plain packet to `out`.
    fn open_rtp(
        &self,
        datagram: &[u8],
        header_bytes: usize,
        ssrc: u32,
        index: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        let (sealed, tag) = split_end(datagram, self.tag_bytes())?;
        out.extend_from_slice(sealed);
        let (header, payload) = out
            .split_at_mut_checked(header_bytes)
            .ok_or(SrtpError::Malformed)?;
        match self {
            Self::Gcm { key, salt } => {
                let nonce = gcm_nonce(salt, ssrc, index);
                key.open_in_place_separate_tag(nonce, Aad::from(&*header), tag, payload)
                    .map_err(forged)?;
            }
            Self::Counter(cipher) => {
                let expected = cipher.tag(sealed, &rollover(index).to_be_bytes());
                verify_slices_are_equal(&expected, tag).map_err(forged)?;
                cipher.apply(ssrc, index, payload)?;
            }
        }
        Ok(())
    }

    /// Encrypts the RTCP packet at `start`, appends index and tag in the profile's order.
    fn seal_rtcp(
        &self,
        start: usize,
        ssrc: u32,
        index: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        let word = (SRTCP_ENCRYPTED | index).to_be_bytes();
        let packet = out.get_mut(start..).ok_or(SrtpError::BadPacket)?;
        let (clear, body) = packet
            .split_at_mut_checked(RTCP_CLEAR_BYTES)
            .ok_or(SrtpError::BadPacket)?;
        match self {
            Self::Gcm { key, salt } => {
                let nonce = gcm_nonce(salt, ssrc, u64::from(index));
                let associated = rtcp_associated(clear, word).ok_or(SrtpError::BadPacket)?;
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(associated), body)
                    .map_err(refused)?;
                out.extend_from_slice(tag.as_ref());
                out.extend_from_slice(&word);
            }
            Self::Counter(cipher) => {
                cipher.apply(ssrc, u64::from(index), body)?;
                let tag = cipher.tag(packet, &word);
                out.extend_from_slice(&word);
                out.extend_from_slice(&tag);
            }
        }
        Ok(())
    }

    /// The encryption flag and index of an SRTCP packet: last, or before the tag
    /// (RFC 7714 §9.2, RFC 3711 §3.4).
    fn rtcp_word(&self, datagram: &[u8]) -> Result<u32, SrtpError> {
        let before_tag = match self {
            Self::Gcm { .. } => datagram,
            Self::Counter(_) => split_end(datagram, SHA1_TAG_BYTES)?.0,
        };
        let word = before_tag
            .last_chunk::<SRTCP_WORD_BYTES>()
            .ok_or(SrtpError::Malformed)?;
        Ok(u32::from_be_bytes(*word))
    }

    /// Appends the plain packet to `out`.
    fn open_rtcp(
        &self,
        datagram: &[u8],
        ssrc: u32,
        index: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        let word = (SRTCP_ENCRYPTED | index).to_be_bytes();
        match self {
            Self::Gcm { key, salt } => {
                let (rest, _) = split_end(datagram, SRTCP_WORD_BYTES)?;
                let (sealed, tag) = split_end(rest, GCM_TAG_BYTES)?;
                out.extend_from_slice(sealed);
                let (clear, body) = out
                    .split_at_mut_checked(RTCP_CLEAR_BYTES)
                    .ok_or(SrtpError::Malformed)?;
                let nonce = gcm_nonce(salt, ssrc, u64::from(index));
                let associated = rtcp_associated(clear, word).ok_or(SrtpError::Malformed)?;
                key.open_in_place_separate_tag(nonce, Aad::from(associated), tag, body)
                    .map_err(forged)?;
            }
            Self::Counter(cipher) => {
                let (rest, tag) = split_end(datagram, SHA1_TAG_BYTES)?;
                let (sealed, _) = split_end(rest, SRTCP_WORD_BYTES)?;
                verify_slices_are_equal(&cipher.tag(rest, &[]), tag).map_err(forged)?;
                out.extend_from_slice(sealed);
                let body = out
                    .get_mut(RTCP_CLEAR_BYTES..)
                    .ok_or(SrtpError::Malformed)?;
                cipher.apply(ssrc, u64::from(index), body)?;
            }
        }
        Ok(())
    }

    fn tag_bytes(&self) -> usize {
        match self {
            Self::Gcm { .. } => GCM_TAG_BYTES,
            Self::Counter(_) => SHA1_TAG_BYTES,
        }
    }
}

impl CounterCipher {
    /// Encrypts or decrypts: the counter mode's key stream is the same for both.
    fn apply(&self, ssrc: u32, index: u64, bytes: &mut [u8]) -> Result<(), SrtpError> {
        // RFC 3711 §4.1.1: salt × 2^16 ⊕ SSRC × 2^64 ⊕ index × 2^16.
        let salt = widen(&self.salt);
        let place = (u128::from(ssrc) << 64) ^ (u128::from(index) << 16);
        apply_counter(&self.key, salt ^ place, bytes)
    }

    /// The tag over `packet` and `suffix` (RFC 3711 §4.2).
    fn tag(&self, packet: &[u8], suffix: &[u8]) -> [u8; SHA1_TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.authentication);
        context.update(packet);
        context.update(suffix);
        let full = context.sign();
        let mut tag = [0; SHA1_TAG_BYTES];
        for (to, from) in tag.iter_mut().zip(full.as_ref()) {
            *to = *from;
        }
        tag
    }
}

/// The key derivation function (RFC 3711 §4.3; RFC 6188 §3 with a 256-bit key) at a key
/// derivation rate of 0, the only one DTLS-SRTP knows.
struct Derivation {
    key: EncryptingKey,
    salt: u128,
}

impl Derivation {
    fn new(master: &MasterKey) -> Result<Self, SrtpError> {
        // A salt of 96 bits is filled up with zeros at its end (RFC 7714 §11).
        let mut salt = [0; SALT_BYTES];
        for (to, from) in salt.iter_mut().zip(&master.salt) {
            *to = *from;
        }
        Ok(Self {
            key: counter_key(&master.key)?,
            salt: widen(&salt),
        })
    }

    fn fill(&self, label: u8, out: &mut [u8]) -> Result<(), SrtpError> {
        // The label stands before a 48-bit index of 0, above the 16-bit counter.
        let place = u128::from(label) << (48 + 16);
        out.fill(0);
        apply_counter(&self.key, self.salt ^ place, out)
    }
}

/// The salt in a counter block's upper 14 bytes.
fn widen(salt: &[u8; SALT_BYTES]) -> u128 {
    salt.iter()
        .fold(0, |wide, byte| (wide << 8) | u128::from(*byte))
        << 16
}

fn apply_counter(key: &EncryptingKey, block: u128, bytes: &mut [u8]) -> Result<(), SrtpError> {
    let context = EncryptionContext::Iv128(FixedLength::from(&block.to_be_bytes()));
    key.less_safe_encrypt(bytes, context)
        .map(|_| ())
        .map_err(refused)
}

fn counter_key(key: &[u8]) -> Result<EncryptingKey, SrtpError> {
    let algorithm = match key.len() {
        16 => &AES_128,
        32 => &AES_256,
        _ => return Err(SrtpError::BadKey),
    };
    let unbound = UnboundCipherKey::new(algorithm, key).map_err(refused)?;
    EncryptingKey::ctr(unbound).map_err(refused)
}

fn gcm_key(key: &[u8]) -> Result<LessSafeKey, SrtpError> {
    let algorithm = match key.len() {
        16 => &AES_128_GCM,
        32 => &AES_256_GCM,
        _ => return Err(SrtpError::BadKey),
    };
    let unbound = UnboundKey::new(algorithm, key).map_err(refused)?;
    Ok(LessSafeKey::new(unbound))
}

/// The nonce: two zero bytes, SSRC, 48 bits of index, all ⊕ salt (RFC 7714 §8.1, and §9.1
/// where the index of RTCP is 31 bits in the same place).
fn gcm_nonce(salt: &[u8; GCM_SALT_BYTES], ssrc: u32, index: u64) -> Nonce {
    let place = (u128::from(ssrc) << 48) | u128::from(index);
    let mut nonce = *salt;
    for (to, from) in nonce.iter_mut().rev().zip(place.to_le_bytes()) {
        *to ^= from;
    }
    Nonce::assume_unique_for_key(nonce)
}

/// What an SRTCP tag of AES-GCM covers beside the encrypted part (RFC 7714 §9.2).
fn rtcp_associated(
    clear: &[u8],
    word: [u8; SRTCP_WORD_BYTES],
) -> Option<[u8; RTCP_CLEAR_BYTES + SRTCP_WORD_BYTES]> {
    let [a, b, c, d, e, f, g, h] = *clear.first_chunk::<RTCP_CLEAR_BYTES>()?;
    let [w, x, y, z] = word;
    Some([a, b, c, d, e, f, g, h, w, x, y, z])
}

/// The rollover counter of an index.
fn rollover(index: u64) -> u32 {
    u32::try_from((index >> 16) & 0xffff_ffff).unwrap_or(0)
}

fn refused(_: Unspecified) -> SrtpError {
    SrtpError::Library
}

fn forged(_: Unspecified) -> SrtpError {
    SrtpError::NotAuthentic
}

fn split_end(bytes: &[u8], end_bytes: usize) -> Result<(&[u8], &[u8]), SrtpError> {
    bytes
        .len()
        .checked_sub(end_bytes)
        .and_then(|middle| bytes.split_at_checked(middle))
        .ok_or(SrtpError::Malformed)
}

fn be_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let chunk = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*chunk))
}

fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let chunk = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*chunk))
}

/// The SSRC of the sender of an RTCP packet.
fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    be_u32(packet, 4)
}

/// Length of an RTP header with its contributing sources and extension (RFC 3550 §5.1, §5.3.1).
fn rtp_header_bytes(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let sources = usize::from(first & 0x0f).checked_mul(4)?;
    let fixed = RTP_FIXED_BYTES.checked_add(sources)?;
    let extension = if first & 0x10 == 0 {
        0
    } else {
        let words = usize::from(be_u16(packet, fixed.checked_add(2)?)?);
        words.checked_mul(4)?.checked_add(4)?
    };
    let length = fixed.checked_add(extension)?;
    (first >> 6 == 2 && length <= packet.len()).then_some(length)
}

fn header_says(header: &[u8], ssrc: u32, index: u64) -> bool {
    rtp_header_bytes(header) == Some(header.len())
        && be_u32(header, 8) == Some(ssrc)
        && be_u16(header, 2).map(u64::from) == Some(index & 0xffff)
}

/// The index that `sequence` most likely has (RFC 3711 §3.3.1): the nearest to the highest one
/// received. `None` if that would be before the first.
fn estimate_index(highest: Option<u64>, sequence: u16) -> Option<u64> {
    const HALF: u64 = 0x8000;
    const ROUND: u64 = 0x1_0000;
    let sequence = u64::from(sequence);
    let Some(highest) = highest else {
        return Some(sequence);
    };
    let same_round = (highest & !0xffff) | sequence;
    let index = if same_round.saturating_add(HALF) < highest {
        same_round.checked_add(ROUND)?
    } else if same_round > highest.saturating_add(HALF) {
        same_round.checked_sub(ROUND)?
    } else {
        same_round
    };
    (index <= SRTP_INDEX_MAX).then_some(index)
}

/// Which indices of one source were received (RFC 3711 §3.3.2).
#[derive(Debug, Clone, Copy, Default)]
struct ReplayWindow {
    /// One more than the highest index received; 0 before the first.
    next: u64,
    /// Bit n: the index n below the highest was received.
    seen: u128,
}

impl ReplayWindow {
    fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    fn is_new(&self, index: u64) -> bool {
        let Some(age) = self
            .highest()
            .and_then(|highest| highest.checked_sub(index))
        else {
            return true;
        };
        age < REPLAY_WINDOW_PACKETS && (self.seen >> age) & 1 == 0
    }

    fn accept(&mut self, index: u64) {
        let ahead = index.saturating_add(1).saturating_sub(self.next);
        if ahead > 0 {
            let kept = u32::try_from(ahead)
                .ok()
                .and_then(|shift| self.seen.checked_shl(shift));
            self.seen = kept.unwrap_or(0) | 1;
            self.next = index.saturating_add(1);
        } else if let Some(age) = self
            .highest()
            .and_then(|highest| highest.checked_sub(index))
        {
            let bit = u32::try_from(age)
                .ok()
                .and_then(|age| 1_u128.checked_shl(age));
            self.seen |= bit.unwrap_or(0);
        }
    }
}

/// The state of each source of a peer, in the order they were first heard of. A source is only
/// remembered once a packet of it was authentic, and never forgotten: its packets could be
/// replayed then.
#[derive(Default)]
struct Sources<T>(Vec<(u32, T)>);

impl<T: Default> Sources<T> {
    fn find(&self, ssrc: u32) -> Option<&T> {
        let found = self.0.iter().find(|(known, _)| *known == ssrc);
        found.map(|(_, state)| state)
    }

    /// Whether a packet of `ssrc` may be looked at.
    fn check(&self, ssrc: u32, is_new: impl FnOnce(&T) -> bool) -> Result<(), SrtpError> {
        match self.find(ssrc) {
            Some(state) if is_new(state) => Ok(()),
            Some(_) => Err(SrtpError::Replayed),
            None if self.0.len() < SOURCES_MAX => Ok(()),
            None => Err(SrtpError::TooManySources),
        }
    }

    /// The state of `ssrc`, for which [`Sources::check`] said yes.
    fn of(&mut self, ssrc: u32) -> &mut T {
        let at = match self.0.iter().position(|(known, _)| *known == ssrc) {
            Some(at) => at,
            None => {
                self.0.push((ssrc, T::default()));
                self.0.len().saturating_sub(1)
            }
        };
        #[expect(clippy::indexing_slicing, reason = "found or pushed just above")]
        &mut self.0[at].1
    }
}
