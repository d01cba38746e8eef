package capture

import "fmt"

// strangers are files that are often given where a capture is wanted. hint
// says what would have been right.
var strangers = []struct {
	magic, what, hint string
}{
	{"\xfd7zXZ\x00", "an xz archive", "unpack it, for example: xz -dc FILE |"},
	{"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it, for example: zstd -dc FILE |"},
	{"BZh", "a bzip2 archive", "unpack it, for example: bzip2 -dc FILE |"},
	{"\x04\x22\x4d\x18", "an lz4 archive", "unpack it, for example: lz4 -dc FILE |"},
	{"PK\x03\x04", "a zip archive", "unpack it, for example: unzip -p FILE |"},
	{"\x1f\x8b", "gzip inside gzip", "unpack it once more"},
	{"snoop\x00", "a snoop capture", "convert it: editcap -F pcap FILE out.pcap"},
	{"GMBU", "a Microsoft Network Monitor capture", "convert it: editcap -F pcap FILE out.pcap"},
	{"RTSS", "a Microsoft Network Monitor capture", "convert it: editcap -F pcap FILE out.pcap"},
	{"TRSNIFF ", "a Sniffer capture", "convert it: editcap -F pcap FILE out.pcap"},
	{"\xa1\xb2\x34\xcd", "a pcap file of a variant of 1998", "convert it: editcap -F pcap FILE out.pcap"},
	{"\xcd\x34\xb2\xa1", "a pcap file of a variant of 1998", "convert it: editcap -F pcap FILE out.pcap"},
	{"\xa1\xe2\xcb\x12", "a Navtel pcap file", "convert it: editcap -F pcap FILE out.pcap"},
	{"\x12\xcb\xe2\xa1", "a Navtel pcap file", "convert it: editcap -F pcap FILE out.pcap"},
	{"\x1c\x00\x01\xac", "an IXIA pcap file", "convert it: editcap -F pcap FILE out.pcap"},
	{"\xac\x01\x00\x1c", "an IXIA pcap file", "convert it: editcap -F pcap FILE out.pcap"},
}

// notCapture is the error for a file that begins with b: it says what was
// found and what would have been right.
func notCapture(b []byte, packed bool) error {
	if len(b) < 4 {
		return fmt.Errorf("%w: it has only %d bytes", ErrNotCapture, len(b))
	}
	for _, s := range strangers {
		if n := min(len(b), len(s.magic)); s.magic[:n] == string(b[:n]) {
			return fmt.Errorf("%w: it is %s; %s", ErrUnsupported, s.what, s.hint)
		}
	}
	where := "it begins"
	if packed {
		where = "what is in the gzip begins"
	}
	return fmt.Errorf("%w: %s with % x (%q), want pcap, pcapng or either in gzip", ErrNotCapture, where, b, b)
}
