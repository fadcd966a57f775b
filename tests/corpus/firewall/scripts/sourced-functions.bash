#!/bin/bash
# expect: 0
# Has its functions in a file beside it.
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
. ./_lib/functions.bash
allow tcp 22
allow udp 1194
deny_from 192.0.2.0/24
