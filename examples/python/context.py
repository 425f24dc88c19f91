"""What a signature, a seal or a hash covers, in conversations (formats.py) as in logs (entries.py)."""


def context(label, *parts):
    """What a signature, a seal or a hash covers: every part with its length before it. A number is four bytes."""
    def as_bytes(part):
        return part.encode() if isinstance(part, str) else part.to_bytes(4) if isinstance(part, int) else part
    return b"".join(len(part).to_bytes(4) + part for part in map(as_bytes, (label, *parts)))
