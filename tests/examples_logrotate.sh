#!/bin/sh
# examples_logrotate.sh -- logrotate compresses with mambyte.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

PATH=$PATH:/usr/sbin:/sbin
if ! command -v logrotate >/dev/null; then
	echo "logrotate is not installed"
	exit 77
fi
export MAMBYTE_MODEL="$tiny"
mkdir log
head -c 5000 "$srcdir/tests/text/docs" >log/a.log
cp log/a.log expected
sed "s|/var/log/example/[^ ]*|\"$dir/log/*.log\"|; s|/usr/bin/mambyte|$MAMBYTE|
	/delaycompress/d; /daily/a su $(id -un) $(id -gn)" \
	"$srcdir/examples/logrotate.conf" >conf
chmod 600 conf
run logrotate --force --state "$dir/state" conf
same "logrotate" "0 " "$status $(cat err)"
same "the files" "a.log.1.mbz" "$(cd log && echo *)"
"$MAMBYTE" -dc log/a.log.1.mbz | cmp - expected || bad "it is another log"

finish
