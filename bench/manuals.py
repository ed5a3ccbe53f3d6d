#!/usr/bin/env python3
# manuals.py -- starts of manuals, which are English between markup, for
# language.head.
#
#     bench/manuals.py docs.bin docs-2.bin >manuals.tsv
#
# Writes the first 60 to 300 bytes of 3,000 documents, with the label en: of those
# whose first 4,000 characters are words for the greater part, and common English
# words for an eighth.
#
# SPDX-License-Identifier: MIT
import random
import sys

from programs import count_words, read_documents

STARTS = 3000
READ = 4000  # characters of a document that are looked at
LENGTHS = (60, 100, 150, 200, 300)


def is_english(text):
    n_words, n_plain, n_common = count_words(text[:READ])
    return n_words >= 40 and 2 * n_plain > n_words < 8 * n_common


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: manuals.py MANUALS MANUALS")
    texts = [text for text in read_documents(sys.argv[1:]) if is_english(text)]
    drawn = random.Random(1)
    for text in drawn.sample(texts, STARTS):
        start = " ".join(text[:READ].split()).encode()[: drawn.choice(LENGTHS)]
        print("en\t" + start.decode(errors="ignore"))


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    main()
