"""The release binary on loopback with ports of its own, and plain HTTP to it."""

import asyncio
import json
import os
import pathlib
import signal
import socket
import time

import aiohttp

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/release/rtmpeer"
LOGS = ROOT / "target/test-logs/interop"

START_SECONDS = 10
STOP_SECONDS = 15


class Failure(Exception):
    """Something is not as it must be."""


def free_port(kind):
    """A port nobody uses now. Another process could take it before the server does; none does."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until(condition, seconds, what):
    """Waits for `condition()` (a plain or async function) to be true."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        if time.monotonic() > end:
            raise Failure(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.05)


class Server:
    def __init__(self, cores=2, settings=None):
        self.rtmp = free_port(socket.SOCK_STREAM)
        self.http = free_port(socket.SOCK_STREAM)
        self.metrics = free_port(socket.SOCK_STREAM)
        self.udp = free_port(socket.SOCK_DGRAM)
        self.cores = cores
        self.settings = settings or {}
        self.process = None
        self.starts = 0

    def url(self, path, scheme="http"):
        return f"{scheme}://127.0.0.1:{self.http}/{path}"

    def publish_url(self, room):
        return f"rtmp://127.0.0.1:{self.rtmp}/live/{room}"

    async def start(self):
        LOGS.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        environment = {
            **os.environ,
            "RTMPEER_RTMP__LISTEN": f"127.0.0.1:{self.rtmp}",
            "RTMPEER_HTTP__LISTEN": f"127.0.0.1:{self.http}",
            "RTMPEER_WEBRTC__LISTEN": f"127.0.0.1:{self.udp}",
            "RTMPEER_METRICS__LISTEN": f"127.0.0.1:{self.metrics}",
            "RTMPEER_CORES": str(self.cores),
            **self.settings,
        }
        log = open(LOGS / f"server-{self.rtmp}-{self.starts}.log", "wb")
        self.process = await asyncio.create_subprocess_exec(
            str(BINARY), env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()
        await until(self.is_ready, START_SECONDS, "the server is ready")

    async def is_ready(self):
        if self.process.returncode is not None:
            raise Failure(f"the server ended with {self.process.returncode}: see {LOGS}")
        try:
            return (await self.get_json("v1/health")).get("status") == "ready"
        except (aiohttp.ClientError, OSError):
            return False

    def check_alive(self):
        if self.process.returncode is not None:
            raise Failure(f"the server ended with {self.process.returncode}: see {LOGS}")

    async def stop(self):
        """Stops it as a service manager would; it has to end by itself, cleanly."""
        if self.process is None:
            return
        self.check_alive()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except asyncio.TimeoutError:
            await self.kill()
            raise Failure(f"the server did not stop within {STOP_SECONDS} s") from None
        finally:
            self.process = None
        if code != 0:
            raise Failure(f"the server stopped with exit code {code}")

    async def kill(self):
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        self.process = None

    async def get_json(self, path):
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(self.url(path)) as response:
                return json.loads(await response.text())

    async def room(self, name):
        """What the list of rooms says of one, or None."""
        rooms = (await self.get_json("v1/rooms"))["rooms"]
        return next((room for room in rooms if room["room"] == name), None)

    async def is_live(self, name):
        room = await self.room(name)
        return bool(room and room["live"])
