"""Signs, sends and checks requests with http-message-signatures and requests: a list of jobs in JSON on stdin, answers on stdout.

Nothing of unibus is in it: what is covered, which parameters there are and what is changed on the way is in the jobs.
"""
import base64
import datetime
import json
import sys

import requests
from cryptography.hazmat.primitives.asymmetric import ed25519
from http_message_signatures import (
    HTTPMessageSignaturesException, HTTPMessageSigner, HTTPMessageVerifier, MappingKeyResolver, algorithms,
)


def moment(seconds):
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def prepared(job):
    return requests.Request(job["method"], job["url"], headers=job["headers"], data=body_of(job)).prepare()


def body_of(job):
    return base64.b64decode(job["body"])


def sign(request, job, signature):
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(signature["seed"]))
    resolver = MappingKeyResolver(public_keys={}, private_keys={signature["keyid"]: key})
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=resolver)
    signer.sign(
        request, key_id=signature["keyid"], created=moment(signature["created"]), expires=moment(signature["expires"]),
        nonce=signature["nonce"], label=signature["label"], tag=signature["tag"], include_alg=signature["alg"],
        covered_component_ids=signature["covered"], body=body_of(job), use_existing_digest=True,
        append_if_signature_exists=True,
    )


def send(job):
    """Signs as often as asked for, changes what is to be changed, and sends it as many times as asked for."""
    request = prepared(job)
    for signature in job["signatures"]:
        sign(request, job, signature)
    change = job["change"]
    request.method = change.get("method", request.method)
    request.url = change.get("url", request.url)
    request.headers.update(change.get("headers", {}))
    if "body" in change:
        request.body = change["body"].encode()
        request.headers["Content-Length"] = str(len(request.body))
    with requests.Session() as session:
        session.trust_env = False
        session.verify = job.get("ca", True)
        answers = [session.send(request, timeout=20, allow_redirects=False) for _ in range(job["times"])]
    return [answer.text for answer in answers]


def verify(job):
    key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(job["keyid"]))
    resolver = MappingKeyResolver(public_keys={job["keyid"]: key}, private_keys={})
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=resolver)
    try:
        results = verifier.verify(
            prepared(job), expect_tag=job["tag"], require_components=job["covered"], body=body_of(job),
        )
    except HTTPMessageSignaturesException as error:
        return f"{type(error).__name__}: {error}"
    return [result.parameters for result in results]


json.dump([{"send": send, "verify": verify}[job["op"]](job) for job in json.load(sys.stdin)], sys.stdout)
