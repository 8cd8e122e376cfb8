// The player: one session over WebSocket or WHEP, and what keeps a room playing over many. It needs
// nothing but a <video> element, so other pages can use it as well.
//   WebSocketClient, WhepClient   one signalling session and its RTCPeerConnection
//   RoomPlayer                    a <video> that starts, waits, recovers and measures

import { UNREACHABLE, fetchJson, refusal, whySocketFailed } from './answers.js';

/** Milliseconds between two looks at the statistics. */
const TICK_MS = 500;
/** A picture (or sound, in a room without video) older than this is no longer "playing". */
const STALL_MS = 1500;
/** ICE "disconnected" for longer than this is a lost connection (it often heals before). */
const DISCONNECTED_MS = 5000;
/** A session that is not connected after this long is given up. */
const CONNECT_MS = 10000;
/** First and longest pause before another attempt. */
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 4000;
/** Pause between two looks at the room's entry, where no message tells of the publisher. */
const ROOM_POLL_MS = 3000;
/** The same while the room plays and nobody reads the advice: it changes seldom. */
const ROOM_POLL_PLAYING_MS = 30000;

/** A media session: the part that is the same for both ways of signalling. */
class Session {
  /**
   * `on` has the functions called with what happens:
   * `track(stream)`, `connected()`, `publishing(isLive)`, `chat(message)`, `complaint(text)`,
   * and once, when nothing more will come, `down({ text, offline, retryAfterMs })`.
   */
  constructor(on) {
    this.on = on;
    this.closed = false;
    /** Whether the server answered: what is amiss after that is the media's way. */
    this.answered = false;
    this.timers = new Set();
    this.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    this.stream = new MediaStream();
    this.pc.addEventListener('track', (event) => this.#addTrack(event));
    this.pc.addEventListener('connectionstatechange', () => this.#connectionChanged());
    this.after(CONNECT_MS, () => {
      if (this.pc.connectionState === 'connected') return;
      this.fail({
        text: this.answered ? 'No media connection. Is the server\'s UDP port reachable?'
          : 'The server does not answer.',
      });
    });
  }

  /** Runs `action` later, unless the session has ended by then. */
  after(milliseconds, action) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      action();
    }, milliseconds);
    this.timers.add(timer);
    return timer;
  }

  /** Ends the session and tells why; only the first call does anything. */
  fail(reason) {
    if (this.closed) return;
    this.close();
    this.on.down(reason);
  }

  /** Ends the session without a word. */
  close() {
    this.closed = true;
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
    this.pc.close();
  }

  #addTrack({ track, receiver, transceiver }) {
    // The picture should be as late as the network makes it, and no later.
    if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0;
    else if ('playoutDelayHint' in receiver) receiver.playoutDelayHint = 0;
    this.stream.addTrack(track);
    const dtls = transceiver.receiver.transport;
    dtls?.addEventListener('statechange', () => {
      // The server says goodbye when it stops: no need to wait until ICE notices.
      if (dtls.state === 'closed') this.fail({ text: 'The server closed the connection.' });
    });
    this.on.track(this.stream);
  }

  #connectionChanged() {
    clearTimeout(this.lossTimer);
    const state = this.pc.connectionState;
    if (state === 'connected') this.on.connected();
    else if (state === 'failed') this.fail({ text: 'The media connection broke.' });
    else if (state === 'disconnected') {
      this.lossTimer = this.after(DISCONNECTED_MS, () => {
        this.fail({ text: 'The media connection broke.' });
      });
    }
  }
}

/** A session by `GET /v1/ws`: the server offers, we answer. */
export class WebSocketClient extends Session {
  /** `url` is the socket's address without its query. */
  constructor({ url, room, clientId, clientName, on }) {
    super(on);
    this.candidates = [];
    const address = new URL(url);
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
    address.searchParams.set('roomID', room);
    address.searchParams.set('clientID', clientId);
    address.searchParams.set('clientName', clientName);
    this.address = address;
  }

  start() {
    this.socket = new WebSocket(this.address);
    this.socket.addEventListener('message', (event) => this.#receive(event.data));
    this.socket.addEventListener('open', () => { this.answered = true; });
    this.socket.addEventListener('close', async (event) => {
      if (this.closed) return;
      if (this.answered) this.fail({ text: event.reason || UNREACHABLE });
      else this.fail(await whySocketFailed(this.address));
    });
    this.pc.addEventListener('icecandidate', ({ candidate }) => {
      if (candidate?.candidate) this.#send('candidate', JSON.stringify(candidate));
    });
  }

  /** Sends one line of chat to everyone in the room. */
  sendChat(text) {
    this.#send('chat', text);
  }

  close() {
    super.close();
    this.socket?.close();
  }

  #send(type, data) {
    if (this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ type, data }));
    }
  }

  #receive(text) {
    if (this.closed) return;
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    switch (message.type) {
      case 'getOffer':
        this.#answer(message.data).catch((error) => this.fail({ text: String(error) }));
        break;
      case 'getCandidate':
        this.#addCandidate(message.data);
        break;
      case 'isPublishing':
        this.on.publishing(message.data === 'true');
        break;
      case 'getChat':
        this.on.chat({
          text: String(message.data),
          from: String(message.fromClientID ?? ''),
          time: new Date(message.timestamp),
        });
        break;
      case 'error':
        this.on.complaint(String(message.data));
        break;
      default: // a newer server may say more
    }
  }

  async #answer(offer) {
    await this.pc.setRemoteDescription({ type: 'offer', sdp: offer });
    for (const candidate of this.candidates.splice(0)) this.#addCandidate(candidate);
    const answer = await this.pc.createAnswer();
    answer.sdp = askForStereo(answer.sdp);
    await this.pc.setLocalDescription(answer);
    this.#send('answer', this.pc.localDescription.sdp);
  }

  #addCandidate(data) {
    if (!this.pc.remoteDescription) {
      this.candidates.push(data);
      return;
    }
    let candidate;
    try {
      candidate = JSON.parse(data);
    } catch {
      candidate = { candidate: data, sdpMid: '0' };
    }
    // One bad address is no reason to give up the others.
    this.pc.addIceCandidate(candidate).catch(() => {});
  }
}

/** A session by WHEP: we offer, the server answers; no trickle, since the server is ICE-lite. */
export class WhepClient extends Session {
  /** `url` is the room's WHEP endpoint. */
  constructor({ url, token, on }) {
    super(on);
    this.url = url;
    this.headers = token ? { Authorization: `Bearer ${token}` } : {};
    this.session = null;
  }

  start() {
    this.#negotiate().catch((error) => {
      const text = error instanceof TypeError ? UNREACHABLE : String(error);
      this.fail({ text });
    });
  }

  close() {
    super.close();
    if (!this.session) return;
    // keepalive: it must get through while the page goes away.
    const options = { method: 'DELETE', headers: this.headers, keepalive: true };
    fetch(this.session, options).catch(() => {});
    this.session = null;
  }

  /** Asks whether the server still knows the session; after its restart it does not. */
  async check() {
    if (!this.session || this.closed) return;
    const response = await fetch(this.session, { headers: this.headers }).catch(() => null);
    if (response?.status !== 404) return;
    this.session = null;
    this.fail({ text: 'The server ended the session.' });
  }

  async #negotiate() {
    this.pc.addTransceiver('video', { direction: 'recvonly' });
    this.pc.addTransceiver('audio', { direction: 'recvonly' });
    const offer = await this.pc.createOffer();
    offer.sdp = askForStereo(offer.sdp);
    await this.pc.setLocalDescription(offer);
    const response = await fetch(this.url, {
      method: 'POST',
      headers: { ...this.headers, 'Content-Type': 'application/sdp' },
      body: this.pc.localDescription.sdp,
    });
    if (response.status !== 201) {
      this.fail(await refusal(response));
      return;
    }
    this.answered = true;
    const location = response.headers.get('Location');
    if (location) this.session = new URL(location, response.url).href;
    if (this.closed) {
      this.close(); // closed while the answer was under way: take the session back
      return;
    }
    await this.pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
  }
}

/** Browsers decode Opus to one channel unless their own description says `stereo=1`. */
function askForStereo(sdp) {
  const opus = /^a=rtpmap:(\d+) opus\/48000\/2\r$/im.exec(sdp)?.[1];
  if (!opus) return sdp;
  return sdp.replace(new RegExp(`^(a=fmtp:${opus} (?!.*stereo=1).*)\\r$`, 'm'), '$1;stereo=1\r');
}

/**
 * Plays a room in a <video>, over as many sessions as it takes.
 *
 * Events: `change` (state or text differ), `advice` (what the publisher should change),
 * `chat` (detail: the message), `stats` (detail: see `stats()`), `sound` (muted or not).
 * States: idle, connecting, offline, waiting-keyframe, playing, reconnecting, error.
 */
export class RoomPlayer extends EventTarget {
  constructor({ video, room, base, whep, token, clientName, muted }) {
    super();
    Object.assign(this, { video, room, base, whep, token, clientName });
    this.state = 'idle';
    this.text = '';
    this.advice = [];
    /** Whether somebody reads the advice: it is asked for more often then. */
    this.followsAdvice = false;
    /** What becomes of video that browsers cannot play, as the room's entry says. */
    this.transcode = null;
    this.live = null;
    this.attempts = 0;
    this.sessions = 0;
    this.latest = null;
    this.previous = null;
    this.wantsSound = !muted;
    this.clientId = randomId();
    video.playsInline = true;
    video.addEventListener('volumechange', () => this.#tell('sound'));
  }

  get pc() {
    return this.client?.pc ?? null;
  }

  get canChat() {
    return !this.whep;
  }

  start() {
    if (this.ticker) return;
    this.ticker = setInterval(() => this.#tick(), TICK_MS);
    this.#connect();
  }

  /** Leaves the room; `start` comes back. */
  stop() {
    clearInterval(this.ticker);
    clearTimeout(this.retry);
    this.ticker = null;
    this.client?.close();
    this.client = null;
    this.#set('idle', '');
  }

  sendChat(text) {
    if (this.canChat) this.client?.sendChat(text);
  }

  /** Turns the sound on or off; on needs a user's touch in most browsers. */
  setSound(on) {
    this.wantsSound = on;
    this.video.muted = !on;
    if (on) this.#play();
  }

  /** The newest figures, or null before the first. */
  stats() {
    return this.latest;
  }

  #connect() {
    this.connected = false;
    this.connectedAt = null;
    this.previous = null;
    this.progress = { frames: 0, framesAt: -Infinity, audio: 0, audioAt: -Infinity };
    this.beganAt = performance.now();
    this.firstFrameMs = null;
    this.sessions += 1;
    if (this.attempts === 0) this.#set('connecting', 'Connecting…');
    const on = {
      track: (stream) => this.#attach(stream),
      connected: () => {
        this.connected = true;
        this.connectedAt = performance.now();
        this.attempts = 0;
        this.complaint = null;
        this.#tick();
      },
      publishing: (live) => this.#publishing(live),
      chat: (message) => this.#tell('chat', message),
      complaint: (text) => {
        // Before the media flows it says why it does not; afterwards it is about the chat.
        if (this.connected) this.#tell('chat', { from: 'server', text, time: new Date() });
        else this.complaint = inWords(text);
        this.roomAt = undefined; // the room's entry may say more
        this.#derive();
      },
      down: (reason) => this.#down(reason),
    };
    const { room, token, clientId, clientName } = this;
    this.client = this.whep
      ? new WhepClient({ url: new URL(`${room}/whep`, this.base).href, token, on })
      : new WebSocketClient({
          url: new URL('v1/ws', this.base).href, room, clientId, clientName, on,
        });
    this.client.start();
  }

  #down({ text, offline, final, retryAfterMs }) {
    this.connected = false;
    this.attempts += 1;
    const longest = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** (this.attempts - 1));
    // Jitter, so that a server's return is not met by all its viewers at once.
    const pause = retryAfterMs ?? longest * (0.5 + Math.random() / 2);
    const reason = this.complaint ?? inWords(text);
    if (final) this.#set('error', reason);
    else if (offline) this.#set('offline', OFFLINE);
    else if (this.complaint) this.#set('error', `${reason} Trying again…`);
    else this.#set('reconnecting', `${reason} Trying again…`);
    if (!final) this.retry = setTimeout(() => this.#connect(), pause);
  }

  #publishing(live) {
    if (live && this.live === false) {
      this.beganAt = performance.now();
      this.firstFrameMs = null;
      this.#watchFrames();
    }
    this.live = live;
    this.roomAt = undefined;
    if (!live) {
      this.transcode = null;
      this.#setAdvice([]);
      this.progress.framesAt = this.progress.audioAt = -Infinity;
    }
    this.#derive();
  }

  #attach(stream) {
    if (this.video.srcObject === stream) return;
    this.video.srcObject = stream;
    this.video.muted = !this.wantsSound;
    this.#play();
    this.#watchFrames();
  }

  #play() {
    this.video.play().catch((error) => {
      // Only a page the user has touched may make a sound: play without it until then.
      if (error.name !== 'NotAllowedError' || this.video.muted) return;
      this.video.muted = true;
      this.#play();
    });
  }

  /** The first picture of a session, to the frame; the statistics come only twice a second. */
  #watchFrames() {
    const session = this.sessions;
    this.video.requestVideoFrameCallback?.(() => {
      if (session !== this.sessions) return;
      this.#framesMoved();
    });
  }

  #framesMoved() {
    this.firstFrameMs ??= Math.round(performance.now() - this.beganAt);
    this.progress.framesAt = performance.now();
    this.#derive();
  }

  async #tick() {
    const client = this.client;
    if (!client || client.closed) return;
    const report = await client.pc.getStats().catch(() => null);
    if (!report || client !== this.client || client.closed) return;
    this.latest = this.#figures(report);
    const { framesDecoded, audioPackets } = this.latest;
    if (audioPackets > this.progress.audio) this.progress.audioAt = performance.now();
    this.progress.audio = audioPackets;
    const moved = framesDecoded > this.progress.frames;
    this.progress.frames = framesDecoded;
    if (moved) this.#framesMoved();
    else this.#derive();
    this.#tell('stats', this.latest);
    await this.#lookAtRoom();
  }

  /** Says what the session is doing, from what arrived lately. */
  #derive() {
    if (!this.client || this.client.closed) return;
    if (!this.connected) {
      if (this.complaint) this.#set('error', this.complaint);
      return;
    }
    const now = performance.now();
    const picture = now - this.progress.framesAt < STALL_MS;
    const sound = this.soundOnly && now - this.progress.audioAt < STALL_MS;
    const told = !this.whep && this.live === false;
    // A hidden page may decode nothing: that is no stall.
    const hidden = document.hidden && this.state === 'playing' && this.live !== false;
    if (!told && (picture || sound || hidden)) {
      this.#set('playing', sound && !picture ? 'Sound only.' : '');
    } else if (this.live === false) {
      this.#set('offline', OFFLINE);
    } else if (this.transcode?.state === 'refused') {
      this.#set('error', inWords(this.transcode.problem));
    } else if (['needed', 'waiting'].includes(this.transcode?.state)) {
      this.#set('waiting-keyframe', 'Connected. Preparing the picture for browsers…');
    } else {
      this.#set('waiting-keyframe', 'Connected. Waiting for the first picture (a keyframe)…');
    }
  }

  // The room's entry tells what no message does: what the publisher should change, whether
  // there is video at all and, to a WHEP viewer, whether anyone publishes.
  async #lookAtRoom() {
    const now = performance.now();
    const playing = this.state === 'playing';
    const rests = playing && this.roomSeen && !this.followsAdvice;
    const pause = rests ? ROOM_POLL_PLAYING_MS : ROOM_POLL_MS;
    const due = this.roomAt === undefined || now - this.roomAt > pause;
    if (!due || !this.connected || document.hidden) return;
    this.roomAt = now + Math.random() * 1000;
    if (!playing) this.client.check?.();
    const url = new URL(`v1/rooms/${this.room}`, this.base);
    const room = await fetchJson(url).catch(() => undefined);
    if (room === undefined) return; // could not ask: nothing is known that was not
    this.roomSeen = playing && Boolean(room?.video || room?.audio);
    this.transcode = room?.transcode ?? null;
    this.#setAdvice(room?.advice ?? []);
    this.soundOnly = Boolean(room?.live && room.audio && !room.video);
    if (this.whep) this.live = Boolean(room?.live);
    this.#derive();
  }

  #setAdvice(lines) {
    if (lines.length === this.advice.length && lines.every((it, at) => it === this.advice[at])) return;
    this.advice = lines;
    this.#tell('advice');
  }

  /** What the overlay shows; see RTCInboundRtpStreamStats for where it comes from. */
  #figures(report) {
    const entries = [...report.values()];
    const inbound = (kind) =>
      entries.find((entry) => entry.type === 'inbound-rtp' && entry.kind === kind) ?? {};
    const codec = (stream) => report.get(stream.codecId)?.mimeType?.split('/')[1] ?? null;
    const video = inbound('video');
    const audio = inbound('audio');
    const transport = entries.find((entry) => entry.type === 'transport');
    const pair = report.get(transport?.selectedCandidatePairId)
      ?? entries.find((entry) => entry.type === 'candidate-pair' && entry.nominated) ?? {};
    const total = (field) => (video[field] ?? 0) + (audio[field] ?? 0);
    const now = {
      at: performance.now(),
      bytes: total('bytesReceived'),
      packets: total('packetsReceived'),
      lost: total('packetsLost'),
      frames: video.framesDecoded ?? 0,
      delay: video.jitterBufferDelay ?? 0,
      emitted: video.jitterBufferEmittedCount ?? 0,
    };
    const before = this.previous ?? { ...now, at: now.at - TICK_MS };
    const seconds = Math.max((now.at - before.at) / 1000, 0.001);
    // One tick is too short for a rate that a person can read: compare with a second ago.
    if (!this.previous || seconds >= 1) this.previous = now;
    const packets = now.packets - before.packets;
    const lost = Math.max(now.lost - before.lost, 0);
    const emitted = now.emitted - before.emitted;
    return {
      width: video.frameWidth ?? 0,
      height: video.frameHeight ?? 0,
      fps: (now.frames - before.frames) / seconds,
      bitsPerSecond: ((now.bytes - before.bytes) * 8) / seconds,
      lossPercent: packets + lost > 0 ? (100 * lost) / (packets + lost) : 0,
      packetsLost: now.lost,
      jitterBufferMs: emitted > 0 ? (1000 * (now.delay - before.delay)) / emitted : null,
      roundTripMs: pair.currentRoundTripTime === undefined
        ? null : pair.currentRoundTripTime * 1000,
      videoCodec: codec(video),
      videoProfile: report.get(video.codecId)?.sdpFmtpLine ?? null,
      audioCodec: codec(audio),
      framesDecoded: now.frames,
      framesDropped: video.framesDropped ?? 0,
      freezes: video.freezeCount ?? 0,
      freezeSeconds: video.totalFreezesDuration ?? 0,
      audioPackets: audio.packetsReceived ?? 0,
      audioConcealedSamples: audio.concealedSamples ?? 0,
      audioEnergy: audio.totalAudioEnergy ?? 0,
      firstFrameMs: this.firstFrameMs,
    };
  }

  #set(state, text) {
    if (this.state === state && this.text === text) return;
    this.state = state;
    this.text = text;
    this.#tell('change');
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

const OFFLINE = 'The publisher is offline. The picture starts by itself when it comes.';

/** A reason of the server's as a sentence of its own. */
function inWords(reason) {
  const text = reason || 'the server cannot convert the picture for browsers';
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.');
}

/** Unguessable enough to tell viewers apart; `crypto.randomUUID` needs HTTPS. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
