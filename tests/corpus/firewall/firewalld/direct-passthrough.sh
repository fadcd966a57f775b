#!/bin/sh
# expect: 0
# What `direct` rules become.
iptables -w --table filter --new-chain INPUT_direct
iptables -w --table filter --insert INPUT 1 --jump INPUT_direct
iptables -w --table filter --append INPUT_direct --protocol vrrp --jump ACCEPT
ip6tables -w --table filter --new-chain INPUT_direct
