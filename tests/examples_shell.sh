#!/bin/sh
# examples_shell.sh -- the examples that need no engine beside the shell do what
# they say: xargs, a task of Slurm, a coprocess, a growing log, the journal.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

mkdir bin
ln -s "$MAMBYTE" bin/mambyte
PATH=$dir/bin:$PATH
export MAMBYTE_MODEL="$tiny"
examples=$srcdir/examples

# ---- xargs: the files of one run, names with spaces too

mkdir -p one/sub
for text in books code 'two words'; do
	head -c 3000 "$srcdir/tests/text/docs" >"one/sub/$text"
	echo "$text" >>"one/sub/$text"
done
cp -R one two
mambyte -zk one/sub/*
PROCESSES=2 run sh "$examples/xargs.sh" two
same "xargs.sh" "0 " "$status $(cat err)"
diff -r one two || bad "xargs.sh makes other files"
run sh "$examples/xargs.sh" two
same "xargs.sh again" "0 " "$status $(cat out err)"

# ---- Slurm: the tasks of an array give the lines of one run

# by_tasks LIST -- all tasks of an array of four.
by_tasks()
{
	for task in 3 4 5 6; do
		SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_MIN=3 \
			SLURM_ARRAY_TASK_COUNT=4 SLURM_CPUS_PER_TASK=1 \
			sh "$examples/slurm.sh" "$1" || bad "task $task"
	done
}

find one -type f | sort >list
xargs -d '\n' "$MAMBYTE" --perplexity <list | sed '/^total\t/d' >expected
by_tasks list >actual
same "slurm.sh" "$(sort expected)" "$(sed '/^total\t/d' actual | sort)"
SLURM_ARRAY_TASK_ID=19 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_COUNT=20 \
	run sh "$examples/slurm.sh" list
same "a task without files" "0 " "$status $(cat out err)"
echo missing >>list
run sh "$examples/slurm.sh" list
same "a task whose file is missing" 123 "$status"

# ---- a coprocess

if command -v bash >/dev/null; then
	printf 'first\n\nthird\twith tab\n' >records
	run bash "$examples/coprocess.bash" <records
	same "coprocess.bash" "0 " "$status $(cat err)"
	same "its bits" \
		"$(mambyte --score --context=reset records | cut -f 1 | xargs)" \
		"$(sed 's/.*byte, \([0-9.]*\) bits.*/\1/' out | xargs)"
fi

# ---- a log that grows, and is rotated

echo old >access.log
timeout 100 sh "$examples/follow.sh" access.log 0 >lines 2>err &
n_more=0
# shellcheck disable=SC2317 # through wait_for
more()
{
	n_more=$((n_more + 1))
	echo "more $n_more" >>access.log
	test -s lines
}
wait_for more
wait_for grep -q "\"more $n_more\"" lines
mv access.log access.log.1
echo after >access.log
wait_for grep -q after lines
kill $! # and the processes that follow.sh started
wait $!
cat access.log.1 access.log | tail -n "$(wc -l <lines)" >expected
sed 's/.*"record":"\(.*\)".*/\1/' lines >actual
same_files "follow.sh" expected actual
grep -q old actual && bad "follow.sh writes lines that were there before"
same "its score" \
	"$(head -n 1 actual | mambyte --score | cut -f 1)" \
	"$(head -n 1 lines | sed 's/.*"bits":\([0-9.]*\).*/\1/')"

# ---- the journal: the command of the unit, with a journal of two messages

cat >bin/journalctl <<'END'
#!/bin/sh
printf 'a message\nanother message\n'
END
chmod +x bin/journalctl
sed -n "s/^ExecStart=//p" "$examples/mambyte-journal.service" >unit
sh -c "$(sed 's/--threshold=[0-9]*/--threshold=0/' unit)" >out
same "the unit" "a message
another message" "$(cut -f 4 out)"
if command -v systemd-analyze >/dev/null; then
	mkdir units
	cp "$examples/mambyte-journal.service" units
	systemd-analyze verify units/mambyte-journal.service >out 2>&1
	same "systemd-analyze" "" "$(grep mambyte-journal out)"
fi

finish
