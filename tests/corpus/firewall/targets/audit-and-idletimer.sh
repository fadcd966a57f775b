#!/bin/sh
# expect: 0
iptables -A INPUT -p tcp --dport 22 -j AUDIT --type accept
iptables -A OUTPUT -j IDLETIMER --timeout 300 --label corpus
