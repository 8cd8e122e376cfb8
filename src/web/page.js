// The page of a room: buttons, messages, statistics and chat around a RoomPlayer.
//
// Query: whep (signal by WHEP), muted, autoplay=0, controls=0, stats, token, name.

import { RoomPlayer } from './player.js';

/** Lines of chat kept on the page. */
const CHAT_LINES_MAX = 200;

const query = new URLSearchParams(location.search);
const flag = (name, otherwise) =>
  query.has(name) ? !['0', 'false', 'no', 'off'].includes(query.get(name)) : otherwise;
const $ = (id) => document.getElementById(id);

const room = decodeURIComponent(location.pathname.split('/').filter(Boolean).pop());
const player = new RoomPlayer({
  video: $('video'),
  room,
  base: new URL('/', location.href),
  whep: flag('whep', false),
  token: query.get('token'),
  clientName: query.get('name') ?? `guest-${100 + Math.floor(Math.random() * 900)}`,
  muted: flag('muted', false),
});

document.title = `${room} · rtmpeer`;
$('room-name').textContent = room;
$('bar').hidden = !flag('controls', true);
$('chat-toggle').hidden = !player.canChat;

// -- what the player is doing --

function showState() {
  document.body.dataset.state = player.state;
  const text = player.state === 'idle' ? '' : player.text;
  $('message-text').textContent = text;
  $('message').hidden = text === '';
  $('spinner').hidden = ['error', 'playing'].includes(player.state);
  $('live').hidden = player.state !== 'playing';
  showAdvice();
  showSound();
  wake();
}

function showSound() {
  const { muted } = $('video');
  $('sound').classList.toggle('muted', muted);
  $('big-sound').hidden = !asksForSound();
}

/** Whether the browser keeps the sound off until it is touched. */
function asksForSound() {
  return $('video').muted && player.state === 'playing' && !quiet;
}

/** The user turned the sound off here: do not ask again. */
let quiet = false;

function setSound(on) {
  quiet = !on;
  player.setSound(on);
  showSound();
}

player.addEventListener('change', showState);
player.addEventListener('sound', showSound);
player.addEventListener('advice', showAdvice);
$('big-sound').addEventListener('click', () => setSound(true));
$('sound').addEventListener('click', () => setSound($('video').muted));
// The whole picture is the button while the sound is asked for.
$('video').addEventListener('click', () => {
  if (asksForSound()) setSound(true);
  else resume();
});
// Leaving its full screen, an iPhone pauses the video; so does a call, or whoever finds its controls.
$('video').addEventListener('webkitendfullscreen', resume);
document.addEventListener('visibilitychange', resume);

/** A live picture does not stand still. */
function resume() {
  const { paused, srcObject } = $('video');
  if (paused && srcObject && !document.hidden) $('video').play().catch(() => {});
}

// -- what the publisher could do better: behind a button, for those who want to know --

function showAdvice() {
  const lines = player.advice;
  $('advice-toggle').hidden = lines.length === 0;
  $('advice-count').textContent = String(lines.length);
  $('advice-toggle').setAttribute('aria-label', `Advice for the publisher: ${lines.length}`);
  $('advice-lines').replaceChildren(...lines.map((line) => element('li', line)));
  if (lines.length === 0) toggleAdvice(false);
}

function toggleAdvice(shown) {
  $('advice').hidden = !shown;
  $('advice-toggle').setAttribute('aria-expanded', String(shown));
  player.followsAdvice = shown;
}

$('advice-toggle').addEventListener('click', () => toggleAdvice($('advice').hidden));

// -- nothing over a playing picture for those who only watch --

/** Milliseconds without a movement after which the bar goes. */
const REST_MS = 4000;
/** The same while the sound is asked for. */
const REST_ASKING_MS = 10000;
let restTimer;

function wake() {
  clearTimeout(restTimer);
  document.body.classList.remove('resting');
  if (player.state !== 'playing') return;
  restTimer = setTimeout(() => {
    if ($('advice').hidden) document.body.classList.add('resting');
    else wake();
  }, asksForSound() ? REST_ASKING_MS : REST_MS);
}

// A button that was clicked does not keep the bar; one that was reached by keys does.
$('bar').addEventListener('click', (event) => {
  if (event.detail > 0) event.target.closest('button')?.blur();
});

for (const kind of ['pointermove', 'pointerdown', 'keydown', 'focusin']) {
  addEventListener(kind, wake);
}

// -- statistics --

const ROWS = [
  ['State', () => player.state],
  ['Signalling', () => (player.whep ? 'WHEP' : 'WebSocket')],
  ['Picture', (s) => `${s.width}×${s.height} at ${s.fps.toFixed(1)} fps`],
  ['Bitrate', (s) => `${(s.bitsPerSecond / 1e6).toFixed(2)} Mbit/s`],
  ['Codecs', (s) => [s.videoCodec, s.audioCodec].filter(Boolean).join(', ') || '–'],
  ['Loss', (s) => `${s.lossPercent.toFixed(2)} % (${s.packetsLost} packets)`],
  ['Jitter buffer', (s) => milliseconds(s.jitterBufferMs)],
  ['Round trip', (s) => milliseconds(s.roundTripMs)],
  ['Frames', (s) => `${s.framesDecoded} decoded, ${s.framesDropped} dropped`],
  ['Freezes', (s) => `${s.freezes} (${s.freezeSeconds.toFixed(1)} s)`],
  ['First picture', (s) => milliseconds(s.firstFrameMs)],
];

function milliseconds(value) {
  return value === null ? '–' : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

function showStats() {
  const figures = player.stats();
  if ($('stats').hidden || !figures) return;
  $('stats').replaceChildren(
    ...ROWS.flatMap(([name, value]) => [element('dt', name), element('dd', value(figures))]),
  );
}

function toggleStats(shown) {
  $('stats').hidden = !shown;
  showStats();
}

player.addEventListener('stats', showStats);
$('stats-toggle').addEventListener('click', () => toggleStats($('stats').hidden));

// -- chat --

let unread = 0;

function toggleChat(shown) {
  $('chat').hidden = !shown;
  unread = 0;
  $('unread').hidden = true;
  if (shown) $('chat-input').focus();
}

player.addEventListener('chat', ({ detail: { text, from, time } }) => {
  const line = element('li', '');
  line.append(element('b', from), ` ${text}`);
  if (!Number.isNaN(time.getTime())) line.title = time.toLocaleTimeString();
  $('chat-lines').append(line);
  while ($('chat-lines').childElementCount > CHAT_LINES_MAX) $('chat-lines').firstChild.remove();
  line.scrollIntoView({ block: 'nearest' });
  if (!$('chat').hidden) return;
  unread += 1;
  $('unread').textContent = unread > 99 ? '99+' : String(unread);
  $('unread').hidden = false;
});

$('chat-toggle').addEventListener('click', () => toggleChat($('chat').hidden));
$('chat-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = $('chat-input').value.trim();
  if (text) player.sendChat(text);
  $('chat-input').value = '';
});

// -- keys, full screen, life of the page --

function toggleFullscreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if ($('stage').requestFullscreen) $('stage').requestFullscreen();
  else $('video').webkitEnterFullscreen?.(); // iPhone: only the video itself
}

$('fullscreen').addEventListener('click', toggleFullscreen);
$('video').addEventListener('dblclick', toggleFullscreen);

document.addEventListener('keydown', (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'i') toggleStats($('stats').hidden);
  if (event.key === 'm') setSound($('video').muted);
  if (event.key === 'f') toggleFullscreen();
  if (event.key === 'c' && player.canChat) toggleChat($('chat').hidden);
  if (event.key === 'a' && player.advice.length > 0) toggleAdvice($('advice').hidden);
  if (event.key === 'Escape') toggleAdvice(false);
});

addEventListener('pagehide', () => player.stop());
addEventListener('pageshow', (event) => {
  if (event.persisted) player.start(); // back from the browser's page cache
});

function element(name, text) {
  const node = document.createElement(name);
  node.textContent = text;
  return node;
}

toggleStats(flag('stats', false));
if (flag('autoplay', true)) {
  player.start();
} else {
  $('message').hidden = true;
  $('big-play').hidden = false;
  $('big-play').addEventListener('click', () => {
    $('big-play').hidden = true;
    player.start();
  });
}

/** For tests and for whoever opens the console. */
window.rtmpeer = {
  player,
  get pc() {
    return player.pc;
  },
  get state() {
    return player.state;
  },
  stats: () => player.stats(),
};
