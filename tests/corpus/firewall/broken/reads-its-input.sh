#!/bin/sh
# expect: 0
# Asks a question that nobody answers.
printf 'Really? '
read -r answer || answer=no
[ "$answer" = no ] && iptables -A INPUT -j ACCEPT
