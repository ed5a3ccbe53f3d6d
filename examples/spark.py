"""spark.py INPUT OUTPUT -- scores each line of text with Apache Spark.

Run it by spark-submit, or by python3 where pyspark is installed.  MASTER names
the cluster; without it, one of two workers is started on this machine.

The lines of OUTPUT/part-*, in order, are those of
"mambyte --score --context=reset INPUT".  Spark reads UTF-8: other bytes become
U+FFFD before mambyte sees them.  Each partition starts one process, so
partitions should be few and large.  Workers need mambyte and the model.

SPDX-License-Identifier: MIT
"""

import os
import sys

from pyspark.sql import SparkSession

COMMAND = "mambyte --quiet --score --context=reset --threads=1"


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: spark.py INPUT OUTPUT")
    source, target = sys.argv[1:]
    master = os.environ.get("MASTER", "local-cluster[2,1,1024]")
    spark = SparkSession.builder.appName("mambyte").master(master).getOrCreate()
    context = spark.sparkContext
    # pipe() starts from an empty environment, and forgives failures unless told.
    given = {key: os.environ[key] for key in ("PATH", "MAMBYTE_MODEL")
             if key in os.environ}
    lines = context.textFile(source, minPartitions=context.defaultParallelism)
    lines.pipe(COMMAND, env=given, checkCode=True).saveAsTextFile(target)
    spark.stop()


if __name__ == "__main__":
    main()
