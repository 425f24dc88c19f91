"""Signs each request that schemathesis makes, as the user whose identity file UNIBUS_IDENTITY names; of unibus no more than that."""
import base64
import datetime
import os
import tomllib

import requests
import schemathesis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver, algorithms

COVERED = ("@method", "@authority", "@path", "@query", "content-digest")


class Signed(requests.auth.AuthBase):
    def __init__(self, path):
        with open(path, "rb") as file:
            seed = tomllib.load(file)["sign"]
        key = Ed25519PrivateKey.from_private_bytes(base64.b32decode(seed + "=" * (-len(seed) % 8))[2:34])
        self.key_id = key.public_key().public_bytes_raw().hex()
        keys = MappingKeyResolver(public_keys={}, private_keys={self.key_id: key})
        self.signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=keys)

    def __call__(self, request):
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        for name in ("Content-Digest", "Signature-Input", "Signature"):
            request.headers.pop(name, None)
        now = datetime.datetime.now(datetime.timezone.utc)
        covered = COVERED + (("if-match",) if "If-Match" in request.headers else ())
        self.signer.sign(
            request, key_id=self.key_id, created=now, expires=now + datetime.timedelta(seconds=60),
            nonce=base64.b64encode(os.urandom(16)).decode(), tag="unibus", include_alg=False, label="sig1", body=body,
            covered_component_ids=covered,
        )
        return request


SIGNED = Signed(os.environ["UNIBUS_IDENTITY"])


@schemathesis.hook
def before_call(context, case, kwargs):
    kwargs["auth"] = SIGNED
