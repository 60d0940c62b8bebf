#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# node.sh - a compute node in a box: a real libvirtd with QEMU in namespaces of its own. For the demo and the tests.
#
#   node.sh run DIR [OPTION...]   becomes the node, in the foreground; ready when DIR/ready exists; killing the process
#                                 is a power cut: everything in the node dies with it. Running it again is a boot:
#                                 the disk (DIR) is as it was, /run is empty.
#       --name NAME               host name (default: node1)
#       --hook FILE               installed as /etc/libvirt/hooks/qemu
#       --spool DIR               seen in the node as /var/spool/virtspool
#       --run DIR                 seen in the node as /run/virtspool; emptied at boot
#       --cache DIR               libvirt's knowledge of QEMU, shared by nodes to boot faster (default: DIR/cache)
#       --images DIR              seen in the node as /var/lib/libvirt/images (default: DIR/lib/images)
#       --root DIR                another system, whose libvirt and QEMU run in the node: in a copy that is not kept
#       --daemons LIST            run in the node (default: libvirtd); the modular ones: "virtqemud virtlxcd virtnetworkd"
#                                 A second hook, qemu.d/ledger, writes the arguments of each call to DIR/log/ledger: a
#                                 count of the transitions that is none of ours.
#   node.sh exec DIR COMMAND...   runs a command in the node
#   node.sh virsh DIR ARGUMENT... the same as exec DIR virsh ...
#   node.sh libvirtd DIR start|stop|kill|reload      its daemons, whatever they are called
#   node.sh define DIR NAME [UUID]  makes the disk of a guest (guest.S), and defines it
#   node.sh guest DIR NAME        makes these, DIR/NAME.qcow2 and DIR/NAME.xml, for a libvirt elsewhere
#   node.sh pid DIR [NAME]        the process id, seen from outside, of the node's first process, or of a guest's QEMU
#
# The node has mount, pid, uts, ipc and net namespaces of its own (loopback only). Its /etc/libvirt, /var/lib, /var/log,
# /var/cache, /var/spool and /run are private, so a libvirt on the same machine is neither seen nor touched. DIR must be
# a short path outside of those. Needs root.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LANG=C.UTF-8

die() { echo "node.sh: $*" >&2; exit 1; }
# wait_for SECONDS COMMAND...
wait_for() { local end=$((SECONDS + $1)); shift; until "$@"; do ((SECONDS < end)) || return 1; sleep 0.05; done; }
gone() { [ ! -d "/proc/$1/fd" ]; }

### From outside

run() {
	name=node1 hook='' spool='' run='' images='' cache=$dir/cache root='' daemons=libvirtd
	while [ $# -gt 0 ]; do
		[ $# -ge 2 ] || die "$1 needs a value"
		case $1 in
		--name) name=$2 ;;
		--hook) hook=$2 ;;
		--spool) spool=$(realpath "$2") ;;
		--run) run=$(realpath "$2") ;;
		--cache) cache=$(realpath "$2") ;;
		--images) images=$(realpath "$2") ;;
		--root) root=$(realpath "$2") ;;
		--daemons) daemons=$2 ;;
		*) die "unknown option '$1'" ;;
		esac
		shift 2
	done
	[ "$(id -u)" = 0 ] || die "a node needs root"
	mkdir -p "$dir"/{etc/hooks/qemu.d,lib/images,log/qemu,cache,run}
	rm -f "$dir/ready"
	find "$dir/run" -mindepth 1 -delete
	[ -z "$run" ] || find "$run" -mindepth 1 -delete
	[ -e "$dir/etc/qemu.conf" ] || configure
	[ -z "$hook" ] || install -m 755 "$hook" "$dir/etc/hooks/qemu"
	[ -e "$dir/etc/hooks/qemu.d/ledger" ] || ledger
	mkdir -p /etc/libvirt # to mount over
	echo $$ >"$dir/pid"
	exec unshare --mount --uts --ipc --pid --net --fork --kill-child=SIGKILL --propagation private \
		env -i PATH="$PATH" LANG="$LANG" name="$name" spool="$spool" run="$run" images="$images" cache="$cache" root="$root" \
		daemons="$daemons" /bin/bash "$here/node.sh" init "$dir" </dev/null
}

# No AppArmor, no cgroups, no mount namespace for QEMU and no virtlogd: less to start, and none is what we test.
configure() {
	local d uuid
	uuid=$(cat /proc/sys/kernel/random/uuid)
	cat >"$dir/etc/qemu.conf" <<-X
		user = "root"
		group = "root"
		cgroup_controllers = []
		namespaces = []
		security_driver = "none"
		stdio_handler = "file"
	X
	for d in $daemons; do
		cat >"$dir/etc/$d.conf" <<-X
			host_uuid = "$uuid"
			unix_sock_group = "root"
			auth_unix_ro = "none"
			auth_unix_rw = "none"
			log_outputs = "3:file:/var/log/libvirt/$d.log"
		X
	done
}

ledger() {
	cat >"$dir/etc/hooks/qemu.d/ledger" <<-'X'
		#!/bin/sh
		echo "$1 $2 $3 $4" >>/var/log/libvirt/ledger
	X
	chmod 755 "$dir/etc/hooks/qemu.d/ledger"
	: >>"$dir/log/ledger"
}

first_process() {
	local outer
	outer=$(cat "$dir/pid" 2>/dev/null) || die "no node runs in '$dir'"
	first=$(cut -d' ' -f1 "/proc/$outer/task/$outer/children" 2>/dev/null) && [ -n "$first" ] || die "no node runs in '$dir'"
}

inside() { # COMMAND...
	first_process
	exec nsenter -t "$first" --mount --pid --uts --ipc --net --root --wd \
		env -i PATH="$PATH" LANG="$LANG" HOME=/root TERM=dumb LIBVIRT_DEFAULT_URI=qemu:///system "$@"
}

pid_of_guest() { # NAME: its pid in the node, then what that is outside
	local inner p
	first_process
	inner=$(cat "/proc/$first/root/run/libvirt/qemu/$1.pid" 2>/dev/null) || die "guest '$1' does not run"
	for p in $(pgrep --ns "$first" --nslist pid .); do
		[ "$(awk '/^NSpid:/ { print $NF }' "/proc/$p/status" 2>/dev/null)" = "$inner" ] || continue
		echo "$p"
		return
	done
	die "guest '$1' does not run"
}

disk() { # FILE
	local bin=$dir/guest.bin
	[ ! -e "$1" ] || return 0
	[ -e "$bin" ] || { as --32 "$here/guest.S" -o "$bin.o" &&
		ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o "$bin" "$bin.o" && truncate -s 1M "$bin"; }
	qemu-img convert -q -f raw -O qcow2 "$bin" "$1"
}

define() { # NAME [UUID]
	first_process
	disk "/proc/$first/root/var/lib/libvirt/images/$1.qcow2"
	domain "$1" "${2:-$(cat /proc/sys/kernel/random/uuid)}" >"$dir/run/$1.xml"
	inside virsh -q define "/run/$1.xml" >/dev/null
}

guest() { # NAME
	disk "$dir/$1.qcow2"
	domain "$1" "$(cat /proc/sys/kernel/random/uuid)" >"$dir/$1.xml"
}

domain() { # NAME UUID
	cat <<-X
		<domain type='qemu'>
		  <name>$1</name>
		  <uuid>$2</uuid>
		  <memory unit='MiB'>32</memory>
		  <vcpu>1</vcpu>
		  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
		  <features><acpi/></features>
		  <on_poweroff>destroy</on_poweroff>
		  <on_reboot>restart</on_reboot>
		  <on_crash>destroy</on_crash>
		  <devices>
		    <emulator>/usr/bin/qemu-system-x86_64</emulator>
		    <disk type='file' device='disk'>
		      <driver name='qemu' type='qcow2'/>
		      <source file='/var/lib/libvirt/images/$1.qcow2'/>
		      <target dev='hda' bus='ide'/>
		    </disk>
		    <controller type='usb' model='none'/>
		    <serial type='unix'><source mode='bind' path='/run/$1.serial'/></serial>
		    <panic model='isa'/>
		    <memballoon model='none'/>
		  </devices>
		</domain>
	X
}

### Inside

# The node's first process: makes its view of the disk, starts libvirtd, and reaps what is left to it.
init() {
	local d
	cd /
	hostname "$name"
	[ -z "$root" ] || change_root
	mount -t proc proc /proc
	mkdir -p "$dir/cgroup" && mount --rbind /sys/fs/cgroup "$dir/cgroup"
	mount -t sysfs sysfs /sys                     # with the interfaces of this network namespace
	mount --rbind "$dir/cgroup" /sys/fs/cgroup # for containers
	ip link set lo up
	mount --bind "$dir/etc" /etc/libvirt
	for d in /var/lib /var/log /var/cache /var/spool; do mount -t tmpfs -o mode=755 tmpfs $d; done
	bind "$dir/lib" /var/lib/libvirt
	bind "$dir/log" /var/log/libvirt
	bind "$cache" /var/cache/libvirt
	[ -z "$spool" ] || bind "$spool" /var/spool/virtspool
	[ -z "$images" ] || bind "$images" /var/lib/libvirt/images
	mount --bind "$dir/run" /run
	[ -z "$run" ] || bind "$run" /run/virtspool
	accounts
	printf '127.0.0.1 localhost %s\n::1 localhost\n' "$name" >/run/hosts && mount --bind /run/hosts /etc/hosts
	echo "$daemons" >/run/daemons
	libvirtd_start || { echo "$daemons: no start" >&2; tail -n 10 /var/log/libvirt/*.log >&2; exit 1; }
	touch "$dir/ready"
	trap 'exit 0' TERM
	while :; do sleep 86400 & wait $!; done
}

# To a copy of another system, in memory, in which what the node shares, also with its neighbours, stands where it did.
change_root() {
	local d
	mount -t tmpfs tmpfs /mnt
	mkdir /mnt/{upper,work,root}
	mount -t overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
	for d in /dev /proc /sys "$here" "${dir%/*}" "$spool" "$run" "$images" "$cache"; do
		[ -z "$d" ] || { mkdir -p "/mnt/root$d" && mount --rbind "$d" "/mnt/root$d"; }
	done
	cd /mnt/root
	pivot_root . .
	umount -l .
	cd /
}

bind() { mkdir -p "$2" && mount --bind "$1" "$2"; }

# The QEMU driver does not start without the accounts that Debian's libvirt-daemon-system makes.
accounts() {
	local f
	for f in passwd group; do cp /etc/$f "/run/$f"; done
	getent group kvm >/dev/null || echo 'kvm:x:64056:' >>/run/group
	getent group libvirt-qemu >/dev/null || echo 'libvirt-qemu:x:64055:' >>/run/group
	getent passwd libvirt-qemu >/dev/null ||
		echo 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin' >>/run/passwd
	for f in passwd group; do mount --bind "/run/$f" "/etc/$f"; done
}

answers() { virsh -c qemu:///system version >/dev/null 2>&1; }

libvirtd_start() {
	local d
	for d in $(cat /run/daemons); do
		env -i PATH="$PATH" LC_ALL=C "$d" -d -p "/run/$d.pid" </dev/null >/dev/null 2>>/var/log/libvirt/start.log
	done
	wait_for 60 answers
}

libvirtd() { # start|stop|kill|reload
	local d pid
	[ "$1" != start ] || { libvirtd_start; return; }
	for d in $(cat /run/daemons); do
		pid=$(cat "/run/$d.pid")
		case $1 in
		stop) kill "$pid" && wait_for 60 gone "$pid" ;;
		kill) kill -KILL "$pid" && wait_for 60 gone "$pid" ;;
		reload) kill -HUP "$pid" ;;
		*) die "libvirtd $1?" ;;
		esac
	done
}

[ $# -ge 2 ] || { sed -n '4,/^set/s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2; }
command=$1
mkdir -p "$2"
dir=$(realpath "$2")
shift 2
case $command in
run) run "$@" ;;
exec) inside "$@" ;;
virsh) inside virsh "$@" ;;
libvirtd) inside /bin/bash "$here/node.sh" in-libvirtd "$dir" "$@" ;;
define) define "$@" ;;
guest) guest "$@" ;;
pid) if [ $# -gt 0 ]; then pid_of_guest "$1"; else first_process; echo "$first"; fi ;;
init) init ;;
in-libvirtd) libvirtd "$@" ;;
*) die "unknown command '$command'" ;;
esac
