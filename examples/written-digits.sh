#!/bin/sh
# written-digits.sh FOLDER [OPTION OF mambyte-train]... -- pictures as bytes.
#
# The handwritten digits of scikit-learn, 8 x 8 pixels of 17 levels, become 64
# letters a to q, row by row, and the same 64 column by column.  Trains a model
# on four fifths of them, unless FOLDER has it, then a head for a picture that is
# read once, by rows, and one for a picture that is read twice; and writes how
# often each recognises the digits of the last fifth, beside logistic regression
# on pixels.  PYTHON is a python3 with scikit-learn.  It takes some minutes on two
# cores; longer training overfits, and the heads get worse.
#
# SPDX-License-Identifier: MIT
set -eu

folder=${1:?usage: written-digits.sh FOLDER [OPTION OF mambyte-train]...}
shift
mkdir -p "$folder"
cd "$folder"

"${PYTHON:-python3}" - <<'END'
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

digits = load_digits()
n = len(digits.images) * 4 // 5


def letters(picture):
    return "".join(chr(ord("a") + int(pixel)) for pixel in picture.ravel())


for part, some in ("train", slice(n)), ("test", slice(n, None)):
    with open(part + ".once", "w") as once, open(part + ".twice", "w") as twice:
        for image, digit in zip(digits.images[some], digits.target[some]):
            rows, columns = letters(image), letters(image.T)
            print(digit, rows, sep="\t", file=once)
            print(digit, rows + columns, sep="\t", file=twice)
regression = LogisticRegression(max_iter=10000)
regression.fit(digits.data[:n] / 16, digits.target[:n])
score = regression.score(digits.data[n:] / 16, digits.target[n:])
print("right digits\tof", len(digits.images) - n, "pictures")
print("logistic regression\t%.6f" % score)
END

# Pictures, NUL between them.
for part in train test; do
	cut -f 2 $part.twice | tr '\n' '\000' >$part.letters
done
test -e digits.safetensors || mambyte-train --d-model=96 --n-layer=3 \
	--windows=32 --length=130 --carry=4 --steps=400 "$@" \
	--valid=test.letters -o digits.safetensors train.letters >/dev/null
MAMBYTE_MODEL=./digits.safetensors
export MAMBYTE_MODEL
for times in once twice; do
	test -e $times.head || mambyte-train -q --head=train.$times \
		-o $times.head >$times.report
	mambyte --classify=$times.head --eval test.$times |
		awk -F '\t' -v times=$times '
			$1 == "accuracy" { print "read " times, $2 }' OFS='\t'
done
