#!/bin/sh
# expect: 0
set -e
ADMIN=10.0.0.9
nft -f - <<EOF
table inet admin {
    chain input {
        type filter hook input priority filter; policy accept;
        ip saddr != $ADMIN tcp dport 22 drop
    }
}
EOF
