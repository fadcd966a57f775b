#!/bin/sh
# expect: 3 without NETFILTER_XT_TARGET_LED at 3: target LED
iptables -A INPUT -p tcp --dport 22 -j LED --led-trigger-id ssh
