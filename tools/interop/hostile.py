"""Hostile bytes on every port, while somebody watches."""

import asyncio
import random
import socket
import struct

import publishers
from checks import page_plays, require

SEED = 20_260_101


def hostile_streams(chance):
    """What the TCP ports get: noise, and beginnings that are nearly right."""
    handshake = b"\x03" + bytes(8) + chance.randbytes(1528) + chance.randbytes(1536)
    yield chance.randbytes(5000)
    yield b"\x03" + chance.randbytes(1535)
    yield handshake + chance.randbytes(20_000)
    # Chunk headers: a message of 16 MiB, a continuation of nothing, chunk size 0 and 2^31.
    yield handshake + b"\x03" + bytes(3) + b"\xff\xff\xff" + b"\x14" + bytes(4) + bytes(5000)
    yield handshake + b"\xc3" + chance.randbytes(300)
    yield handshake + b"\x02" + bytes(3) + b"\x00\x00\x04\x01" + bytes(4) + bytes(4)
    yield handshake + b"\x02" + bytes(3) + b"\x00\x00\x04\x01" + bytes(4) + b"\x80\x00\x00\x00"
    # AMF0: arrays in arrays, a string longer than the message.
    nested = b"\x0a\x00\x00\x00\x01" * 20_000
    yield handshake + b"\x03" + bytes(3) + len(nested).to_bytes(3) + b"\x14" + bytes(4) + nested
    yield handshake + b"\x03" + bytes(3) + b"\x00\x00\x05\x14" + bytes(4) + b"\x02\xff\xffab"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(500)
    yield b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 70_000
    yield b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5_000
    yield b"POST /x/whep HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n"
    yield b"POST /x/whep HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n" + (
        b"Content-Length: 400\r\n\r\n" + chance.randbytes(400)
    )
    yield b"GET /v1/ws?roomID=a HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n" + (
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff" + chance.randbytes(2000)
    )
    yield b"\r\n\r\n\x00\x00 HTTP/9.9\r\n\r\n"
    yield b""


def hostile_datagrams(chance):
    """What the UDP port gets: noise behind each first byte that means something (RFC 7983)."""
    for first in (0x00, 0x01, 0x14, 0x16, 0x17, 0x40, 0x80, 0x90, 0xC8, 0xFF):
        for length in (1, 2, 12, 13, 20, 60, 200, 1200, 1472):
            yield bytes([first]) + chance.randbytes(length - 1)
    # STUN binding requests for nobody, with lengths that lie.
    for length in (0, 4, 8, 0xFFFC):
        head = struct.pack("!HHI", 1, length, 0x2112A442) + chance.randbytes(12)
        yield head + b"\x00\x06\x00\x09zz:absent\x00\x00\x00"
    yield b""


async def send_hostile(server, chance, rounds):
    loop = asyncio.get_running_loop()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    for _ in range(rounds):
        for port in (server.rtmp, server.http, server.metrics):
            for stream in hostile_streams(chance):
                await send_stream(port, stream)
        for datagram in hostile_datagrams(chance):
            await loop.sock_sendto(udp, datagram, ("127.0.0.1", server.udp))
        await asyncio.sleep(0.05)
    udp.close()


async def send_stream(port, stream):
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(stream)
        await asyncio.wait_for(writer.drain(), 1)
    except (ConnectionError, asyncio.TimeoutError):
        pass  # being cut off is the right answer
    finally:
        writer.transport.abort()


async def play(world):
    room = world.room("hostile")
    chance = random.Random(SEED)
    async with publishers.ffmpeg(world.server, room) as publisher:
        await world.live(publisher, room)
        async with await world.page(room) as page:
            await page.wait_state("playing")
            sending = asyncio.create_task(send_hostile(world.server, chance, rounds=12))
            try:
                # One look: by the second one the bytes are all sent.
                figures = await page_plays(page, looks=1)
                await asyncio.wait_for(sending, 30)
            finally:
                sending.cancel()
            world.server.check_alive()
            publisher.check_alive()
            require((await world.server.get_json("v1/health"))["status"] == "ready", "not ready")
            return figures


CASES = {"hostile bytes on every port disturb nobody": play}
