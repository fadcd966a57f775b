#!/bin/sh
# expect: 2 at 4
PORT=
iptables -A INPUT -p tcp --dport $PORT -j ACCEPT
