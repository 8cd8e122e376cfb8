//! SRTP and SRTCP with the keys of a DTLS handshake: seals what a viewer is sent, opens the
//! RTCP it sends back.
//!
//! RFC 3711 (packet format, key derivation, AES-CM with HMAC-SHA1), RFC 7714 (AES-GCM),
//! RFC 5764 §4.2 (where the keys come from). A key must never seal two packets of one source
//! under one index, so nothing else may send with the keys given to an [`SrtpSender`].

mod cipher;
mod replay;
#[cfg(test)]
mod tests;

use std::fmt;

use self::cipher::{Cipher, RTCP_LABELS, RTP_LABELS};
use self::replay::{Sources, estimate_index};
use super::prefetch::prefetch;

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
/// The word that ends an SRTCP packet: encryption flag and index (RFC 3711 §3.4), in bytes.
const SRTCP_WORD_BYTES: usize = 4;
/// Fixed part of an RTP header, in bytes (RFC 3550 §5.1).
const RTP_FIXED_BYTES: usize = 12;
/// The flag that says the packet is encrypted (RFC 3711 §3.4).
const SRTCP_ENCRYPTED: u32 = 0x8000_0000;
/// Greatest SRTCP index: 31 bits (RFC 3711 §3.4).
const SRTCP_INDEX_MAX: u32 = 0x7fff_ffff;
/// Greatest SRTP index: 48 bits, rollover counter and sequence number (RFC 3711 §3.3.1).
const SRTP_INDEX_MAX: u64 = 0xffff_ffff_ffff;

pub use self::replay::SOURCES_MAX;

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

    /// Asks for the key of RTP to be brought into the cache.
    pub(super) fn prefetch(&self) {
        prefetch(&self.rtp);
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
        self.seal_rtp_parts(header, ssrc, index, [&[], payload, &[]], out)
    }

    /// Appends one packet that ends in padding: as [`SrtpSender::seal_rtp`], with `padding` bytes behind
    /// the payload, of which the last says how many they are (RFC 3550 §5.1); they are encrypted too
    /// (RFC 3711 §3.1). `header` says so ([`HeaderBytes::set_padding`]) if it is more than 0.
    ///
    /// [`HeaderBytes::set_padding`]: super::rtp::HeaderBytes::set_padding
    ///
    /// # Errors
    /// As [`SrtpSender::seal_rtp`].
    pub fn seal_padded_rtp(
        &self,
        header: &[u8],
        ssrc: u32,
        index: u64,
        (payload, padding): (&[u8], u8),
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        let mut bytes = [0; u8::MAX as usize];
        let bytes = bytes.get_mut(..usize::from(padding)).unwrap_or_default();
        if let Some(last) = bytes.last_mut() {
            *last = padding;
        }
        self.seal_rtp_parts(header, ssrc, index, [&[], payload, bytes], out)
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
        self.seal_rtp_parts(header, ssrc, index, [&original, payload, &[]], out)
    }

    fn seal_rtp_parts(
        &self,
        header: &[u8],
        ssrc: u32,
        index: u64,
        parts: [&[u8]; 3],
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        debug_assert!(header_says(header, ssrc, index), "another packet's header");
        if index > SRTP_INDEX_MAX {
            return Err(SrtpError::IndexExhausted);
        }
        let start = out.len();
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        out.reserve(header.len() + bytes + GCM_TAG_BYTES);
        out.extend_from_slice(header);
        for part in parts {
            out.extend_from_slice(part);
        }
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
    sources: Sources,
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
        self.sources.check(ssrc, u64::from(index))?;
        let opened = self.cipher.open_rtcp(datagram, ssrc, index, out);
        if opened.is_err() {
            out.clear();
            return opened;
        }
        self.sources.accept(ssrc, u64::from(index));
        Ok(())
    }
}

impl fmt::Debug for SrtcpReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SrtcpReceiver(***, sources={})", self.sources.len())
    }
}

/// Opens the RTP that the server sent, for players made of this crate: the server itself
/// receives no media.
pub struct SrtpReceiver {
    cipher: Cipher,
    sources: Sources,
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
        let highest = self.sources.highest(ssrc);
        let index = estimate_index(highest, sequence).ok_or(SrtpError::Replayed)?;
        self.sources.check(ssrc, index)?;
        let opened = self
            .cipher
            .open_rtp(datagram, header_bytes, ssrc, index, out);
        if let Err(error) = opened {
            out.clear();
            return Err(error);
        }
        self.sources.accept(ssrc, index);
        Ok(OpenedRtp {
            header_bytes,
            index,
        })
    }
}

impl fmt::Debug for SrtpReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SrtpReceiver(***, sources={})", self.sources.len())
    }
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
