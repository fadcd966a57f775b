#!/bin/sh
# expect: 0
# The stop actions; run where nothing was started they fail, and are written to.
iptables -w -D INPUT -p tcp -m multiport --dports ssh -j f2b-sshd 2>/dev/null || true
iptables -w -F f2b-sshd 2>/dev/null || true
iptables -w -X f2b-sshd 2>/dev/null || true
nft delete table inet f2b-table 2>/dev/null || true
iptables -A INPUT -j ACCEPT
