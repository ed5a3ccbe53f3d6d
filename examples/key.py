"""key.py -- texts with a key far back.

    key.py train BYTES SEED MEAN
    key.py give SEED
    key.py talk SEED FROM TO

A text gives a key of five digits, talks of something else, and asks for the key.
"train" writes BYTES or more of texts that answer, NUL between them, with MEAN
bytes of talk before an answer on average.  How long the talk has lasted does not
tell when it ends (lengths are exponential): otherwise a model learns to measure
it, with states that fade.  "give" writes the start of one text, and its key to
standard error; "talk" writes the bytes of its talk from FROM up to TO.

SPDX-License-Identifier: MIT
"""

import random
import sys

TALK = (b"The grass is green. The sky is blue. The sun is yellow. "
        b"Here we go. There and back again. ")
PAGE = TALK * 1000


def draw(rng):
    """A key, and where the talk after it starts."""
    return "".join(rng.choices("0123456789", k=5)).encode(), start(rng)


def start(rng):
    return rng.randrange(len(TALK))


def give(out, key):
    text = b"The pass key is %s. Remember it. %s is the pass key. " % (key, key)
    out.write(text)
    return len(text)


def talk(out, n, at):
    at %= len(TALK)
    while n > 0:
        part = PAGE[at:at + n]
        out.write(part)
        n -= len(part)
        at = 0


def train(out, n, seed, mean):
    rng = random.Random(seed)
    while n > 0:
        key, at = draw(rng)
        n -= give(out, key)
        for _ in range(rng.randint(1, 4)):
            gap = int(rng.expovariate(1 / mean))
            talk(out, gap, at)
            out.write(b"\nThe pass key is %s.\n" % key)
            n -= gap + 23
            at = start(rng)
        out.write(b"\0")


def main():
    mode, *numbers = sys.argv[1:2] + [int(word) for word in sys.argv[2:]]
    out = sys.stdout.buffer
    if mode == "train":
        train(out, *numbers)
        return
    key, at = draw(random.Random(numbers[0]))
    if mode == "give":
        give(out, key)
        sys.stderr.write(key.decode())
    else:
        first, end = numbers[1:]
        talk(out, end - first, at + first)


if __name__ == "__main__":
    if [len(sys.argv), *sys.argv[1:2]] not in ([5, "train"], [3, "give"],
                                               [5, "talk"]):
        sys.exit("usage: key.py train BYTES SEED FARTHEST | give SEED | "
                 "talk SEED FROM TO")
    main()
