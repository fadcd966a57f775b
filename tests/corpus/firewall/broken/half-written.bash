#!/bin/bash
# expect: 2
open() {
    iptables -A INPUT -p tcp --dport "$1 -j ACCEPT
}
open 22
