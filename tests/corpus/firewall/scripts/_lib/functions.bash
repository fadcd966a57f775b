allow() { iptables -A INPUT -p "$1" --dport "$2" -j ACCEPT; }
deny_from() { iptables -I INPUT -s "$1" -j DROP; }
