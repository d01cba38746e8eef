#!/usr/bin/env bash
# Records examples/sample/sample.pcap: real clients against real servers in two
# network namespaces joined by a veth pair. Nothing of the host's traffic is in
# it. Needs root, and: iproute2 iputils-ping ethtool tcpdump curl openssl openssh-client
# openssh-server dnsmasq-base dnsutils python3.
set -euo pipefail

out=${1:-$(dirname "$0")/sample.pcap}
for tool in ip ping tcpdump curl openssl ssh ssh-keygen dnsmasq dig python3 /usr/sbin/sshd; do
  command -v "$tool" >/dev/null || { echo "record.sh: $tool is not installed" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "record.sh: needs root to make network namespaces" >&2; exit 2; }

dir=$(mktemp -d)
client=whorl-c$$ server=whorl-s$$
cleanup() {
  for ns in "$client" "$server"; do
    ip netns pids "$ns" 2>/dev/null | xargs -r kill 2>/dev/null || true
    ip netns del "$ns" 2>/dev/null || true
  done
  rm -rf "$dir"
}
trap cleanup EXIT

ip netns add "$client"
ip netns add "$server"
ip link add name vc netns "$client" type veth peer name vs netns "$server"
on() { ip netns exec "$@"; }
on "$client" sh -c 'ip link set lo up; ip addr add 192.0.2.10/24 dev vc; ip addr add 2001:db8::10/64 dev vc nodad; ip link set vc up'
on "$server" sh -c 'ip link set lo up; ip addr add 192.0.2.80/24 dev vs; ip addr add 2001:db8::80/64 dev vs nodad; ip link set vs up'
# Segments as they are on a real wire, not as offloading leaves them.
for side in "$client vc" "$server vs"; do
  # shellcheck disable=SC2086
  set -- $side
  on "$1" ethtool -K "$2" tso off gso off gro off tx off >/dev/null 2>&1 || true
done

# Servers.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/O=Whorl sample/CN=www.example.net' \
  -keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
printf 'Hello from the sample.\n' >"$dir/index.html"
(cd "$dir" && exec ip netns exec "$server" python3 -m http.server --bind :: 80 >/dev/null 2>&1) &
on "$server" openssl s_server -quiet -www -accept 443 -key "$dir/key.pem" -cert "$dir/cert.pem" -alpn http/1.1 >/dev/null 2>&1 &
on "$server" dnsmasq --no-daemon --no-resolv --no-hosts --user=root --pid-file="$dir/dns.pid" \
  --address=/www.example.net/192.0.2.80 --address=/www.example.net/2001:db8::80 >/dev/null 2>&1 &
ssh-keygen -q -t ed25519 -N '' -f "$dir/host"
ssh-keygen -q -t ed25519 -N '' -f "$dir/user"
install -d -m 700 "$dir/auth" && cp "$dir/user.pub" "$dir/auth/keys" && chmod 600 "$dir/auth/keys"
mkdir -p /run/sshd
on "$server" /usr/sbin/sshd -D -p 22 -h "$dir/host" -f /dev/null -o PidFile=none -o StrictModes=no -o UsePAM=no \
  -o AuthorizedKeysFile="$dir/auth/keys" -o PasswordAuthentication=no >/dev/null 2>&1 &
for port in 80 443 22; do
  for _ in $(seq 50); do on "$client" bash -c "exec 3<>/dev/tcp/192.0.2.80/$port" 2>/dev/null && break; sleep 0.1; done
done

# Clients.
on "$client" tcpdump -q -i vc -U -s 0 -w "$dir/sample.pcap" 'ip or (ip6 and (tcp or udp)) or icmp' 2>/dev/null &
dump=$!
sleep 1
as() { on "$client" "$@" >/dev/null 2>&1 || echo "record.sh: $1 failed" >&2; }
resolve=(--resolve www.example.net:443:192.0.2.80 --cacert "$dir/cert.pem")
as dig +tries=1 @192.0.2.80 www.example.net A
as dig +tries=1 @192.0.2.80 www.example.net AAAA
as ping -c 2 -i 0.2 192.0.2.80
as curl -s -A 'sample/1.0' -H 'Accept-Language: da,en;q=0.5' -b 'theme=dark; session=1' http://192.0.2.80/
as curl -s -g 'http://[2001:db8::80]/'
as curl -s "${resolve[@]}" https://www.example.net/
as curl -s --tlsv1.2 --tls-max 1.2 "${resolve[@]}" https://www.example.net/
as sh -c "printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -quiet -connect 192.0.2.80:443 -servername www.example.net"
as python3 -c 'import ssl,urllib.request as u; c=ssl.create_default_context(); c.check_hostname=False; c.verify_mode=ssl.CERT_NONE; u.urlopen("https://192.0.2.80/", context=c).read()'
as ssh -i "$dir/user" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR root@192.0.2.80 'for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; sleep 0.05; done'
on "$client" bash -c 'exec 3<>/dev/tcp/192.0.2.80/4444' 2>/dev/null || true # a closed port: SYN, RST
sleep 1
ip netns pids "$client" | xargs -r kill -TERM # tcpdump; it writes what it has
wait "$dump" || true
install -m 644 "$dir/sample.pcap" "$out"
echo "$out: $(stat -c %s "$out") bytes"
