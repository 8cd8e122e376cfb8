"""A viewer made of aiortc: another WebRTC implementation than the browser's, whose frames can be
looked at."""

import asyncio
import json
import time

import aioice.ice
import aiohttp
import yarl
import numpy
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtp import RtcpSrPacket
from aiortc.sdp import candidate_from_sdp

from counter import read_counter
from server import Failure

# aioice leaves the loopback address out; the tests must not depend on another interface.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]

# Sender reports, by receiver: (NTP 32.32, RTP). aiortc keeps only half of each.
_reports = {}
_handle_rtcp = RTCRtpReceiver._handle_rtcp_packet


async def _note_sender_report(self, packet):
    if isinstance(packet, RtcpSrPacket):
        info = packet.sender_info
        _reports[self] = (info.ntp_timestamp, info.rtp_timestamp)
    await _handle_rtcp(self, packet)


RTCRtpReceiver._handle_rtcp_packet = _note_sender_report

VIDEO_RATE = 90_000
AUDIO_RATE = 48_000


class AiortcViewer:
    """Joins a room by WHEP or by WebSocket and keeps what it sees; use as `async with`."""

    def __init__(self, server, room, how):
        self.server = server
        self.room = room
        self.how = how
        self.pc = RTCPeerConnection()
        self.http = None
        self.session = None
        self.socket = None
        self.messages = []
        self.tasks = []
        self.video_times = []  # (arrival, pts) of each frame
        self.flashes = []  # pts of each first bright frame
        self.numbers = None  # for clips that have them: (wall clock in ms, pts, number) of frames
        self.frame = None  # newest picture, RGB
        self.audio = []  # (pts, samples[n, 2])
        self.receivers = {}
        self.began = time.monotonic()
        self.first_frame_ms = None

    async def __aenter__(self):
        try:
            await self._join()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        await self.pc.close()
        if self.http is None:
            return
        if self.session:
            async with self.http.delete(self.session) as response:
                self.deleted = response.status
        if self.socket is not None:
            await self.socket.close()
        await self.http.close()

    async def _join(self):
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        self.pc.on("track", self._track)
        await (self._whep() if self.how == "whep" else self._web_socket())

    async def _whep(self):
        self.pc.addTransceiver("video", direction="recvonly")
        self.pc.addTransceiver("audio", direction="recvonly")
        await self.pc.setLocalDescription(await self.pc.createOffer())
        headers = {"Content-Type": "application/sdp"}
        offer = self.pc.localDescription.sdp
        url = self.server.url(f"{self.room}/whep")
        async with self.http.post(url, data=offer, headers=headers) as response:
            body = await response.text()
            if response.status != 201:
                raise Failure(f"WHEP answered {response.status}: {body[:200]}")
            self.session = str(response.url.join(yarl.URL(response.headers["Location"])))
        await self.pc.setRemoteDescription(RTCSessionDescription(body, "answer"))

    async def _web_socket(self):
        query = f"v1/ws?roomID={self.room}&clientID=aiortc-{id(self)}&clientName=aiortc"
        self.socket = await self.http.ws_connect(self.server.url(query, "ws"))
        offer = await self._next("getOffer")
        await self.pc.setRemoteDescription(RTCSessionDescription(offer["data"], "offer"))
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        await self.say("answer", self.pc.localDescription.sdp)
        self.tasks.append(asyncio.create_task(self._read()))

    async def say(self, kind, data):
        await self.socket.send_str(json.dumps({"type": kind, "data": data}))

    async def _next(self, kind):
        while True:
            message = await self.socket.receive_json(timeout=10)
            self.messages.append(message)
            if message["type"] == kind:
                return message

    async def _read(self):
        async for raw in self.socket:
            message = json.loads(raw.data)
            self.messages.append(message)
            if message["type"] == "getCandidate":
                init = json.loads(message["data"])
                if not init.get("candidate"):
                    continue
                candidate = candidate_from_sdp(init["candidate"].split(":", 1)[1])
                candidate.sdpMid = init.get("sdpMid")
                candidate.sdpMLineIndex = init.get("sdpMLineIndex")
                await self.pc.addIceCandidate(candidate)

    def _track(self, track):
        for transceiver in self.pc.getTransceivers():
            if transceiver.receiver.track is track:
                self.receivers[track.kind] = transceiver.receiver
        take = self._take_video if track.kind == "video" else self._take_audio
        self.tasks.append(asyncio.create_task(take(track)))

    async def _take_video(self, track):
        bright = False
        while True:
            frame = await track.recv()
            now = time.monotonic()
            if self.first_frame_ms is None:
                self.first_frame_ms = round((now - self.began) * 1000)
            self.video_times.append((now, frame.pts))
            # The flash is looked for in the brightness plane: no conversion for each frame.
            plane = frame.planes[0]
            luma = numpy.frombuffer(plane, numpy.uint8).reshape(plane.height, plane.line_size)
            was, bright = bright, int(luma[plane.height * 9 // 10, plane.width // 2]) > 128
            if bright and not was:
                self.flashes.append(frame.pts)
            if self.numbers is not None:
                number = read_counter(luma[:, : plane.width])
                self.numbers.append((time.time() * 1000, frame.pts, number))
            self.frame = frame

    async def _take_audio(self, track):
        while True:
            frame = await track.recv()
            samples = frame.to_ndarray().reshape(-1, 2).astype(numpy.float32) / 32768
            self.audio.append((frame.pts, samples))

    def picture(self):
        """The newest picture, as rows of RGB."""
        return self.frame.to_ndarray(format="rgb24")

    def colour(self, x, y):
        picture = self.picture()
        height, width, _ = picture.shape
        return tuple(int(value) for value in picture[int(y * height), int(x * width)])

    def tones(self, seconds=1.0):
        """The loudest frequency of each channel in the newest sound, in hertz."""
        newest = numpy.concatenate([samples for _, samples in self.audio])
        newest = newest[-int(seconds * AUDIO_RATE) :]
        spectrum = numpy.abs(numpy.fft.rfft(newest * numpy.hanning(len(newest))[:, None], axis=0))
        spectrum[:5] = 0
        return [float(numpy.argmax(spectrum[:, c]) * AUDIO_RATE / len(newest)) for c in (0, 1)]

    def beeps(self):
        """RTP times of the first loud sample of each beep on the right channel."""
        times, quiet_since = [], -1e9
        for pts, samples in self.audio:
            loud = numpy.nonzero(numpy.abs(samples[:, 1]) > 0.15)[0]
            if len(loud) == 0:
                continue
            first = pts + int(loud[0])
            if first - quiet_since > 0.3 * AUDIO_RATE:
                times.append(first)
            quiet_since = pts + int(loud[-1])
        return times

    def skews_ms(self):
        """Beep minus flash by the sender reports, for each flash: what a player that follows
        them exactly would let a person see."""
        video, audio = self.clock("video"), self.clock("audio")
        flashes = [video(pts) for pts in self.flashes]
        beeps = [audio(pts) for pts in self.beeps()]
        return nearest_differences(flashes, beeps)

    def clock(self, kind):
        """Function from a track's own time to the server's wall clock, in milliseconds since 1900,
        by the newest sender report."""
        receiver = self.receivers[kind]
        if receiver not in _reports:
            raise Failure(f"no sender report for {kind}")
        ntp, rtp = _reports[receiver]
        origin = receiver._RTCRtpReceiver__timestamp_mapper._origin
        return _clock(ntp, rtp, origin, VIDEO_RATE if kind == "video" else AUDIO_RATE)


def _clock(ntp, rtp, origin, rate):
    """Function from a track's own time to the sender's clock, in milliseconds."""

    def milliseconds(pts):
        ticks = (pts + origin - rtp + (1 << 31)) % (1 << 32) - (1 << 31)
        return ntp / (1 << 32) * 1000 + ticks * 1000 / rate

    return milliseconds


def nearest_differences(flashes, beeps):
    """Beep minus flash in milliseconds, for each flash that has a beep within half a second."""
    differences = []
    for flash in flashes:
        nearest = min((beep - flash for beep in beeps), key=abs, default=None)
        if nearest is not None and abs(nearest) < 500:
            differences.append(nearest)
    return differences
