package notation

import (
	"slices"
	"testing"
)

// Twelve digits of SHA-256, zeros for nothing. The hash of "1301,1302,1303" is
// part b of many QUIC clients.
func TestAppendHash(t *testing.T) {
	for in, want := range map[string]string{
		"":               "000000000000",
		"1301,1302,1303": "55b375c5d22e",
		"0033,002b":      "234ea6891581",
	} {
		if got := string(AppendHash([]byte("x_"), []byte(in))); got != "x_"+want {
			t.Errorf("AppendHash(%q) = %s, want x_%s", in, got, want)
		}
	}
}

func TestGREASE(t *testing.T) {
	var got []uint16
	for v := range 1 << 16 {
		if GREASE(uint16(v)) {
			got = append(got, uint16(v))
		}
	}
	want := []uint16{
		0x0a0a, 0x1a1a, 0x2a2a, 0x3a3a, 0x4a4a, 0x5a5a, 0x6a6a, 0x7a7a,
		0x8a8a, 0x9a9a, 0xaaaa, 0xbaba, 0xcaca, 0xdada, 0xeaea, 0xfafa,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%04x, want %04x", got, want)
	}
}

func TestAppend(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{string(AppendCount(nil, 0)), "00"},
		{string(AppendCount(nil, 7)), "07"},
		{string(AppendCount(nil, 99)), "99"},
		{string(AppendCount(nil, 100)), "99"},
		{string(AppendHex16(nil, 0xc0f3)), "c0f3"},
		{string(AppendList(nil, nil)), ""},
		{string(AppendList(nil, []uint16{1})), "0001"},
		{string(AppendList(nil, []uint16{1, 0xff01})), "0001,ff01"},
		{string(AppendVersion(nil, 0x0304)), "13"},
		{string(AppendVersion(nil, 0xfefc)), "d3"},
		{string(AppendVersion(nil, 0x0305)), "00"},
		{string(AppendALPN(nil, []byte("h2"))), "h2"},
		{string(AppendALPN(nil, nil)), "00"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
