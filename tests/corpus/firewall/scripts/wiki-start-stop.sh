#!/bin/sh
# expect: 0
### BEGIN INIT INFO
# Provides:          firewall
# Required-Start:    $network
# Default-Start:     2 3 4 5
### END INIT INFO
# Style: an init script; without an argument it starts.

start() {
    echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter
    iptables -P INPUT DROP
    iptables -A INPUT -i lo -j ACCEPT
    iptables -A INPUT -p tcp -m multiport --dports 22,25,80,443 -j ACCEPT
}

stop() {
    iptables -P INPUT ACCEPT
    iptables -F
}

case "${1:-start}" in
start) start ;;
stop) stop ;;
restart|reload) stop; start ;;
*) echo "Usage: $0 {start|stop|restart}" >&2; exit 1 ;;
esac
