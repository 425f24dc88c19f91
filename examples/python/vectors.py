#!/usr/bin/env python3
"""Checks formats.py and seen.py against the published examples: `vectors.py FILE`.

Whatever is good is read, and the rest refused for its reason.
"""
import hashlib, json, sys, uuid

from formats import Identity, Refused, b64, context, derive, frame_id, key_id, key_statement, make, open_blob, open_key
from formats import parse, read, seal_key, unb64, verify
from seen import Seen

with open(sys.argv[1], encoding="utf-8") as file:
    vectors = json.load(file)
people = {p["handle"]: Identity(p["handle"], p["sign"], p["hpke"]) for p in vectors["people"]}
keys = {(v["room"], v["epoch"]): bytes.fromhex(v["key"]) for v in vectors["keys"]}
count = 0


def check(vector, wanted, found):
    """Calls `found`, and compares what it returns, or why it refuses, with the vector."""
    global count
    try:
        outcome = found()
    except Refused as refused:
        outcome = f"refused: {refused.word}"
    wanted = f"refused: {vector['refused']}" if "refused" in vector else vector[wanted]
    assert outcome == wanted, f"{vector}\nis to be: {wanted}\nbut it is: {outcome}"
    count += 1


def frame_of(vector, raw):
    sign_pub_of = lambda handle: people[handle].sign_pub if handle in people else None
    room_key_of = lambda epoch: keys.get((vector["room"], epoch))
    return read(parse(raw), vector["room"], vector["subject"], vector["policy"], sign_pub_of, room_key_of)


for v in vectors["people"]:
    check(v, "sign_pub", lambda: people[v["handle"]].sign_pub)
    check(v, "hpke_pub", lambda: people[v["handle"]].hpke_pub)
for v in vectors["contexts"]:
    check(v, "context", lambda: b64(context(v["label"], *map(unb64, v["parts"]))))
for v in vectors["hpke_keys"]:
    statement = key_statement(v["handle"], v["sign_pub"], v["hpke_pub"])
    check(v, "good", lambda: verify(v["sign_pub"], unb64(v["signature"]), *statement) is None)
for v in vectors["keys"]:
    key = bytes.fromhex(v["key"])
    check(v, "key_id", lambda: key_id(key, v["room"], v["epoch"]).hex())
    check(v, "message_key", lambda: derive(key, 32, "unibus.message-key.1", v["room"], v["epoch"], v["sender"]).hex())
for v in vectors["envelopes"]:
    by, to, kid = people[v["by"]], people[v["to"]], bytes.fromhex(v["key_id"])
    check(v, "key", lambda: open_key(v["envelope"], v["room"], v["epoch"], by.handle, by.sign_pub, to, kid).hex())
    if "key" in v:
        ours = seal_key(bytes.fromhex(v["key"]), v["room"], v["epoch"], by, to.handle, to.hpke_pub)
        check(v, "key", lambda: open_key(ours, v["room"], v["epoch"], by.handle, by.sign_pub, to, kid).hex())
for version, frames in ((1, vectors["frames"]), (2, vectors["frames_2"])):
    # Version 1 has texts, and its examples nothing around them.
    said = (lambda contents: [content["text"] for content in contents]) if version == 1 else (lambda contents: contents)
    for v in frames:
        check(v, "messages", lambda: said(frame_of(v, unb64(v["frame"]))))
        if v.get("messages") in (["hello"], [{"text": "hello"}]):
            frame = parse(unb64(v["frame"]))
            key = keys.get((v["room"], frame.epoch))
            ours = make(people[frame.sender], v["room"], v["subject"], True, frame.epoch, key, "hello", version)
            check(v, "messages", lambda: said(frame_of(v, ours[0])))
        if "roster" in v:
            check(v, "roster", lambda: parse(unb64(v["frame"])).roster.hex())
for v in vectors["frame_ids"]:
    check(v, "frame_id", lambda: frame_id(v["room"], v["subject"], unb64(v["frame"])))
for arrivals in (vectors["arrivals"], vectors["arrivals_2"]):
    seen = Seen()
    for v in arrivals:
        check(v, "new", lambda: seen.admit(uuid.UUID(v["id"]).bytes, v.get("sender", "alice"), v["at_ms"], v["seq"]))
for v in vectors["blobs"]:
    check(v, "name", lambda: hashlib.sha256(unb64(v["blob"])).hexdigest()) if "plain" in v else None
    check(v, "plain", lambda: open_blob(unb64(v["blob"]), v["room"], lambda epoch: keys[v["room"], epoch]).decode())
print(f"{count} checks passed")
