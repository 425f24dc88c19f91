# What doctor asks a node, as root. It only reads. One line an answer: its name, a tab, what was found.
# Takes install directory, stores, user; then an address and a port of another node, as often as wanted.
export LC_ALL=C
say() { printf '%s\t%s\n' "$1" "${2//$'\n'/ }"; }
install=$1 stores=$2 user=$3
shift 3

say arch "$(uname -m)"
say os "$(. /etc/os-release 2>/dev/null && printf '%s %s' "$ID" "$VERSION_ID")"
say systemd "$(systemctl --version 2>/dev/null | head -n 1)"
say rsync "$(rsync --version 2>/dev/null | head -n 1)"
say ntp "$(timeout 5 timedatectl show --property NTPSynchronized --value 2>&1 | tail -n 1)"
say passwd "$(getent passwd "$user")"
say group "$(getent group "$user")"

# What is not there yet will lie on the file system of what is there of its path.
room() {
    local at=$2
    until [ -e "$at" ] || [ -z "$at" ]; do at=${at%/*}; done
    df -Pk -- "${at:-/}" 2>/dev/null | { read -r _; read -r _ _ _ free _ mount; say "$1" "$free $mount"; }
}
room install "$install"
room stores "$stores"
[ ! -d "$stores" ] || say used "$(timeout 5 du -sk -- "$stores" 2>/dev/null | cut -f 1)"

ip -o addr show 2>/dev/null | while read -r _ device _ address _; do say address "${address%/*} $device"; done
if listening=$(ss -ltnpH 2>&1); then
    say ss yes
    printf '%s\n' "$listening" | while read -r line; do [ -z "$line" ] || say listens "$line"; done
    printf '%s\n' "$listening" | grep -o 'pid=[0-9]*' | sort -u | while IFS== read -r _ pid; do
        say cgroup "$pid $(tail -n 1 "/proc/$pid/cgroup" 2>/dev/null)"
    done
fi

# A first packet that is lost is sent again after 1, 3 and 7 s (RFC 6298, and Linux's tcp_syn_retries).
reach() {
    local within=8 said code
    said=$(timeout "$within" bash -c 'exec 3<>"/dev/tcp/$1/$2"' bash "$1" "$2" 2>&1)
    code=$?
    [ "$code" -ne 124 ] || said="no answer within $within s"
    say reach "$1 $2 $code ${said##*: }"
}
while [ $# -ge 2 ]; do
    reach "$1" "$2" &
    shift 2
done
wait
say end end
