// The list of rooms: who is live, and how to publish, with the addresses of this very server.

import { UNREACHABLE, fetchJson } from './answers.js';

/** Milliseconds between two looks. */
const REFRESH_MS = 3000;
/** The ports that RTMP and RTMPS addresses leave out. */
const RTMP_PORT = 1935;
const RTMPS_PORT = 443;
/** Where publishers connect, as the server says; RTMPS only with a certificate. */
let rtmpPort = RTMP_PORT;
let rtmpsPort = null;
/** What the server takes as a room's name. */
const ROOM_NAME = /^[A-Za-z0-9._~-]{1,128}$/;

const base = new URL('/', location.href);
const $ = (id) => document.getElementById(id);

// -- who is live --

async function refresh() {
  if (!document.hidden) {
    try {
      const { rooms, rtmp_port: plain, rtmps_port: secure } = await fetchJson(new URL('v1/rooms', base));
      if (plain !== rtmpPort || secure !== rtmpsPort) {
        rtmpPort = plain;
        rtmpsPort = secure;
        showAddresses();
      }
      showRooms(rooms, 'Nobody is publishing. This list refreshes itself.');
    } catch {
      showRooms([], `${UNREACHABLE} Trying again…`);
    }
  }
  setTimeout(refresh, REFRESH_MS);
}

/** The list's items by the names of their rooms. */
const items = new Map();

/**
 * An item stays where it is while its room is live, and only what is new of it is written: whoever
 * has the focus on it keeps it, and a tap finds at its end what it began on. `noteIfNone`: what to
 * say while no room is live.
 */
function showRooms(rooms, noteIfNone) {
  const live = rooms.filter((room) => room.live);
  write($('rooms-note'), noteIfNone);
  $('rooms-note').hidden = live.length > 0;
  const names = new Set(live.map((room) => room.room));
  for (const [name, item] of items) {
    if (names.has(name)) continue;
    item.remove();
    items.delete(name);
  }
  // They come in the order of their names, so those that were there before need not move.
  let next = $('rooms').firstElementChild;
  for (const room of live) {
    const item = items.get(room.room) ?? roomItem(room.room);
    if (item === next) next = next.nextElementSibling;
    else $('rooms').insertBefore(item, next);
    update(item, room);
  }
}

function roomItem(name) {
  const item = document.createElement('li');
  const link = document.createElement('a');
  link.href = new URL(encodeURIComponent(name), base).href;
  link.textContent = name;
  item.append(link, document.createElement('span'));
  items.set(name, item);
  return item;
}

function update(item, room) {
  const facts = [
    room.width && `${room.width}×${room.height}`,
    room.video,
    room.audio,
    room.viewers === 1 ? '1 viewer' : `${room.viewers ?? 0} viewers`,
  ];
  write(item.querySelector('span'), facts.filter(Boolean).join(' · '));
  const lines = room.advice ?? [];
  const shown = [...item.querySelectorAll('em')];
  for (const surplus of shown.splice(lines.length)) surplus.remove();
  lines.forEach((line, at) => {
    const advice = shown[at] ?? item.appendChild(document.createElement('em'));
    write(advice, line);
  });
}

/** Writes a text where another stands: the same one again would be a change to a screen reader. */
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// -- how to publish --

function showAddresses() {
  const room = $('room').value.trim();
  const legal = ROOM_NAME.test(room);
  $('room-wrong').hidden = legal;
  if (!legal) return;
  const at = (port, usual) => location.hostname + (port === usual ? '' : `:${port}`);
  const server = `rtmp://${at(rtmpPort, RTMP_PORT)}/live`;
  $('server').textContent = server;
  $('secure').hidden = rtmpsPort === null;
  $('server-tls').textContent = `rtmps://${at(rtmpsPort, RTMPS_PORT)}/live`;
  $('key').textContent = room;
  $('watch').textContent = $('watch').href = new URL(room, base).href;
  $('whep').textContent = new URL(`${room}/whep`, base).href;
  $('ffmpeg').textContent = [
    'ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30',
    '-f lavfi -i sine=frequency=440:sample_rate=48000',
    '-c:v libx264 -preset veryfast -tune zerolatency -bf 0 -g 30 -b:v 2500k -pix_fmt yuv420p',
    `-c:a aac -b:a 128k -f flv ${server}/${room}`,
  ].join(' ');
}

/** `navigator.clipboard` is there only over HTTPS and on localhost. */
async function copy(node) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(node.textContent);
    return;
  }
  getSelection().selectAllChildren(node);
  document.execCommand('copy');
}

for (const button of document.querySelectorAll('[data-copy]')) {
  button.addEventListener('click', async () => {
    await copy($(button.dataset.copy));
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
}

$('room').addEventListener('input', showAddresses);
showAddresses();
refresh();
