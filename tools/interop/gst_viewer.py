#!/usr/bin/python3
"""A viewer made of GStreamer's webrtcbin (libnice, OpenSSL's DTLS, libsrtp): joins by WHEP, decodes
picture and sound for a while, and prints as JSON what it saw and heard.

    gst_viewer.py WHEP-URL SECONDS PEM X,Y [X,Y ...]

PEM is a file with a certificate and its key, of ECDSA P-256 as browsers have it: what webrtcbin makes
by itself is RSA, which the server's DTLS does not ask for. X,Y are places in the picture, as
fractions, whose colours are wanted. Needs the system's Python,
whose GObject bindings no package index has: python3-gi, gir1.2-gst-plugins-bad-1.0,
gstreamer1.0-nice.
"""

import array
import base64
import hashlib
import json
import math
import re
import sys
import threading
import time
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

JOIN_SECONDS = 15
AUDIO_RATE = 48_000
VIDEO_CAPS = (
    "application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload=102,"
    "packetization-mode=(string)1,profile-level-id=(string)42e01f,level-asymmetry-allowed=(string)1"
)
AUDIO_CAPS = (
    "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,encoding-params=(string)2,payload=111"
)
DECODE_VIDEO = (
    "rtph264depay ! h264parse ! avdec_h264 ! videoconvert ! video/x-raw,format=RGB"
    " ! appsink name=sink sync=false emit-signals=true"
)
DECODE_AUDIO = (
    "rtpopusdepay ! opusdec plc=true ! audioconvert"
    f" ! audio/x-raw,format=F32LE,channels=2,rate={AUDIO_RATE},layout=interleaved"
    " ! appsink name=sink sync=false emit-signals=true"
)
# Of GstDtlsSrtpCipher and GstDtlsSrtpAuth (ext/dtls/gstdtlsconnection.h).
CIPHERS = {1: "AES128_CM"}
AUTHENTICATIONS = {1: "SHA1_32", 2: "SHA1_80"}


class Failure(Exception):
    pass


class Viewer:
    def __init__(self, url, pem, places):
        self.url = url
        self.pem = pem
        self.places = places
        self.loop = GLib.MainLoop()
        self.problem = None
        self.session = None
        self.lock = threading.Lock()
        self.frames = []  # (arrival, pts in ns)
        self.colours = None
        self.samples = 0
        self.left = array.array("f")  # the newest second
        self.pipeline = Gst.Pipeline.new()
        self.webrtc = Gst.ElementFactory.make("webrtcbin")
        if self.webrtc is None:
            raise Failure("GStreamer has no webrtcbin")
        self.webrtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.webrtc)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self.on_error)

    def fail(self, problem):
        self.problem = self.problem or problem
        self.loop.quit()

    def on_error(self, _bus, message):
        error, details = message.parse_error()
        self.fail(f"{error.message}: {details}")

    # -- joining --

    def join(self):
        self.webrtc.connect("deep-element-added", self.on_element)
        self.webrtc.connect("pad-added", self.on_pad)
        self.webrtc.connect("notify::ice-gathering-state", self.on_gathering)
        self.pipeline.set_state(Gst.State.READY)
        # All of it stays on loopback, which libnice leaves out by itself. The agent is kept: it would
        # go with the last of its owners, and Python counts as one.
        self.agent = self.webrtc.get_property("ice-agent")
        self.agent.emit("add-local-ip-address", "127.0.0.1")
        for caps in (VIDEO_CAPS, AUDIO_CAPS):
            direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
            transceiver = self.webrtc.emit("add-transceiver", direction, Gst.Caps.from_string(caps))
            transceiver.set_property("do-nack", "H264" in caps)
        self.pipeline.set_state(Gst.State.PLAYING)
        self.promise = Gst.Promise.new_with_change_func(self.on_offer, None)
        self.webrtc.emit("create-offer", None, self.promise)

    def on_element(self, _bin, _parent, element):
        factory = element.get_factory()
        if factory is not None and factory.get_name() == "dtlssrtpdec":
            element.set_property("pem", self.pem)

    def on_offer(self, promise, _data):
        if promise.wait() != Gst.PromiseResult.REPLIED:
            self.fail("no offer was made")
            return
        # The offer is a part of the reply, which must stay.
        reply = promise.get_reply()
        self.webrtc.emit("set-local-description", reply.get_value("offer"), None)

    def on_gathering(self, *_):
        if self.webrtc.get_property("ice-gathering-state") == (
            GstWebRTC.WebRTCICEGatheringState.COMPLETE
        ):
            threading.Thread(target=self.post, daemon=True).start()

    def post(self):
        offer = self.webrtc.get_property("local-description").sdp.as_text()
        # webrtcbin 1.22 takes the key for a part of the certificate when it makes the fingerprint.
        offer = re.sub(r"(?<=a=fingerprint:sha-256 )\S+", fingerprint(self.pem), offer)
        headers = {"Content-Type": "application/sdp"}
        request = urllib.request.Request(self.url, offer.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                answer = response.read().decode()
                self.session = urllib.parse.urljoin(self.url, response.headers["Location"])
        except OSError as why:
            self.fail(f"WHEP: {why}")
            return
        _, sdp = GstSdp.SDPMessage.new_from_text(answer)
        kind = GstWebRTC.WebRTCSDPType.ANSWER
        description = GstWebRTC.WebRTCSessionDescription.new(kind, sdp)
        self.webrtc.emit("set-remote-description", description, None)

    def leave(self):
        if self.session:
            request = urllib.request.Request(self.session, method="DELETE")
            try:
                urllib.request.urlopen(request, timeout=10).close()
            except OSError as why:
                self.problem = self.problem or f"DELETE: {why}"
        self.pipeline.set_state(Gst.State.NULL)

    # -- media --

    def on_pad(self, _webrtc, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        media = pad.get_current_caps().get_structure(0).get_string("media")
        video = media == "video"
        decoder = Gst.parse_bin_from_description(DECODE_VIDEO if video else DECODE_AUDIO, True)
        take = self.take_picture if video else self.take_sound
        decoder.get_by_name("sink").connect("new-sample", take)
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def take_picture(self, sink):
        sample = sink.emit("pull-sample")
        buffer, caps = sample.get_buffer(), sample.get_caps().get_structure(0)
        width, height = caps.get_value("width"), caps.get_value("height")
        stride = (3 * width + 3) // 4 * 4
        ok, mapped = buffer.map(Gst.MapFlags.READ)
        if not ok:
            return Gst.FlowReturn.ERROR
        data = mapped.data
        starts = [int(y * height) * stride + 3 * int(x * width) for x, y in self.places]
        colours = [list(data[start : start + 3]) for start in starts]
        buffer.unmap(mapped)
        with self.lock:
            self.frames.append((time.monotonic(), buffer.pts))
            self.colours = colours
        return Gst.FlowReturn.OK

    def take_sound(self, sink):
        buffer = sink.emit("pull-sample").get_buffer()
        samples = array.array("f", buffer.extract_dup(0, buffer.get_size()))
        with self.lock:
            self.samples += len(samples) // 2
            self.left.extend(samples[::2])
            del self.left[:-AUDIO_RATE]
        return Gst.FlowReturn.OK

    def counts(self):
        with self.lock:
            return len(self.frames), self.samples

    def figures(self, first_frame, first_sample):
        with self.lock:
            frames, left = self.frames[first_frame:], self.left
            steps = [(b[1] - a[1]) / 1e6 for a, b in zip(frames, frames[1:])]
            gaps = [(b[0] - a[0]) * 1000 for a, b in zip(frames, frames[1:])]
            rises = [i for i in range(1, len(left)) if left[i - 1] < 0 <= left[i]]
            waves = len(rises) - 1
            hertz = waves * AUDIO_RATE / (rises[-1] - rises[0]) if waves > 0 else 0
            return {
                "frames": len(frames),
                "step_ms_min": round(min(steps, default=0), 1),
                "step_ms_max": round(max(steps, default=0), 1),
                "gap_ms_max": round(max(gaps, default=0)),
                "colours": self.colours,
                "sound_seconds": (self.samples - first_sample) / AUDIO_RATE,
                "tone_hertz": round(hertz, 1),
                "level": round(math.sqrt(sum(s * s for s in left) / max(len(left), 1)), 3),
                "srtp": self.srtp_profile(),
            }

    def srtp_profile(self):
        """What DTLS chose to protect the media with."""
        iterator = self.webrtc.iterate_recurse()
        while True:
            result, element = iterator.next()
            if result != Gst.IteratorResult.OK:
                return None
            factory = element.get_factory()
            if factory is not None and factory.get_name() == "dtlsdec":
                cipher = CIPHERS.get(element.get_property("srtp-cipher"))
                authentication = AUTHENTICATIONS.get(element.get_property("srtp-auth"))
                return f"{cipher}_{authentication}"


def fingerprint(pem):
    """RFC 8122 §5."""
    body = pem.split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0]
    digest = hashlib.sha256(base64.b64decode(body)).digest()
    return ":".join(f"{byte:02X}" for byte in digest)


def watch(viewer, seconds):
    """Lets it play; its figures are those after the first second."""
    begun = {}
    deadline = time.monotonic() + JOIN_SECONDS

    def look():
        frames, samples = viewer.counts()
        now = time.monotonic()
        if not begun:
            if frames > 30 and samples > AUDIO_RATE:
                begun.update(at=now, frames=frames, samples=samples)
            elif now > deadline:
                viewer.fail(f"{frames} pictures and {samples} samples in {JOIN_SECONDS} s")
        elif now >= begun["at"] + seconds:
            viewer.loop.quit()
        return True

    GLib.timeout_add(50, look)
    viewer.join()
    viewer.loop.run()
    if viewer.problem:
        raise Failure(viewer.problem)
    return viewer.figures(begun["frames"], begun["samples"])


def main():
    url, seconds, pem, *places = sys.argv[1:]
    places = [tuple(float(part) for part in place.split(",")) for place in places]
    Gst.init(None)
    with open(pem) as file:
        viewer = Viewer(url, file.read(), places)
    try:
        figures = watch(viewer, float(seconds))
    finally:
        viewer.leave()
    if viewer.problem:
        raise Failure(viewer.problem)
    print(json.dumps(figures))


if __name__ == "__main__":
    try:
        main()
    except Failure as why:
        sys.exit(f"gst_viewer: {why}")
