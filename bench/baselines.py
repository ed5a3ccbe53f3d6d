#!/usr/bin/env python3
"""baselines.py -- how well simpler classifiers label the same records.

usage: baselines.py TRAIN TEST

Prints, for lines of LABEL<tab>TEXT, the accuracy of: gzip and the nearest
neighbour (Jiang and others 2023, k = 1); a bag of words and logistic
regression; the same with tf-idf; and a linear support vector machine on
sequences of 1 to 4 characters (tf-idf).  Needs scikit-learn.

SPDX-License-Identifier: MIT
"""
import gzip
import sys

from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

GZIP_MOST = 5_000_000  # pairs of records: more would take hours


def read(path):
    with open(path, encoding="utf-8", errors="replace", newline="\n") as lines:
        pairs = [line.rstrip("\n").split("\t", 1) for line in lines]
    return [p[1] for p in pairs], [p[0] for p in pairs]


def size(text):
    return len(gzip.compress(text.encode(), 9))


def by_gzip(train, test):
    known = [(text, size(text), label) for text, label in zip(*train)]
    n_right = 0
    for text, label in zip(*test):
        own = size(text)
        distances = [
            (size(text + " " + other) - min(own, n)) / max(own, n)
            for other, n, _ in known
        ]
        n_right += known[distances.index(min(distances))][2] == label
    return n_right / len(test[0])


def by_model(train, test, features, model):
    pipeline = make_pipeline(features, model).fit(*train)
    return pipeline.score(*test)


def main(train, test):
    def show(name, score):
        print(f"{name}\t{100 * score:.1f}", flush=True)

    for c in (1, 10):
        show(
            f"bag of words, logistic regression, C={c}",
            by_model(
                train, test, CountVectorizer(),
                LogisticRegression(C=c, max_iter=2000),
            ),
        )
        show(
            f"the same with tf-idf, C={c}",
            by_model(
                train, test, TfidfVectorizer(),
                LogisticRegression(C=c, max_iter=2000),
            ),
        )
    characters = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 4), lowercase=False, sublinear_tf=True
    )
    show(
        "sequences of 1 to 4 characters, linear SVM",
        by_model(train, test, characters, LinearSVC()),
    )
    if len(train[0]) * len(test[0]) <= GZIP_MOST:
        show("gzip and the nearest neighbour", by_gzip(train, test))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(read(sys.argv[1]), read(sys.argv[2]))
