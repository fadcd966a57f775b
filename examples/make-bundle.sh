#!/bin/sh
# An OCI bundle in DIR, made by `runc spec`: busybox, serving /srv over HTTP on port 80.
# Needs runc and a static busybox: apt-get install runc busybox-static
set -eu
dir=${1:?usage: make-bundle.sh DIR}
mkdir -p "$dir/rootfs/bin" "$dir/rootfs/srv" "$dir/rootfs/etc"
cp "$(command -v busybox)" "$dir/rootfs/bin/busybox"
for name in sh httpd hostname cat ls ip id; do ln -sf busybox "$dir/rootfs/bin/$name"; done
echo 'A market stall in a bundle.' > "$dir/rootfs/srv/index.html"
rm -f "$dir/config.json"
runc spec --bundle "$dir"
sed -i -e 's/"terminal": true/"terminal": false/' \
    -e 's|^\t\t\t"sh"$|\t\t\t"httpd", "-f", "-p", "80", "-h", "/srv"|' "$dir/config.json"
