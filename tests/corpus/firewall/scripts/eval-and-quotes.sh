#!/bin/sh
# expect: 0
cmd="iptables -A INPUT -p tcp --dport 8080"
eval "$cmd -j ACCEPT"
$cmd -m comment --comment 'it''s "quoted" & $odd' -j ACCEPT
iptables -A INPUT -m comment --comment "semi;colon | pipe" -j RETURN
iptables -A INPUT \
    -p udp \
    --dport 53 \
    -j ACCEPT
