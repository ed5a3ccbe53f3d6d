#!/usr/bin/env python3
# words.py -- frequent words with their label, for language.head.
#
#     pip download --no-deps wordfreq==3.1.1
#     python3 -m zipfile -e wordfreq-3.1.1-py3-none-any.whl wordfreq
#     bench/words.py wordfreq/wordfreq/data langid2.test.tsv >words.tsv
#
# Writes, for each language of wordfreq that is hard to tell by its script, the
# 12,000 most frequent words in lines of some 250 bytes, each word in two of them.
# Words that are five times as frequent in another language are left out; so are
# those that are a record of the test file, in whatever language.
#
# Needs python3-msgpack.
#
# SPDX-License-Identifier: MIT
import glob
import gzip
import os
import random
import re
import sys

import msgpack

MOST = 12000
TIMES = 2
LINE = 250
FIVE_TIMES = 70  # in hundredths of a power of ten
NAMES = {"fil": "tl", "nb": "no"}
LEFT_OUT = {
    *("sh", "ja", "zh"),  # of several languages, or without spaces
    *("bn", "el", "he", "ko", "ta"),  # of a script of their own
}


def read_lists(folder):
    """{language: {word: rank}}, where 100 is a tenth of the frequency of 0."""
    lists = {}
    for path in sorted(glob.glob(os.path.join(folder, "small_*.msgpack.gz"))):
        name = re.search(r"small_(\w+)\.", os.path.basename(path)).group(1)
        with gzip.open(path) as file:
            ranks = msgpack.unpackb(file.read(), raw=False)[1:]
        lists[NAMES.get(name, name)] = {
            word: rank for rank, words in enumerate(ranks) for word in words
        }
    return lists


def read_test(path):
    with open(path, encoding="utf-8", newline="\n") as file:
        texts = [line.rstrip("\n").split("\t", 1)[1] for line in file]
    return {text.strip(' .,!?;:"').lower() for text in texts}


def choose(ranks, best, test):
    words = [
        word
        for word, rank in sorted(ranks.items(), key=lambda item: item[1])
        if rank <= best[word] + FIVE_TIMES
        and len(word) > 1
        and not re.search(r"[0-9_.]", word)
    ]
    return [word for word in words[:MOST] if word not in test]


def write(label, words):
    line = ""
    for word in words:
        line += (" " if line else "") + word
        if len(line.encode()) >= LINE:
            print(f"{label}\t{line}")
            line = ""
    if line:
        print(f"{label}\t{line}")


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: words.py FOLDER TEST")
    lists, test = read_lists(sys.argv[1]), read_test(sys.argv[2])
    best = {}
    for ranks in lists.values():
        for word, rank in ranks.items():
            best[word] = min(rank, best.get(word, rank))
    shuffled = random.Random(1)
    for label in sorted(set(lists) - LEFT_OUT):
        words = choose(lists[label], best, test)
        for _ in range(TIMES):
            shuffled.shuffle(words)
            write(label, words)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    main()
