#!/bin/sh
# expect: 2 at 3: --dprot
iptables -A INPUT -p tcp --dprot 22 -j ACCEPT
