#!/bin/sh
# expect: 3 without WIREGUARD at 3: wireguard devices
ip link add wg0 type wireguard
iptables -A FORWARD -i wg0 -j ACCEPT
ip addr add 10.66.0.1/24 dev wg0
