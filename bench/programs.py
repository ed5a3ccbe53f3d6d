#!/usr/bin/env python3
# programs.py -- pieces of programs with their label, for language.head.
#
#     bench/programs.py langid2.test.tsv code.bin code-2.bin docs.bin docs-2.bin \
#         >programs.tsv
#
# Writes up to 700 pieces of source files for each programming language, of 15 to
# 300 bytes, and 200 of examples in manuals.  The language of a source file, which
# has no name, follows from what stands in it: a file that fits two languages is
# left out, and so is one of a language without a label.  That of an example is
# named where it starts.
#
# At most half of the lines of a piece are comments, and it does not read as
# English.  It is left out if a program of the test file stands in it, or if half of
# its sequences of 20 characters stand there.
#
# SPDX-License-Identifier: MIT
import collections
import random
import re
import sys

from program_rules import EXAMPLES, OTHERS, RULES

SOURCES = 700
MANUALS = 200
LENGTHS = (16, 28, 40, 52, 67, 85, 103, 115, 130, 158, 250)
LEAST, MOST = 15, 300
READ = 60000  # characters of a file that are looked at
SEQUENCE = 20

COMMENT = re.compile(
    r"^\s*(//|#(?!include|define|if|end|else|un|pragma|!)|/?\*|--|;|%|!|\(\*|"
    r'"""|<!--|dnl)'
)
EXAMPLE = re.compile(r"^ *```+ *\{?([A-Za-z+#_-]+)[^\n]*\n(.*?)^ *```", re.M | re.S)
COMMON = set(
    "the of to is and in that for with be or are this it you if not can by as an on "
    "from when will".split()
)
PLAIN = re.compile(r"""^[("`']*[A-Za-z][A-Za-z'-]*[.,:;!?)"`']*$""")


def compile_all(patterns):
    return [re.compile(pattern, re.M) for pattern in patterns]


FITS = {
    label: (compile_all(has), compile_all(has_not))
    for label, (has, has_not) in RULES.items()
}
FITS_OTHERS = compile_all(OTHERS)


def label_of(text):
    """The label of a source file, or None."""
    text = text[:READ]
    if any(pattern.search(text) for pattern in FITS_OTHERS):
        return None
    labels = [
        label
        for label, (has, has_not) in FITS.items()
        if all(pattern.search(text) for pattern in has)
        and not any(pattern.search(text) for pattern in has_not)
    ]
    return labels[0] if len(labels) == 1 else None


def count_words(text):
    """How many words there are, are plain, and are common English ones."""
    words = text.split()
    n_plain = sum(bool(PLAIN.match(word)) for word in words)
    n_common = sum(word.lower() in COMMON for word in words)
    return len(words), n_plain, n_common


def reads_as_english(text):
    n_words, n_plain, n_common = count_words(text)
    return n_words >= 6 and n_plain * 4 >= n_words * 3 and n_common >= 2


def sequences(text, n):
    return [text[i : i + n] for i in range(len(text) - n + 1)]


class Test:
    """The programs of the test file."""

    def __init__(self, path):
        self.sequences, self.starts = set(), collections.defaultdict(list)
        with open(path, encoding="utf-8", newline="\n") as file:
            for line in file:
                label, text = line.rstrip("\n").split("\t", 1)
                if label.startswith("code:"):
                    self.sequences.update(sequences(text, SEQUENCE))
                    self.starts[text[:LEAST]].append(text)

    def knows(self, piece):
        """Whether a record stands in the piece, or half of the piece in records."""
        own = sequences(piece, SEQUENCE)
        n_known = sum(sequence in self.sequences for sequence in own)
        return (n_known > 0 and 2 * n_known >= len(own)) or any(
            record in piece
            for start in sequences(piece, LEAST)
            for record in self.starts.get(start, ())
        )


def take(lines, wanted):
    """The first of the lines, and how many of them are comments, and are not."""
    taken, counts = "", [0, 0]
    for line in lines:
        if len(taken) >= wanted:
            break
        counts[not COMMENT.match(line)] += 1
        taken = (taken + " " + line).strip()
    return taken, *counts


def cut(text, n, drawn):
    """Up to n pieces of whole lines."""
    lines = [" ".join(line.split()) for line in text.split("\n")]
    for _ in range(3 * n):
        if n == 0:
            return
        wanted = drawn.choice(LENGTHS)
        start = drawn.randrange(len(lines))
        piece, n_comments, n_others = take(lines[start : start + MOST], wanted)
        if (
            LEAST <= len(piece.encode()) <= MOST
            and len(piece) <= max(1.5 * wanted, 60)
            and n_comments <= n_others
            and re.search("[A-Za-z]", piece)
            and not reads_as_english(piece)
        ):
            n -= 1
            yield piece


def write(texts, most, test, drawn):
    for label in sorted(texts):
        of_label, pieces = texts[label], {}
        drawn.shuffle(of_label)
        per_text = min(10, -(-most * 3 // (2 * len(of_label))))
        for text in of_label:
            for piece in cut(text, per_text, drawn):
                if len(pieces) < most and not test.knows(piece):
                    pieces[piece] = True
        for piece in pieces:
            print(f"code:{label}\t{piece}")


def read_documents(paths):
    for path in paths:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            yield from filter(None, file.read().split("\0"))


def main():
    if len(sys.argv) != 6:
        sys.exit("usage: programs.py TEST CODE CODE MANUALS MANUALS")
    test, drawn = Test(sys.argv[1]), random.Random(1)
    texts = collections.defaultdict(list)
    for text in read_documents(sys.argv[2:4]):
        texts[label_of(text)].append(text)
    texts.pop(None, None)
    write(texts, SOURCES, test, drawn)
    texts = collections.defaultdict(list)
    for text in read_documents(sys.argv[4:]):
        for name, example in EXAMPLE.findall(text):
            if name.lower() in EXAMPLES:
                texts[EXAMPLES[name.lower()]].append(example)
    write(texts, MANUALS, test, drawn)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    main()
