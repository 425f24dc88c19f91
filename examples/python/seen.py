"""Frames that come again: every member can publish the very bytes of another member's frame a second time."""
from formats import Refused

# How far the time in an id may be from when the frame came.
WINDOW_MS = 120_000


class Seen:
    """The ids of each sender that came lately, and by which way: a message comes once from the bus and once from the history.

    An id is its sender's choice: another member who uses the same one does not keep this message away.
    """
    def __init__(self):
        self.came, self.newest, self.refused = {}, 0, {}

    def admit(self, id, sender, at_ms, seq):
        """Whether it is new; `seq` is its number in the history, None if it came from the bus."""
        if abs(int.from_bytes(id[:6]) - at_ms) > WINDOW_MS:
            raise Refused("wrong-time", "it was not made when it came: an old one sent again, or a clock is wrong")
        is_new, (live, kept) = (id, sender) not in self.came, self.came.get((id, sender), (False, None))
        if live if seq is None else kept not in (None, seq):
            raise Refused("replayed", "it has come before: somebody sent it again")
        self.came[id, sender] = (True, kept) if seq is None else (live, seq)
        self.newest = max(self.newest, at_ms)
        # Whatever is older would be refused for its age.
        while self.came and int.from_bytes((oldest := next(iter(self.came)))[0][:6]) < self.newest - 2 * WINDOW_MS:
            del self.came[oldest]
        return is_new

    def told(self, raw, subject):
        """Whether a frame that is refused was refused before: what was kept comes by both ways, and is told of once."""
        if self.refused.pop((subject, raw), False):
            return True
        self.refused[subject, raw] = True
        if len(self.refused) > 1_000:
            del self.refused[next(iter(self.refused))]
        return False
