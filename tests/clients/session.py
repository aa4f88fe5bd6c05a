"""Sessions with Python's websockets: JSON on a plain gateway, MessagePack on one with TLS."""

import asyncio
import contextlib
import os
import signal
import sys
import time
import traceback

from client import LIMIT_S, Client, distance_m, now_ms, rest, token
from websockets.exceptions import InvalidStatus

ALICE_AT, NEAR, NEARER, FAR = (52.5163, 13.3777), (52.52, 13.405), (52.518, 13.39), (52.62, 13.405)
passed = failed = 0


@contextlib.contextmanager
def step(name):
    """One group of checks: prints its line. What fails ends its session."""
    global passed, failed
    try:
        yield
    except Exception as error:
        failed += 1
        what = str(error) if isinstance(error, AssertionError) else "".join(traceback.format_exception(error))
        print(f"FAILED  python: {name}: {what}", flush=True)
        raise SystemExit from None
    passed += 1
    print(f"ok      python: {name}", flush=True)


async def refused(code, status, packed, **how):
    try:
        await (await Client.open(packed=packed, **how)).close()
    except InvalidStatus as error:
        response = error.response
        body = response.body.decode()
        assert response.status_code == status, f"{code}: expected {status}, came {response.status_code} {body}"
        assert f'"{code}"' in body, f"expected {code}, came {body}"
        return
    raise AssertionError(f"expected a refusal with {code}, but the connection was taken")


async def refusals(packed, tls):
    how = {"packed": packed, "tls": tls}
    good = token("somebody")
    head, body, _ = good.split(".")
    others_signature = token("somebody else").split(".")[2]
    await refused("token_malformed", 401, user_token="no.jwt", **how)
    await refused("token_signature", 401, user_token=f"{head}.{body}.{others_signature}", **how)
    await refused("token_expired", 401, user_token=token("somebody", life_s=-60), **how)
    await refused("token_expired", 401, user_token=token("somebody", life_s=-60), header=False, **how)
    await refused("token_audience", 401, user_token=token("somebody", aud="others"), **how)
    await refused("token_lifetime", 401, user_token=token("somebody", life_s=10**7), **how)
    address = "NEARCAST_WSS" if tls else "NEARCAST_WS"
    before = os.environ[address]
    os.environ[address] = f"{before}?token={good}"
    try:
        await refused("token_in_url", 400, user_token=good, **how)
    finally:
        os.environ[address] = before


async def befriend(alice, bob):
    for user, name in ((alice, "Alice"), (bob, "Bob Ä.")):
        await rest("PUT", "/v1/me", token(user), {"display_name": name})
    await rest("POST", f"/v1/friends/{bob}/request", token(alice))
    await rest("POST", f"/v1/friends/{alice}/accept", token(bob))


async def mistakes(client):
    """Each is answered by its own error, and the connection stays."""

    async def wrong(message, code, **fields):
        await client.send_raw(message)
        error = await client.expect("error", code=code, **fields)
        assert error["retry"] == "never", error
        missing = {"n", "of", "re"} - fields.keys()
        assert not missing & error.keys(), f"nothing of {missing} was to be told: {error}"

    fix = {"lat": 52.5, "lon": 13.4, "time": now_ms()}
    await wrong({"type": "location", "n": 900, **fix, "lat": 91.0, "id": "m1"},
                "position_out_of_range", of="location", n=900, re="m1")
    await wrong({"type": "location", "n": 901, **fix, "speed_mps": -1.0}, "measure_out_of_range", of="location", n=901)
    await wrong({"type": "location", "n": 902, **fix, "time": now_ms() + 3_600_000},
                "time_out_of_range", of="location", n=902)
    await wrong({"type": "location", "n": 903, **fix, "id": ""}, "id_invalid", of="location", n=903)
    await wrong({"type": "location", "n": -1, **fix}, "number_not_growing", of="location", n=-1)
    await wrong({"type": "location", "n": 904}, "malformed", of="location", n=904)
    fixes = [{"n": 1000 + i, **fix} for i in range(501)]
    await wrong({"type": "locations", "fixes": fixes, "id": "m2"}, "too_many_fixes", of="locations", re="m2")
    await wrong({"type": "hello", "device": "d"}, "hello_repeated", of="hello")
    await wrong({"type": "dance", "id": "m3"}, "unknown_type", re="m3")
    await wrong({"no": "type"}, "malformed")
    await wrong([1, 2], "malformed")
    await wrong({"type": "subscribe", "friend": "nobody at all"}, "id_invalid", of="subscribe")
    await wrong({"type": "subscribe", "friend": "nobody", "id": "m4"}, "not_a_friend", of="subscribe", re="m4")
    await client.socket.send("{}" if client.packed else b"{}")
    await client.expect("error", code="not_binary" if client.packed else "not_text")


async def session(packed):
    name = "MessagePack over TLS" if packed else "JSON"
    alice_id, bob_id = f"py-alice-{packed:d}", f"py-bob-{packed:d}"
    how = {"packed": packed, "tls": packed}
    alice_token = token(alice_id)

    with step(f"{name}: upgrades are refused with status and code"):
        await refusals(packed, tls=packed)
    with step(f"{name}: the subprotocol is chosen, compression is declined"):
        await befriend(alice_id, bob_id)
        alice = await Client.open(alice_token, header=not packed, **how)
    with step(f"{name}: before hello an unknown type, auth and a wrong hello are answered"):
        await alice.send("auth", token=token(alice_id), id="t0")
        await alice.expect("authed", re="t0")
        await alice.send_raw({"type": "dance"})
        await alice.expect("error", code="unknown_type")
        await alice.send_raw({"type": "hello", "device": "", "id": "h0"})
        await alice.expect("error", code="id_invalid", of="hello", re="h0")
    with step(f"{name}: hello, welcome, a first answer, then the list"):
        welcome = await alice.hello(ALICE_AT)
        accepted = {"device": alice.device, "n": 1, "result": "published"}
        assert welcome["accepted"] == accepted, f"expected {accepted}, came {welcome}"
        told = (welcome["protocol"], welcome["user"], welcome["role"])
        assert told == (1, alice_id, "reporting"), f"came {welcome}"
        assert alice.friends == {}, f"expected nobody, came {alice.friends}"

    with step(f"{name}: a friend comes into range"):
        bob = await Client.open(token(bob_id), packed=packed)
        await bob.hello(NEAR)
        assert list(bob.friends) == [alice_id], f"expected {alice_id}, came {bob.friends}"
        friend = await alice.upsert(bob_id, NEAR)
        expected = distance_m(ALICE_AT, NEAR)
        assert friend["display_name"] == "Bob Ä.", friend
        assert abs(friend["distance_m"] - expected) < 1, f"expected {expected} m, came {friend}"
        assert abs(friend["at"] - now_ms()) < 60_000, friend
    with step(f"{name}: reports are published and thinned, and move the friend"):
        result = await bob.report(NEARER, accuracy_m=5.5, speed_mps=1.4, heading_deg=87.0, altitude_m=74.0)
        assert result == "published", result
        friend = await alice.upsert(bob_id, NEARER)
        measures = [round(friend.get(key, -1), 3) for key in ("accuracy_m", "speed_mps", "heading_deg")]
        assert measures == [5.5, 1.4, 87.0], f"expected 5.5, 1.4, 87.0, came {friend}"
        result = await bob.report(NEARER)
        assert result == "thinned", result
    with step(f"{name}: a friend leaves and comes back"):
        assert await bob.report(FAR) == "published"
        await alice.removal(bob_id, "out_of_range")
        assert await bob.report(NEAR) == "published"
        await alice.upsert(bob_id, NEAR)

    with step(f"{name}: the digest that follows is that of the list"):
        await alice.expect("digest", count=1)
    with step(f"{name}: late fixes are stored, and those refused are named"):
        fixes = [alice.fix(ALICE_AT), alice.fix(ALICE_AT), alice.fix(ALICE_AT)]
        fixes[0]["time"] -= 3_600_000
        fixes[1]["time"] -= 31 * 86_400_000
        fixes[2]["time"] -= 1_800_000
        await alice.send("locations", clock=now_ms(), ack=True, fixes=fixes, id="late")
        await alice.expect("ack", re="late", device="d", n=fixes[2]["n"], result="stored", count=2,
                           refused=[{"n": fixes[1]["n"], "code": "time_out_of_range"}])
    with step(f"{name}: one friend is asked for, muted, and comes back"):
        await alice.send("subscribe", friend=bob_id, id="q1")
        answer = await alice.expect("friend", re="q1", id=bob_id)
        assert (answer["position"]["lat"], answer["position"]["lon"]) == NEAR, answer
        await alice.send("unsubscribe", friend=bob_id)
        await alice.removal(bob_id, "muted")
        await alice.send("subscribe", friend=bob_id)
        await alice.upsert(bob_id, NEAR)
    with step(f"{name}: sync gets the whole list"):
        await alice.send("sync")
        await alice.expect("a reset", lambda m: "reset" in m)
        assert list(alice.friends) == [bob_id], alice.friends
    with step(f"{name}: mistakes are answered by their codes"):
        await mistakes(alice)
    with step(f"{name}: pings, pieces of a message between them, and unknown fields are taken"):
        latency = await asyncio.wait_for(await alice.socket.ping(b"in time"), LIMIT_S)
        assert latency < LIMIT_S
        text = alice.encoded({"type": "subscribe", "friend": bob_id, "id": "pieces", "unheard": {"of": [1]}})

        async def pieces():
            for start in range(0, len(text), 7):
                yield text[start : start + 7]
                await alice.socket.ping()

        await alice.socket.send(pieces())
        await alice.expect("friend", re="pieces")
    with step(f"{name}: a new token is taken, that of another user is not"):
        fresh = token(alice_id, life_s=7200)
        await alice.send("auth", token=fresh, id="t1")
        authed = await alice.expect("authed", re="t1")
        assert abs(authed["expires_at"] - now_ms() - 7_200_000) < 60_000, authed
        await alice.send("auth", token=token(bob_id), id="t2")
        await alice.expect("error", code="token_user", of="auth", re="t2", retry="never")

    with step(f"{name}: a session that watches holds the same list and may not report"):
        map_ = await Client.open(alice_token, header=False, **how)
        map_.device = "map"
        welcome = await map_.hello(watch=True)
        assert welcome["role"] == "watching", welcome
        assert map_.resume() == alice.resume(), f"{map_.friends} and {alice.friends}"
        await map_.send("location", **map_.fix(ALICE_AT))
        await map_.expect("error", code="not_reporting", of="location", n=1)
    with step(f"{name}: the close handshake, and the list is unchanged after it"):
        held, n = alice.friends, alice.n
        await alice.close()
        alice = await Client.open(alice_token, **how)
        alice.friends, alice.n = held, n
        await alice.hello(resume=alice.resume())
        kinds = [message["type"] for message in alice.seen]
        assert kinds == ["welcome", "unchanged", "unchanged"], f"expected unchanged twice, came {alice.seen}"
    with step(f"{name}: a newer session takes the place of the one before"):
        newer = await Client.open(alice_token, packed=packed)
        newer.n = alice.n
        newer.device = "d-new"
        await newer.hello(ALICE_AT)
        await alice.bye("superseded", 4009, retry="never", reconnect=False)
    with step(f"{name}: sign-out ends every session, and the token is not taken any more"):
        await rest("POST", "/v1/me/sign-out", alice_token)
        for one in (newer, map_):
            await one.bye("signed_out", 4010, retry="new_token", reconnect=False)
        late = await Client.open(alice_token, **how)
        await late.send("hello", device="d", id="h1")
        await late.expect("error", code="signed_out", of="hello", re="h1", retry="new_token")
        # One of the very second of the sign-out may be from before it.
        await late.send("auth", token=token(alice_id, iat=int(time.time()) + 1), id="t3")
        await late.expect("authed", re="t3")
        await late.hello()
        await late.close()
    with step(f"{name}: what comes before hello, and what is too large, ends the connection"):
        early = await Client.open(token(bob_id), **how)
        await early.send("sync")
        await early.bye("hello_expected", 4002)
        large = await Client.open(token(bob_id), **how)
        await large.send_raw({"type": "sync", "filling": "x" * welcome["limits"]["message_bytes"]})
        await large.bye("too_large", 1009, reconnect=False)
        await bob.close()


async def drain():
    with step("a gateway that is told to end sends its clients away"):
        client = await Client.open(token("py-drained"), tls=True)
        await client.hello(ALICE_AT)
        os.kill(int(os.environ["NEARCAST_WSS_PID"]), signal.SIGTERM)
        bye = await client.bye("drain", 4012, retry="after", reconnect=True)
        assert bye["reconnect_in_ms"] >= 0, bye


async def main():
    for part in (session(packed=False), session(packed=True), drain()):
        with contextlib.suppress(SystemExit):
            await part


asyncio.run(main())
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
