#!/usr/bin/env zsh
# expect: 0
set -e
() {
    local family
    for family in iptables ip6tables; do
        $family -N ssh-guard
        $family -A ssh-guard -m conntrack --ctstate NEW -m recent --name ssh --set
        $family -A ssh-guard -m recent --name ssh --update --seconds 60 --hitcount 5 -j DROP
        $family -A ssh-guard -j ACCEPT
        $family -A INPUT -p tcp --dport 22 -j ssh-guard
    done
}
