# What doctor asks a node, as root. It only reads. One line an answer: its name, a tab, what was found.
# Takes install directory, stores, user, unit; then an address and a port of another node, as often as wanted.
export LC_ALL=C
say() { printf '%s\t%s\n' "$1" "${2//$'\n'/ }"; }
install=$1 stores=$2 user=$3 unit=$4
shift 4

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

# Drop-ins of the unit and of all services: of equal names the first found counts, and they are read by name (systemd.unit(5)).
places='/etc/systemd/system.control /run/systemd/system.control /etc/systemd/system /run/systemd/system /run/systemd/generator /usr/local/lib/systemd/system /usr/lib/systemd/system'
declare -A drop_in=()
for kind in "$unit.d" service.d; do
    for place in $places; do
        for file in "$place/$kind"/*.conf; do
            [ ! -e "$file" ] || [ -n "${drop_in[${file##*/}]}" ] || drop_in[${file##*/}]=$file
        done
    done
done
emptied=
while read -r name; do
    while IFS= read -r line || [ -n "$line" ]; do
        case ${line//[[:space:]]/} in
        LoadCredential=) emptied=${drop_in[$name]} ;;
        LoadCredential=*) emptied= ;;
        esac
    done < "${drop_in[$name]}"
done < <([ ${#drop_in[@]} = 0 ] || printf '%s\n' "${!drop_in[@]}" | sort)
[ -z "$emptied" ] || say emptied "$emptied"

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
