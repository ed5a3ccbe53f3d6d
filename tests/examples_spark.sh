#!/bin/sh
# examples_spark.sh -- lines piped through mambyte by Spark, in processes of its
# own, are those of one run.
#
# PYTHON is a python3 with pyspark (python3 when it is not set); Spark needs
# java.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

python=${PYTHON-python3}
if ! command -v java >/dev/null || ! "$python" -c 'import pyspark' 2>/dev/null
then
	echo "pyspark or java is not installed"
	exit 77
fi
mkdir bin
ln -s "$MAMBYTE" bin/mambyte
PATH=$dir/bin:$PATH
export MAMBYTE_MODEL="$tiny" PYSPARK_PYTHON="$python"
export SPARK_LOCAL_IP=127.0.0.1 SPARK_LOCAL_DIRS="$dir"

i=0
while [ $i -lt 500 ]; do
	i=$((i + 1))
	echo "$((i * i)) GET /page/$((i % 7)) 200"
done >log
printf '\ncaf\303\251\n' >>log
mambyte --score --context=reset log >expected
for master in 'local-cluster[2,1,1024]' 'local[2]'; do
	MASTER=$master run "$python" "$srcdir/examples/spark.py" log lines
	same "status on $master" 0 "$status" || cat err >&2
	cat lines/part-* >actual
	same_files "lines of $master" expected actual
	rm -rf lines
done

MASTER='local[1]' MAMBYTE_MODEL=missing.safetensors \
	run "$python" "$srcdir/examples/spark.py" log lines
test "$status" -ne 0 || bad "a failure went unseen"

finish
