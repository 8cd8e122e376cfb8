"""A TCP relay between a publisher and the server that notes when each video message has passed
whole: what the viewers' delay is measured from. Reads RTMP's chunks (§5.3 of the specification),
changes nothing."""

import asyncio
import time

HANDSHAKE_BYTES = 1 + 1536 + 1536
SET_CHUNK_SIZE, VIDEO = 1, 9
EXTENDED_TIMESTAMP = 0xFFFFFF


class ChunkReader:
    """Takes one direction's bytes, gives (message type, payload)."""

    def __init__(self):
        self.buffer = bytearray()
        self.left_of_handshake = HANDSHAKE_BYTES
        self.chunk_size = 128
        self.streams = {}

    def push(self, data):
        skipped = min(self.left_of_handshake, len(data))
        self.left_of_handshake -= skipped
        self.buffer += data[skipped:]
        while (message := self._chunk()) is not None:
            kind, payload = message
            if kind == SET_CHUNK_SIZE:
                self.chunk_size = int.from_bytes(payload[:4])
            if kind:
                yield kind, payload

    def _chunk(self):
        """One chunk: (type, payload) if it ends a message, (0, b"") if not, None if more is needed."""
        b = self.buffer
        if len(b) < 3:
            return None
        at, stream = 1, b[0] & 0x3F
        if stream < 2:
            at, stream = (2, b[1] + 64) if stream == 0 else (3, b[1] + b[2] * 256 + 64)
        header = (11, 7, 3, 0)[b[0] >> 6]
        if len(b) < at + header + 4:
            return None
        state = self.streams.setdefault(stream, {"got": bytearray(), "extended": False})
        if header >= 3:
            state["extended"] = int.from_bytes(b[at : at + 3]) == EXTENDED_TIMESTAMP
        if header >= 7:
            state["length"], state["kind"] = int.from_bytes(b[at + 3 : at + 6]), b[at + 6]
        at += header + (4 if state["extended"] else 0)
        size = min(self.chunk_size, state["length"] - len(state["got"]))
        if len(b) < at + size:
            return None
        state["got"] += b[at : at + size]
        del b[: at + size]
        if len(state["got"]) < state["length"]:
            return 0, b""
        payload, state["got"] = bytes(state["got"]), bytearray()
        return state["kind"], payload


def is_picture(payload):
    """Whether a video message holds a coded picture and not a configuration or an end."""
    if len(payload) < 2:
        return False
    if payload[0] & 0x80:  # Enhanced RTMP: CodedFrames, CodedFramesX
        return payload[0] & 0x0F in (1, 3)
    if payload[0] >> 4 == 5:  # a command
        return False
    return payload[0] & 0x0F != 7 or payload[1] == 1


class Tap:
    """Relays one publisher; use as `async with`. `times` are the pictures', wall clock in ms."""

    def __init__(self, server):
        self.server = server
        self.times = []
        self.tasks = set()

    def publish_url(self, room):
        return f"rtmp://127.0.0.1:{self.port}/live/{room}"

    async def __aenter__(self):
        self.listener = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.listener.close()
        for task in self.tasks:
            task.cancel()

    async def _relay(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.server.rtmp)
        chunks = ChunkReader()

        def note(data):
            for kind, payload in chunks.push(data):
                if kind == VIDEO and is_picture(payload):
                    self.times.append(time.time() * 1000)

        try:
            await asyncio.gather(_copy(reader, up_writer, note), _copy(up_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # one side is gone, or the test is over
        finally:
            writer.close()
            up_writer.close()


async def _copy(reader, writer, note=lambda data: None):
    while data := await reader.read(1 << 16):
        writer.write(data)
        note(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
