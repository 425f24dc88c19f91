"""A stock nats-py client, driven by one JSON command a line on stdin, answering one JSON line each.

Nothing of unibus is in it: what it is allowed and denied is what any NATS client is.
"""
import asyncio
import json
import ssl
import sys
import time

import nats
import nats.errors


class Driver:
    def __init__(self):
        self.nc = None
        self.errors = []
        self.received = []
        self.disconnected_at = None

    async def connect(self, url, ca, seed=None, nkey=None, signer=None, user=None, password=None, inbox=None, timeout=5):
        """Connects once, without reconnecting. `signer` signs with another seed than `nkey` names: a wrong signature."""
        async def on_error(error):
            self.errors.append(str(error))

        async def on_disconnect():
            self.disconnected_at = self.disconnected_at or time.monotonic()

        options = {
            "servers": [url], "allow_reconnect": False, "connect_timeout": timeout, "max_reconnect_attempts": 0,
            "error_cb": on_error, "disconnected_cb": on_disconnect,
            "tls": ssl.create_default_context(cafile=ca) if ca else None,
        }
        if inbox:
            options["inbox_prefix"] = inbox.encode()
        if seed:
            options["nkeys_seed_str"] = seed
        if user:
            options.update(user=user, password=password)
        started = time.monotonic()
        try:
            if nkey:
                self.nc = await forged(options, nkey, signer)
            else:
                self.nc = await asyncio.wait_for(nats.connect(**options), timeout + 5)
            await asyncio.wait_for(self.nc.flush(timeout), timeout + 1)
        except Exception as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}", "ms": ms_since(started), "errors": self.errors}
        return {"ok": True, "ms": ms_since(started), "server": self.nc._server_info.get("server_name")}

    async def subscribe(self, subject, queue=""):
        async def on_message(message):
            self.received.append([message.subject, message.data.decode()])

        await self.nc.subscribe(subject, queue=queue, cb=on_message)
        return await self.settled()

    async def respond(self, subject, data="", queue=""):
        """Answers every request on `subject` with what it said and `data`."""
        async def on_request(message):
            await message.respond(message.data + data.encode())

        await self.nc.subscribe(subject, queue=queue, cb=on_request)
        return await self.settled()

    async def publish(self, subject, data=""):
        await self.nc.publish(subject, data.encode())
        return await self.settled()

    async def request(self, subject, data="", timeout=2):
        try:
            answer = await self.nc.request(subject, data.encode(), timeout=timeout)
            return {"ok": True, "data": answer.data.decode()}
        except Exception as error:
            await self.settled()
            return {"ok": False, "error": f"{type(error).__name__}: {error}", "errors": self.errors}

    async def settled(self):
        """A round trip, so that the server's objections to what came before have arrived."""
        before = len(self.errors)
        await self.nc.flush(5)
        await asyncio.sleep(0.05)
        return {"ok": len(self.errors) == before, "errors": self.errors[before:]}

    async def wait_received(self, count, timeout=5):
        deadline = time.monotonic() + timeout
        while len(self.received) < count and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return {"ok": len(self.received) >= count, "received": self.received}

    async def state(self):
        connected = bool(self.nc and self.nc.is_connected and self.disconnected_at is None)
        if connected:
            # The server says so, too: that it has hung up may not have come to our notice yet.
            try:
                await self.nc.flush(timeout=5)
            except Exception:
                connected = False
        server = self.nc._server_info.get("server_id") if self.nc else None
        return {"ok": True, "connected": connected, "errors": self.errors, "server_id": server}

    async def wait_closed(self, timeout):
        started = time.monotonic()
        while self.disconnected_at is None and ms_since(started) < timeout * 1000:
            await asyncio.sleep(0.01)
        return {"ok": self.disconnected_at is not None, "ms": ms_since(started), "errors": self.errors}

    async def jetstream_info(self):
        try:
            info = await self.nc.jetstream(timeout=2).account_info()
            return {"ok": True, "data": str(info)}
        except Exception as error:
            await self.settled()
            return {"ok": False, "error": f"{type(error).__name__}: {error}", "errors": self.errors}


    async def replicas(self, stream, count):
        """What an intruder with the control key could do: change the copies of a bucket."""
        config = (await self.nc.jetstream(timeout=5).stream_info(stream)).config
        config.num_replicas = count
        await self.nc.jetstream(timeout=10).update_stream(config)
        return {"ok": True}


async def forged(options, nkey, signer):
    """Connects as `nkey` with a signature made by the seed `signer`."""
    import base64
    import nkeys
    pair = nkeys.from_seed(bytearray(signer.encode()))

    def signature(nonce):
        return base64.b64encode(pair.sign(nonce.encode()))

    def claimed():
        raise AssertionError("not a JWT")

    class Forger(nats.NATS):
        def _connect_command(self):
            line = super()._connect_command().decode()
            body = json.loads(line[len("CONNECT "):])
            body["nkey"] = nkey
            body["sig"] = signature(self._server_info["nonce"]).decode()
            body.pop("jwt", None)
            return f"CONNECT {json.dumps(body)}\r\n".encode()

    client = Forger()
    await client.connect(**options)
    return client


def ms_since(started):
    return round((time.monotonic() - started) * 1000)


async def main():
    driver = Driver()
    loop = asyncio.get_running_loop()
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            break
        command = json.loads(line)
        operation = command.pop("op")
        try:
            answer = await getattr(driver, operation)(**command)
        except Exception as error:
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}", "errors": driver.errors}
        print(json.dumps(answer), flush=True)
    if driver.nc:
        await driver.nc.close()


asyncio.run(main())
