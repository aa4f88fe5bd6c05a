"""A client in Python, written from docs/protocol.md and docs/asyncapi.yaml alone."""

import asyncio
import base64
import hashlib
import hmac
import json
import math
import os
import ssl
import time
import urllib.request
from pathlib import Path

import fastjsonschema
import msgpack
import yaml
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "docs/asyncapi.yaml").read_text())
LIMIT_S = 15


def now_ms():
    return int(time.time() * 1000)


def token(user, life_s=3600, **claims):
    """A token as the deployment's identity provider would sign it, with HS256."""

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    now = int(time.time())
    claims = {"sub": user, "aud": "nearcast", "iat": min(now, now + life_s - 60), "exp": now + life_s, **claims}
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    secret = os.environ["NEARCAST_AUTH__HS256_SECRET"].encode()
    return (signed + b"." + part(hmac.digest(secret, signed, hashlib.sha256))).decode()


async def rest(method, path, user_token, body=None):
    request = urllib.request.Request(
        os.environ["NEARCAST_API"] + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {user_token}", "Content-Type": "application/json"},
    )
    with await asyncio.to_thread(urllib.request.urlopen, request, timeout=LIMIT_S) as answer:
        return answer.status


def text_hash(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD % 2**64
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 % 2**64
    return h ^ h >> 33


def digest(texts):
    return f"{sum(map(text_hash, texts)) % 2**64:016x}"


def distance_m(one, other):
    """The straight line between two points (latitude, longitude) on the WGS84 ellipsoid."""

    def point(lat, lon):
        e2 = (2 - 1 / 298.257223563) / 298.257223563
        lat, lon = math.radians(lat), math.radians(lon)
        n = 6378137 / math.sqrt(1 - e2 * math.sin(lat) ** 2)
        return (n * math.cos(lat) * math.cos(lon), n * math.cos(lat) * math.sin(lon), n * (1 - e2) * math.sin(lat))

    return math.dist(point(*one), point(*other))


def of_document(name):
    """The check of one message by the AsyncAPI document, and the fields that it names."""

    def fields(schema):
        while "$ref" in schema:
            target = DOCUMENT
            for key in schema["$ref"].removeprefix("#/").split("/"):
                target = target[key]
            schema = target
        return set(schema.get("properties", ())).union(*map(fields, schema.get("allOf", ())))

    reference = f"#/components/messages/{name}/payload"
    root = {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": reference}
    check = fastjsonschema.compile({**root, "components": DOCUMENT["components"]}, use_default=False)
    return check, fields({"$ref": reference})


MESSAGES = {name: of_document(name) for name in DOCUMENT["components"]["messages"]}
SENT = {one["$ref"].rsplit("/", 1)[1] for one in DOCUMENT["operations"]["toServer"]["messages"]}


def conforms(message, sent):
    """Whether a message is as the document says; what the server sends has no field that is not in it, either."""
    check, fields = MESSAGES[message["type"]]
    assert (message["type"] in SENT) == sent, f"the document has {message['type']} in the other direction"
    check(message)
    assert fields >= message.keys(), f"the document lacks {message.keys() - fields} of {message['type']}"


class Client:
    """One connection. It keeps the list as the page says, and checks everything that comes."""

    def __init__(self, socket, packed):
        self.socket = socket
        self.packed = packed
        self.device = "d"
        self.n = 0
        self.friends = {}
        self.seen = []

    @classmethod
    async def open(cls, user_token, packed=False, header=True, tls=False):
        protocol = "nearcast.v1.msgpack" if packed else "nearcast.v1"
        socket = await connect(
            os.environ["NEARCAST_WSS" if tls else "NEARCAST_WS"],
            ssl=ssl.create_default_context(cafile=os.environ["NEARCAST_AUTHORITY"]) if tls else None,
            additional_headers={"Authorization": f"Bearer {user_token}"} if header else {},
            subprotocols=[protocol] if header else [protocol, f"bearer.{user_token}"],
            proxy=None,
            open_timeout=LIMIT_S,
            max_size=None,
        )
        assert socket.subprotocol == protocol, f"asked for {protocol}, was given {socket.subprotocol}"
        assert not socket.protocol.extensions, f"no extension exists, but {socket.protocol.extensions} was agreed"
        return cls(socket, packed)

    def encoded(self, message):
        return msgpack.packb(message) if self.packed else json.dumps(message)

    async def send_raw(self, message):
        await self.socket.send(self.encoded(message))

    async def send(self, type, **fields):
        message = {"type": type, **fields}
        conforms(message, sent=True)
        await self.send_raw(message)

    def fix(self, at, **fields):
        self.n += 1
        return {"n": self.n, "lat": at[0], "lon": at[1], "time": now_ms(), **fields}

    async def hello(self, at=None, **fields):
        """Says hello, and waits for the welcome and for the whole list."""
        if at is not None:
            fields["position"] = self.fix(at)
        await self.send("hello", device=self.device, clock=now_ms(), **fields)
        welcome = await self.expect("welcome")
        first = await self.expect("nearby or unchanged", lambda m: m["type"] in ("nearby", "unchanged"))
        mark = first.get("reset", first)
        assert mark.get("provisional"), f"expected a provisional list after welcome, came {first}"
        await self.expect("the whole list", whole)
        return welcome

    async def report(self, at, **fields):
        """Reports with `ack` and returns what became of it."""
        fix = self.fix(at, **fields)
        await self.send("location", clock=now_ms(), ack=True, **fix)
        ack = await self.expect("ack", n=fix["n"], device=self.device)
        return ack["result"]

    async def receive(self):
        frame = await self.socket.recv()
        assert isinstance(frame, bytes) == self.packed, f"a frame of the other kind: {type(frame)}"
        message = msgpack.unpackb(frame) if self.packed else json.loads(frame)
        self.seen.append(message)
        conforms(message, sent=False)
        self.apply(message)
        return message

    def apply(self, message):
        if message["type"] == "nearby":
            if message.get("reset", {}).get("part") == 1:
                self.friends.clear()
            for removal in message.get("removals", ()):
                self.friends.pop(removal["id"], None)
            for friend in message.get("upserts", ()):
                self.friends[friend["id"]] = friend
        elif message["type"] == "digest":
            mine = {"type": "digest", "count": len(self.friends), "digest": digest(self.friends)}
            assert message == mine, f"expected {mine}, came {message}"
        elif message["type"] == "unchanged":
            mine = self.resume()
            theirs = {key: message[key] for key in mine}
            assert theirs == mine, f"expected {mine}, came {theirs}"

    def resume(self):
        held = self.friends.values()
        texts = (("~" if f.get("approximate") else "") + f"{f['at']} {f['id']} {f['display_name']}" for f in held)
        return {"count": len(held), "digest": digest(texts)}

    async def expect(self, what, test=None, **fields):
        """The next message that passes the test, or without one is of the type `what`, and has these fields. What comes
        before it is taken as it comes."""
        start = len(self.seen)
        try:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    message = await self.receive()
                    if not (test(message) if test else message["type"] == what):
                        continue
                    if all(message.get(key) == value for key, value in fields.items()):
                        return message
        except (TimeoutError, ConnectionClosed) as error:
            came = self.seen[start:] or "nothing"
            raise AssertionError(f"expected {what} {fields or ''}, came {came} and {error!r}") from None

    async def upsert(self, user, at):
        """Waits until the friend is shown at that point, and returns the entry."""

        def shown(message):
            if message["type"] != "nearby":
                return False
            return any(u["id"] == user and (u["lat"], u["lon"]) == at for u in message.get("upserts", ()))

        await self.expect(f"an upsert of {user} at {at}", shown)
        return self.friends[user]

    async def removal(self, user, reason):
        wanted = {"id": user, "reason": reason}
        await self.expect(f"the removal {wanted}", lambda m: m["type"] == "nearby" and wanted in m.get("removals", ()))
        assert user not in self.friends

    async def bye(self, code, close_code, **fields):
        """The server's end: `bye`, then a close frame, which the library answers."""
        bye = await self.expect("bye", code=code, **fields)
        await self.closed(close_code)
        return bye

    async def closed(self, code):
        try:
            async with asyncio.timeout(LIMIT_S):
                message = await self.socket.recv()
            raise AssertionError(f"expected the end with {code}, came {message}")
        except ConnectionClosed as end:
            came = end.rcvd and end.rcvd.code
            assert came == code, f"expected the close code {code}, came {came}"

    async def close(self):
        """The client's end: the server answers the close frame with the same code."""
        await self.socket.close(1000)
        assert self.socket.close_code == 1000, f"expected the close code 1000, came {self.socket.close_code}"


def whole(message):
    """Whether the message ends a full answer that is not provisional."""
    if message["type"] == "nearby" and "reset" in message:
        reset = message["reset"]
        return reset["part"] == reset["parts"] and not reset.get("provisional")
    return message["type"] == "unchanged" and not message.get("provisional")
