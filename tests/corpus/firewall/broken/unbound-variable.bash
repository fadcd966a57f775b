#!/bin/bash
# expect: 2 at 4: WAM
set -eu
iptables -A INPUT -i "$WAM" -j ACCEPT
