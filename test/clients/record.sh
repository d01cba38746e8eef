#!/usr/bin/env bash
# Records real programs, each in a capture of its own: OUTDIR/NAME.pcap, and
# OUTDIR/NAME.keys where the program gives its TLS secrets away.
#
#   record.sh OUTDIR [NAME...]     all programs, or those of the names
#
# Client and server sit in two network namespaces joined by a veth pair, which
# has no way out: nothing of the host's traffic can be in a recording. Needs
# root, iproute2, tcpdump, openssl and go; ethtool where there is one. A program
# that is not installed, or fails, is left out with a line. Debian's packages:
# curl git wget gnutls-bin openssh-client openssh-server nodejs python3 chromium
# dnsutils dnsmasq-base udhcpc isc-dhcp-client.
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: record.sh OUTDIR [NAME...]" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
wanted=" $* "
here=$(cd "$(dirname "$0")" && pwd)
for tool in ip tcpdump openssl go timeout; do
  command -v "$tool" >/dev/null || { echo "record.sh: $tool is not installed" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "record.sh: needs root to make network namespaces" >&2; exit 2; }

dir=$(mktemp -d)
client=whorl-c$$ server=whorl-s$$
cleanup() {
  for ns in "$client" "$server"; do
    ip netns pids "$ns" 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
    ip netns del "$ns" 2>/dev/null || true
  done
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

ip netns add "$client"
ip netns add "$server"
on() { ip netns exec "$@"; }
for ns in "$client" "$server"; do
  on "$ns" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad' || true # addresses usable at once
done
ip link add name vc netns "$client" type veth peer name vs netns "$server"
on "$client" sh -c 'ip link set lo up; ip addr add 192.0.2.10/24 dev vc; ip addr add 2001:db8::10/64 dev vc nodad; ip link set vc up'
on "$server" sh -c 'ip link set lo up; ip addr add 192.0.2.80/24 dev vs; ip addr add 2001:db8::80/64 dev vs nodad; ip link set vs up'
# Segments as they are on a real wire, not as offloading leaves them.
on "$client" ethtool -K vc tso off gso off gro off tx off >/dev/null 2>&1 || true
on "$server" ethtool -K vs tso off gso off gro off tx off >/dev/null 2>&1 || true

# --- Servers. Each ends by itself after ten minutes, whatever happens here.

serve() {
  timeout -k 1 600 ip netns exec "$server" "$@" >/dev/null 2>&1 </dev/null &
  disown
}

# A chain of two: a leaf whose names are more than one attribute, and its issuer.
cat >"$dir/ca.cnf" <<'CNF'
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign
subjectKeyIdentifier=hash
CNF
cat >"$dir/leaf.cnf" <<'CNF'
subjectAltName=DNS:www.example.net,IP:192.0.2.80
basicConstraints=CA:FALSE
keyUsage=digitalSignature
extendedKeyUsage=serverAuth
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
CNF
cat >"$dir/user.cnf" <<'CNF'
extendedKeyUsage=clientAuth
CNF
certificate() { # NAME SUBJECT EXTENSIONS [x509 arguments: who signs]
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$dir/$1.key" -out "$dir/$1.csr"
  openssl x509 -req -in "$dir/$1.csr" -days 3650 -extfile "$3" -out "$dir/$1.pem" "${@:4}"
}
{
  certificate ca '/C=DK/O=Whorl test/CN=Test CA' "$dir/ca.cnf" -signkey "$dir/ca.key"
  certificate leaf '/C=DK/O=Whorl test/OU=Recordings/CN=www.example.net' "$dir/leaf.cnf" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial
  certificate user '/CN=user+UID=7' "$dir/user.cnf" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial
} 2>/dev/null
cat "$dir/leaf.pem" "$dir/ca.pem" >"$dir/chain.pem"
(cd "$here/peer" && go build -o "$dir/peer" .)
serve "$dir/peer" serve "$dir/chain.pem" "$dir/leaf.key"
tls_server=(openssl s_server -quiet -key "$dir/leaf.key" -cert "$dir/leaf.pem" -cert_chain "$dir/ca.pem")
serve "${tls_server[@]}" -www -accept 4443
serve "${tls_server[@]}" -www -accept 4444 -Verify 1 -verify_quiet -CAfile "$dir/ca.pem"
serve "${tls_server[@]}" -dtls1_2 -listen -accept 4433
# A mail server that begins TLS when it is asked to, and a proxy: what is behind
# these programs' first words is TLS in the middle of a connection.
cat >"$dir/middle.py" <<'PY'
import socket, ssl, sys, threading
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(sys.argv[1], sys.argv[2])

def mail(c):
    f = c.makefile("rb")
    c.sendall(b"220 www.example.net ESMTP\r\n")
    f.readline()
    c.sendall(b"250-www.example.net\r\n250 STARTTLS\r\n")
    while b"STARTTLS" not in f.readline():
        pass
    c.sendall(b"220 go ahead\r\n")
    tls.wrap_socket(c, server_side=True).unwrap()

def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass

def proxy(c):
    head = b""
    while b"\r\n\r\n" not in head:
        head += c.recv(4096)
    s = socket.create_connection(("192.0.2.80", int(head.split()[1].rsplit(b":", 1)[1])))
    c.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    threading.Thread(target=pump, args=(c, s), daemon=True).start()
    pump(s, c)

def serve(port, handle):
    l = socket.create_server(("192.0.2.80", port))
    while True:
        threading.Thread(target=handle, args=(l.accept()[0],), daemon=True).start()

threading.Thread(target=serve, args=(25, mail), daemon=True).start()
serve(3128, proxy)
PY
serve python3 "$dir/middle.py" "$dir/chain.pem" "$dir/leaf.key"
dhcp() { # dnsmasq is started anew for each client: no client meets another's lease
  timeout -k 1 30 ip netns exec "$server" dnsmasq --no-daemon --no-resolv --no-hosts --no-ping --user=root --pid-file="$dir/dns.pid" \
    --address=/www.example.net/192.0.2.80 --address=/www.example.net/2001:db8::80 \
    --dhcp-range=192.0.2.100,192.0.2.200,1h --dhcp-range=2001:db8::100,2001:db8::1ff,64,1h --dhcp-authoritative \
    --dhcp-leasefile="$dir/leases.$name" >/dev/null 2>&1 </dev/null &
  disown
}
if [ -x /usr/sbin/sshd ]; then
  ssh-keygen -q -t ed25519 -N '' -f "$dir/host"
  ssh-keygen -q -t ed25519 -N '' -f "$dir/user"
  install -d -m 700 "$dir/auth" && cp "$dir/user.pub" "$dir/auth/keys" && chmod 600 "$dir/auth/keys"
  mkdir -p /run/sshd
  serve /usr/sbin/sshd -D -p 22 -h "$dir/host" -f /dev/null -o PidFile=none -o StrictModes=no -o UsePAM=no \
    -o AuthorizedKeysFile="$dir/auth/keys" -o PasswordAuthentication=no -o Subsystem='sftp internal-sftp'
fi
for port in 80 443 8443 4443 4444 22; do
  for _ in $(seq 50); do
    on "$client" timeout 1 bash -c "exec 3<>/dev/tcp/192.0.2.80/$port" 2>/dev/null && break
    sleep 0.1
  done
done
# A proxy of another kind: what ssh -D offers.
serve ssh -N -D 192.0.2.80:1080 -i "$dir/user" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@192.0.2.80
sleep 1 # until the last of these has ended: it is nobody's recording

# --- One recording.

interface=vc    # where
snaplen=0       # bytes kept of a packet; 0: all
filter='tcp or udp'
seconds=20      # what a program may take
input=/dev/null # its standard input

# record NAME PROGRAM ARG... runs PROGRAM in the client's namespace and records
# what it says. Nothing here waits without a limit.
record() {
  local dump size
  name=$1
  shift
  [ "$wanted" = "  " ] || [[ $wanted == *" $name "* ]] || return 0
  if ! command -v "$1" >/dev/null; then
    echo "$name: skipped, $1 is not installed"
    return 0
  fi
  rm -f "$dir/keys" "$dir/dump.log"
  [ -z "${before-}" ] || { "$before"; sleep 1; }
  timeout -k 1 60 ip netns exec "$client" tcpdump -i "$interface" --immediate-mode -U -s "$snaplen" -w "$dir/$name.pcap" "$filter" 2>"$dir/dump.log" &
  dump=$!
  for _ in $(seq 50); do grep -q 'listening on' "$dir/dump.log" 2>/dev/null && break; sleep 0.1; done
  local status=0
  SSLKEYLOGFILE="$dir/keys" HOME="$dir" timeout -k 1 "$seconds" ip netns exec "$client" "$@" <"$input" >"$dir/$name.log" 2>&1 || status=$?
  sleep 0.4
  kill -TERM "$dump" 2>/dev/null || true # timeout passes it on to tcpdump, which writes what it has
  wait "$dump" 2>/dev/null || true
  size=$(stat -c %s "$dir/$name.pcap" 2>/dev/null || echo 0)
  if [ "$status" != 0 ] && [ "$status" != "${may_end-0}" ] || [ "$size" -lt 100 ]; then
    echo "$name: skipped, $1 ended with $status: $(tail -n 1 "$dir/$name.log" | cut -c 1-200)"
    return 0
  fi
  install -m 644 "$dir/$name.pcap" "$out/$name.pcap"
  rm -f "$out/$name.keys"
  # Comments of a key log are dropped: they name a library, not a secret.
  if [ -s "$dir/keys" ]; then grep -v '^#' "$dir/keys" >"$out/$name.keys"; fi
  echo "$name: $size bytes"
}

host=www.example.net
to=(--resolve "$host:443:192.0.2.80" --resolve "$host:80:192.0.2.80" --resolve "$host:8443:192.0.2.80" --resolve "$host:4443:192.0.2.80" --cacert "$dir/ca.pem" -sS)

# --- HTTP in clear.
record curl-http curl "${to[@]}" -A 'whorl-test/1.0' -H 'Accept-Language: da, en-gb;q=0.8' -H 'Referer: http://example.net/' \
  -b 'theme=dark; session=1; a-b=2; a=3' "http://$host/" "http://$host/again"
record curl-post-http10 curl -sS --http1.0 --data 'a=1&b=2' "http://192.0.2.80/form"
record curl-h2c curl "${to[@]}" --http2-prior-knowledge -H 'Accept-Language: *' -b 'z=1; y=2' "http://$host/"
record node-h2c node -e '
const c = require("http2").connect("http://192.0.2.80");
const ask = (h, then) => c.request(h).on("end", then).resume();
ask({":path": "/", "cookie": ["b=2; a=1", "c=3"], "accept-language": "de-DE", "referer": "http://x/"},
  () => ask({":path": "/two", ":method": "PUT", "cookie": "a=1"}, () => c.close()));'
record curl-http-ipv6 curl -sS -g -X OPTIONS -H 'Accept-Language: e;q=0.5, f' 'http://[2001:db8::80]/'

# --- The same program on other hosts: without options of TCP, behind a tunnel
# and with ECN, with a window too small to scale, in front of a closed port.
set_tcp() { on "$client" sh -c "cd /proc/sys/net/ipv4 && echo $1 >tcp_timestamps && echo $1 >tcp_sack && echo $1 >tcp_window_scaling && echo $2 >tcp_ecn"; }
set_tcp 0 2 || true
record curl-no-options curl -sS http://192.0.2.80/
set_tcp 1 1 || true
on "$client" ip link set vc mtu 1420
record curl-tunnel-ecn curl -sS http://192.0.2.80/
on "$client" ip link set vc mtu 1500
set_tcp 1 2 || true
record python-small-window python3 -c '
import socket as s
c = s.socket(); c.setsockopt(s.SOL_SOCKET, s.SO_RCVBUF, 4096); c.connect(("192.0.2.80", 80))
c.sendall(b"GET / HTTP/1.1\nhost: x\nCookie: a; b=2;b=1\n\n"); c.recv(4096)'
may_end=7
record curl-closed-port curl -sS http://192.0.2.80:81/
may_end=0

# --- TLS over TCP.
record curl-tls13-h2 curl "${to[@]}" -b 'c=1' -H 'Accept-Language: en-US,en;q=0.5' "https://$host/"
record curl-tls13-http11 curl "${to[@]}" --http1.1 "https://$host/"
record curl-tls12-h2 curl "${to[@]}" --tls-max 1.2 "https://$host/"
record curl-tls13-ipv6 curl -sS -k -g --tls13-ciphers TLS_AES_128_GCM_SHA256 'https://[2001:db8::80]/'
record curl-tls12-http10 curl "${to[@]}" --tls-max 1.2 --http1.0 --no-alpn "https://$host:4443/"
record curl-pq curl "${to[@]}" --curves X25519MLKEM768:X25519 "https://$host/"
record wget-gnutls wget -q -O /dev/null --no-check-certificate https://192.0.2.80/
may_end=128 # there is nothing to fetch
record curl-gnutls git -c http.sslVerify=false ls-remote https://192.0.2.80/nothing # libcurl in its GnuTLS build
may_end=0
record gnutls-cli gnutls-cli --insecure --sni-hostname "$host" --alpn http/1.1 -p 443 192.0.2.80
record gnutls-cli-tls12 gnutls-cli --insecure --priority 'NORMAL:-VERS-ALL:+VERS-TLS1.2' -p 4443 192.0.2.80
printf 'GET / HTTP/1.0\r\n\r\n' >"$dir/request"
input=$dir/request
record openssl-tls13 openssl s_client -quiet -keylogfile "$dir/keys" -connect 192.0.2.80:4443 -servername "$host"
record openssl-tls12-certificate openssl s_client -quiet -tls1_2 -keylogfile "$dir/keys" -cert "$dir/user.pem" -key "$dir/user.key" -connect 192.0.2.80:4444
record openssl-retry openssl s_client -quiet -keylogfile "$dir/keys" -alpn http/1.1 -connect 192.0.2.80:8443 -servername "$host"
record openssl-plain openssl s_client -quiet -tls1_2 -noservername -no_ticket -cipher ECDHE-ECDSA-AES128-GCM-SHA256 -connect 192.0.2.80:4443
may_end=1 # nobody answers so old a hello
record openssl-tls10 openssl s_client -quiet -tls1 -cipher 'ALL:@SECLEVEL=0' -connect 192.0.2.80:443
may_end=0 input=/dev/null
record go-http "$dir/peer" get https://192.0.2.80/
record go-retry "$dir/peer" get https://192.0.2.80:8443/
record go-http3 "$dir/peer" get3 https://192.0.2.80/
record go-http3-version2 "$dir/peer" get3v2 https://192.0.2.80/
record go-http3-retry "$dir/peer" get3 https://192.0.2.80:8443/
record python-urllib python3 -c '
import os, ssl, urllib.request as u
c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
c.keylog_filename = os.environ["SSLKEYLOGFILE"]
u.urlopen(u.Request("https://192.0.2.80/", headers={"Accept-Language": "fr"}), context=c).read()'
record node-https node --tls-keylog="$dir/keys" -e '
require("https").get({host: "192.0.2.80", servername: "www.example.net", rejectUnauthorized: false, agent: false}, r => r.resume())'

# --- TLS in the middle of a connection.
record curl-connect curl "${to[@]}" -p -x http://192.0.2.80:3128 "https://$host/"
record curl-socks4 curl -sS -k --socks4 192.0.2.80:1080 https://192.0.2.80/
record curl-socks5 curl -sS -k --socks5 192.0.2.80:1080 https://192.0.2.80/
record openssl-starttls openssl s_client -quiet -tls1_2 -keylogfile "$dir/keys" -starttls smtp -connect 192.0.2.80:25 -servername "$host"

# --- DTLS, with its cookie and its fragments.
may_end=124 seconds=3 # the server never hangs up
record openssl-dtls12 openssl s_client -quiet -dtls1_2 -mtu 400 -connect 192.0.2.80:4433 -servername "$host"
record gnutls-dtls gnutls-cli --udp --insecure --priority NORMAL:+VERS-DTLS1.0 -p 4433 192.0.2.80
may_end=0 seconds=20

# --- A browser. What it asks of the world outside stays in the namespace.
pin=$(openssl x509 -in "$dir/leaf.pem" -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl base64)
browser() { # NAME ARG... URL
  local name=$1
  shift
  record "$name" chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update \
    --disable-sync --disable-dev-shm-usage --user-data-dir="$dir/profile-$name" --ssl-key-log-file="$dir/keys" \
    --disable-features=WebRtcHideLocalIpsWithMdns --host-resolver-rules="MAP $host 192.0.2.80, MAP * ~NOTFOUND, EXCLUDE 192.0.2.80" --ignore-certificate-errors-spki-list="$pin" "$@"
}
filter='host 192.0.2.80 and port 443' seconds=60
browser chromium-tls --dump-dom --disable-quic "https://$host/"
browser chromium-quic --dump-dom --enable-quic --origin-to-force-quic-on="$host:443" "https://$host/"
# Two ends of a call in one page, which speak DTLS over the loopback.
cat >"$dir/call.html" <<'HTML'
<script>
const a = new RTCPeerConnection(), b = new RTCPeerConnection();
a.onicecandidate = e => e.candidate && b.addIceCandidate(e.candidate);
b.onicecandidate = e => e.candidate && a.addIceCandidate(e.candidate);
a.createDataChannel("call");
(async () => {
  await a.setLocalDescription(await a.createOffer()); await b.setRemoteDescription(a.localDescription);
  await b.setLocalDescription(await b.createAnswer()); await a.setRemoteDescription(b.localDescription);
})();
</script>
HTML
# It looks for its own address along the default route, which leads nowhere.
on "$client" ip route add default via 192.0.2.80
interface=lo filter='udp and host 192.0.2.10' seconds=5 may_end=124 # the page stays open
browser chromium-webrtc "file://$dir/call.html"
interface=vc filter='tcp or udp' seconds=20 may_end=0
on "$client" ip route del default

# --- SSH. Of the copy only headers are kept: its lengths are what counts.
secure=(-i "$dir/user" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR)
head -c 400000 /dev/urandom >"$dir/file"
record ssh-command ssh "${secure[@]}" root@192.0.2.80 'for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.05; done'
cat >"$dir/type" <<'SH'
#!/bin/sh
# 130 keys, one at a time, as a person would.
(for i in $(seq 130); do printf x; sleep 0.02; done; printf '\r\004') | "$@"
SH
chmod +x "$dir/type"
record ssh-typing "$dir/type" ssh -tt "${secure[@]}" root@192.0.2.80 cat
snaplen=128
record scp-upload scp -q "${secure[@]}" "$dir/file" root@192.0.2.80:"$dir/uploaded"
record scp-download scp -q "${secure[@]}" "root@192.0.2.80:$dir/file" "$dir/downloaded"
snaplen=0

# --- Names and addresses. The clients take no address: the script they would
# call for it does nothing.
if command -v dnsmasq >/dev/null; then
  before=dhcp
  record dig dig +tries=1 +timeout=3 @192.0.2.80 "$host" AAAA
  record udhcpc udhcpc -f -n -q -i vc -s /bin/true -x hostname:whorl -F whorl.example.net
  may_end=124 seconds=6 # dhclient stays, for the renewal
  record dhclient dhclient -1 -d -4 -sf /bin/true -lf "$dir/dhclient.leases" -pf "$dir/dhclient.pid" -cf /dev/null vc
  record dhclient6 dhclient -1 -d -6 -sf /bin/true -lf "$dir/dhclient6.leases" -pf "$dir/dhclient6.pid" -cf /dev/null vc
  may_end=0 seconds=20
else
  echo "dig, udhcpc, dhclient: skipped, dnsmasq is not installed"
fi
echo "$out: $(du -cb "$out"/*.pcap "$out"/*.keys 2>/dev/null | tail -n 1 | cut -f 1) bytes in all"
