#!/usr/bin/env python3
"""Checks entries.py, roster.py and phrases.py against the published examples: `roster_vectors.py FILE`, and against logs of its own: `roster_vectors.py FILE LOG`.

Whatever is good is taken, and the rest refused for its reason. A LOG is JSON: `{room, creator, entries, head, forged}`; each of `forged`
stands in the place `at` of the entries and is refused as it says.
"""
import base64, json, sys

import phrases, roster
from entries import Refused, need, verifies

count = 0


def check(vector, wanted, found):
    """Calls `found`, and compares what it returns, or why it refuses, with the vector."""
    global count
    try:
        outcome = found()
    except Refused as refused:
        outcome = {"refused": refused.word} | ({"at": refused.at} if refused.at else {})
    expected = {name: vector[name] for name in ("refused", "at") if name in vector} if "refused" in vector else vector[wanted]
    assert outcome == expected, f"{vector}\nis to be: {expected}\nbut it is: {outcome}"
    count += 1


def trusted(trust):
    if trust == "first-use":
        return {}
    if "pinned" in trust:
        return {"pinned": trust["pinned"]}
    return {"creator": bytes.fromhex(trust["creator"])} if "creator" in trust else {"link": phrases.read_link(trust["link"])}


def log_of(vector):
    return roster.verify(vector["room"], [entries[place] for place in vector["entries"]], **trusted(vector["trust"]))


def state_of(vector):
    state = log_of(vector)
    takings = {(one["handle"], bytes.fromhex(one["sign_pub"])) for one in vector.get("takings", [])}
    people = [
        {"handle": handle, "role": p.role, "state": p.state, "sign_pub": p.sign_pub.hex(), "hpke_pub": p.hpke_pub.hex(), "since": p.since, "by": p.by}
        for handle, said in sorted(state.people.items()) for p in said[-1:]
    ]
    head = {"number": len(state.hashes), "hash": state.hashes[-1].hex()}
    return {"head": head, "subject": state.subject, "policy": state.policy, "people": people, "recipients": state.recipients(takings)}


def plain(link):
    return link | {"inviter_key": link["inviter_key"].hex(), "invite_pub": link["invite_pub"].hex()}


def proven(vector, state):
    made_at, recipients = state.check_epoch(vector["epoch"], vector["to"], vector.get("before"))
    gone, missing = state.staleness(recipients)
    return {"made_at": made_at, "gone": gone, "missing": missing}


with open(sys.argv[1], encoding="utf-8") as file:
    vectors = json.load(file)
entries = [base64.b64decode(entry) for entry in vectors["entries"]]
people = {p["name"]: (p["handle"], bytes.fromhex(p["sign_pub"]), bytes.fromhex(p["hpke_pub"])) for p in vectors["people"]}
for v in vectors["signatures"]:
    good = verifies(bytes.fromhex(v["sign_pub"]), base64.b64decode(v["message"]), bytes.fromhex(v["signature"]))
    check(v, "good", lambda: need(good, "signature") is None)
for v in vectors["logs"]:
    check(v, "state", lambda: state_of(v))
for v in vectors["links"]:
    check(v, "link", lambda: plain(phrases.read_link(v["text"])))
logs = {v["what"]: v for v in vectors["logs"]}
for v in vectors["epochs"]:
    check(v, "proven", lambda: proven(v, log_of(logs[v["log"]])))
for v in vectors["identities"]:
    secret = bytes.fromhex(v["secret"])
    check(v, "numbers", lambda: phrases.secret_numbers(secret))
    check(v, "sign_pub", lambda: phrases.identity(secret)[0].hex())
    check(v, "hpke_pub", lambda: phrases.identity(secret)[1].hex())
for v in vectors["words"]:
    if "people" in v:
        check(v, "numbers", lambda: phrases.people_numbers(*(people[name] for name in v["people"])))
    else:
        check(v, "numbers", lambda: phrases.room_numbers(v["room"], v["head"]["number"], bytes.fromhex(v["head"]["hash"])))
for path in sys.argv[2:]:
    with open(path, encoding="utf-8") as file:
        log = json.load(file)
    raw, creator = [base64.b64decode(entry) for entry in log["entries"]], bytes.fromhex(log["creator"])
    head_of = lambda raw: roster.verify(log["room"], raw, creator=creator).hashes[-1].hex()
    check(log, "head", lambda: head_of(raw))
    for v in log["forged"]:
        check(v, "head", lambda: head_of(raw[:v["at"] - 1] + [base64.b64decode(v["entry"])] + raw[v["at"]:]))
print(f"{count} checks passed")
