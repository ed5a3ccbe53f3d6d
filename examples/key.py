"""key.py train BYTES SEED | key.py ask DISTANCE SEED -- texts with a key far back.

A text gives a key of five digits, talks of something else, and asks for the key.
"train" writes texts that answer, NUL between them, with up to 8 KiB of talk
before an answer.  "ask" writes one text up to where the key should come, with
DISTANCE bytes of talk, and the key itself to standard error.

SPDX-License-Identifier: MIT
"""

import random
import sys

TALK = (b"The grass is green. The sky is blue. The sun is yellow. "
        b"Here we go. There and back again. ")


def give(key):
    return b"The pass key is %s. Remember it. %s is the pass key. " % (key, key)


def talk(out, n, start):
    """Writes n bytes of talk, from some place of it on."""
    page = TALK * 1000
    while n > 0:
        part = page[start:start + n]
        out.write(part)
        n -= len(part)
        start = 0


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("train", "ask"):
        sys.exit("usage: key.py train BYTES SEED | key.py ask DISTANCE SEED")
    mode, n, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    out = sys.stdout.buffer
    n_written = 0
    while True:
        key = "".join(rng.choices("0123456789", k=5)).encode()
        out.write(give(key))
        n_written += len(give(key)) + 1
        if mode == "ask":
            talk(out, n, rng.randrange(len(TALK)))
            out.write(b"\nThe pass key is ")
            sys.stderr.write(key.decode())
            return
        for _ in range(rng.randint(1, 4)):
            gap = int(2 ** rng.uniform(3, 13))
            talk(out, gap, rng.randrange(len(TALK)))
            out.write(b"\nThe pass key is %s.\n" % key)
            n_written += gap + 23
        out.write(b"\0")
        if n_written >= n:
            return


if __name__ == "__main__":
    main()
