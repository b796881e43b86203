#!/bin/sh
# Process 1 of the kernel that kernel.ts boots: mounts, modules, then a line protocol on the serial line.
#   in    run N TIMEOUT   runs $run/N.sh; what it says goes to $run/N.out and $run/N.err
#         off             powers off
#   out   ready | done N CODE | failed TEXT
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/net
exec <>/dev/ttyS0 >&0 2>&0
stty raw -echo
say() { printf '%s\n' "$*" >/dev/ttyS0; }

# The root is the host's, read-only; the run folder is the host's too and may lie under what is covered next.
run=/run/espalier
mount -t tmpfs -o mode=755 run /run && mkdir -p $run /run/netns /run/modules/lib/modules
mount -t hostfs none $run -o "$espalier_run" || say "failed to mount $espalier_run"
mount -t tmpfs -o mode=1777 tmp /tmp
ln -s "$espalier_modules" "/run/modules/lib/modules/$(uname -r)"
printf '#!/bin/sh\nexec modprobe -d /run/modules "$@"\n' >/run/modules/modprobe
chmod 755 /run/modules/modprobe
echo /run/modules/modprobe >/proc/sys/kernel/modprobe
while read -r module options; do
  /run/modules/modprobe "$module" $options 2>/run/modules/why || say "failed to load $module: $(cat /run/modules/why)"
done <$run/modules
ip link set lo up
n=0
while read -r name; do
  ip link set "vec$n" name "$name" || say "failed to name vec$n $name"
  n=$((n + 1))
done <$run/nets
cd /tmp || exit 1
say ready

while read -r verb n timeout; do
  case $verb in
  run)
    # Copied at the end and by a process that exits: hostfs writes a file back when its last user closes it.
    (
      timeout -k 1 "$timeout" sh "$run/$n.sh" >"/run/$n.out" 2>"/run/$n.err" </dev/null
      code=$?
      cat "/run/$n.out" >"$run/$n.out"
      cat "/run/$n.err" >"$run/$n.err"
      rm -f "/run/$n.out" "/run/$n.err"
      say "done $n $code"
    ) &
    ;;
  off) echo o >/proc/sysrq-trigger ;;
  esac
done
echo o >/proc/sysrq-trigger
sleep 5
