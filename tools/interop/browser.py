"""Chromium, by way of chromium.mjs."""

import asyncio
import itertools
import json
import pathlib

from server import LOGS, Failure

HERE = pathlib.Path(__file__).resolve().parent
ANSWER_SECONDS = 60


class Browser:
    def __init__(self):
        self.process = None
        self.ids = itertools.count(1)
        self.waiting = {}

    async def start(self):
        LOGS.mkdir(parents=True, exist_ok=True)
        with open(LOGS / "chromium.log", "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                "node", "chromium.mjs", cwd=HERE, limit=1 << 24,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.reader = asyncio.create_task(self._read())

    async def stop(self):
        if self.process is None:
            return
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 15)
        except asyncio.TimeoutError:
            self.process.kill()
            await self.process.wait()
        self.reader.cancel()

    async def _read(self):
        while line := await self.process.stdout.readline():
            answer = json.loads(line)
            future = self.waiting.pop(answer["id"], None)
            if future and not future.done():
                future.set_result(answer)
        for future in self.waiting.values():
            if not future.done():
                future.set_result({"error": "the browser driver ended: see chromium.log"})

    async def request(self, method, **params):
        number = next(self.ids)
        future = self.waiting[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "method": method, "params": params}) + "\n"
        self.process.stdin.write(line.encode())
        await self.process.stdin.drain()
        answer = await asyncio.wait_for(future, ANSWER_SECONDS)
        if "error" in answer:
            raise Failure(f"{method}: {answer['error']}")
        return answer["result"]

    async def open(self, url, **options):
        return Page(self, await self.request("open", url=url, **options))


class Page:
    """One tab; use as `async with`."""

    def __init__(self, browser, number):
        self.browser = browser
        self.number = number

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.request("close")

    async def request(self, method, **params):
        return await self.browser.request(method, page=self.number, **params)

    async def probe(self, name, *args):
        return await self.request("call", name=name, args=list(args))

    async def wait_state(self, *states, seconds=15):
        try:
            return await self.request("waitState", states=states, timeoutMs=seconds * 1000)
        except Failure as failure:
            raise Failure(f"page is not {' or '.join(states)}: {await self.seen()}") from failure

    async def wait_text(self, selector, containing=None, seconds=15):
        return await self.request(
            "waitText", selector=selector, containing=containing, timeoutMs=seconds * 1000
        )

    async def seen(self):
        snapshot = await self.probe("snapshot")
        return {key: snapshot.get(key) for key in ("state", "text", "framesDecoded", "advice")}
