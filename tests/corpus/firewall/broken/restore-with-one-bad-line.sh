#!/bin/sh
# expect: 2 at 5
iptables-restore <<EOF
*filter
-A INPUT -p tcp --dport 99999 -j ACCEPT
COMMIT
EOF
iptables -A INPUT -j ACCEPT
