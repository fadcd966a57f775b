#!/usr/bin/env bash
# expect: 0
TCP_PORTS=(22 80 443 8000:8010)
UDP_PORTS=(53 123)
BLOCKED=(192.0.2.1 192.0.2.128/25 198.51.100.0/24)

iptables -N tcp_in
iptables -N udp_in
for p in "${TCP_PORTS[@]}"; do iptables -A tcp_in -p tcp --dport "$p" -j ACCEPT; done
for p in "${UDP_PORTS[@]}"; do iptables -A udp_in -p udp --dport "$p" -j ACCEPT; done
for n in "${BLOCKED[@]}"; do iptables -I INPUT -s "$n" -j DROP; done
for i in {1..5}; do
    iptables -A INPUT -s 10.9.$i.0/24 -j RETURN
done
iptables -A INPUT -p tcp -j tcp_in
iptables -A INPUT -p udp -j udp_in
