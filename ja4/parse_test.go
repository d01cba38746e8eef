package ja4

import (
	"fmt"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

func TestParse(t *testing.T) {
	const h1, h2, h3 = "8daaf6152771", "e5627efa2ab1", "000000000000"
	for _, c := range []struct {
		kind  Type
		value string
		want  string // name=value, joined by blanks
	}{
		{TypeJA4, "t13d1516h2_" + h1 + "_" + h2,
			"protocol=t version=13 sni=d cipher_count=15 extension_count=16 alpn=h2 cipher_hash=" + h1 + " extension_hash=" + h2},
		{TypeJA4O, "qs3i000000_" + h3 + "_" + h3,
			"protocol=q version=s3 sni=i cipher_count=00 extension_count=00 alpn=00 cipher_hash=" + h3 + " extension_hash=" + h3},
		{TypeJA4S, "t130200_1301_234ea6891581", "protocol=t version=13 extension_count=02 alpn=00 cipher=1301 extension_hash=234ea6891581"},
		{TypeJA4H, "ge20nn12en;*_" + h1 + "_" + h2 + "_" + h3,
			"method=ge version=20 cookie=n referer=n header_count=12 language=en;* header_hash=" + h1 + " cookie_name_hash=" + h2 + " cookie_hash=" + h3},
		{TypeJA4H, "ge11nn05en_u_" + h1 + "_" + h3 + "_" + h3, // Accept-Language: en_US
			"method=ge version=11 cookie=n referer=n header_count=05 language=en_u header_hash=" + h1 + " cookie_name_hash=" + h3 + " cookie_hash=" + h3},
		{TypeJA4HRO, "ge11cr02enus_Host,X_Y_a,b_a=1,b=2", "method=ge version=11 cookie=c referer=r header_count=02 language=enus names=Host,X_Y_a,b_a=1,b=2"},
		{TypeJA4X, h1 + "_" + h2 + "_" + h3, "issuer_hash=" + h1 + " subject_hash=" + h2 + " extension_hash=" + h3},
		{TypeJA4L, "149_64", "latency_us=149 ttl=64"},
		{TypeJA4LS, "5749_56_15994", "latency_us=5749 ttl=56 application_latency_us=15994"},
		{TypeJA4T, "65535_2-1-3-1-1-8-4-0-0_1440_6", "window=65535 options=2-1-3-1-1-8-4-0-0 mss=1440 window_scale=6"},
		{TypeJA4TS, "28960_2-4-8-1-3_1460_7", "window=28960 options=2-4-8-1-3 mss=1460 window_scale=7"},
		{TypeJA4TS, "28960_2-4-8-1-3_1460_7_1-2-4-8-R6", "window=28960 options=2-4-8-1-3 mss=1460 window_scale=7 retries=1-2-4-8-R6"},
		{TypeJA4SSH, "c36s36_c51s80_c69s0", "client_mode=36 server_mode=36 client_packets=51 server_packets=80 client_acks=69 server_acks=0"},
		{TypeJA4D, "disco1500in_61-57-60_1-3-6", "message_type=disco max_size=1500 address=i domain=n options=61-57-60 requests=1-3-6"},
		{TypeJA4D6, "solct0014nd_1-3-8_00", "message_type=solct client_id_length=0014 address=n domain=d options=1-3-8 requests=00"},
	} {
		parts, err := Parse(c.kind, c.value)
		if err != nil {
			t.Errorf("Parse(%v, %q): %v", c.kind, c.value, err)
			continue
		}
		var got []string
		for _, p := range parts {
			got = append(got, fmt.Sprintf("%s=%s", p.Name, p.Value))
			if parts.Part(p.Name) != p.Value {
				t.Errorf("%v: Part(%q) = %q, want %q", c.kind, p.Name, parts.Part(p.Name), p.Value)
			}
		}
		if list := strings.Join(got, " "); list != c.want {
			t.Errorf("Parse(%v, %q) =\n%s, want\n%s", c.kind, c.value, list, c.want)
		}
		// Neither less nor more is taken for the whole.
		if c.kind == TypeJA4HRO {
			continue
		}
		for cut := range len(c.value) {
			if _, err := Parse(c.kind, c.value[:cut]); err == nil && !acceptsPrefix(c.value[:cut], c.value) {
				t.Errorf("Parse(%v, %q): no error", c.kind, c.value[:cut])
			}
		}
		if _, err := Parse(c.kind, c.value+"_"); err == nil {
			t.Errorf("Parse(%v, %q): no error", c.kind, c.value+"_")
		}
	}
	if (Parts{}).Part("version") != "" {
		t.Error("a part that is not there has a value")
	}
}

// acceptsPrefix: where a number or a list ends the value or stands before an
// optional section, a shorter value is a value too.
func acceptsPrefix(prefix, value string) bool {
	last := prefix[len(prefix)-1]
	return last != '_' && strings.Count(prefix, "_") >= strings.Count(value, "_")-1
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		kind  Type
		value string
		want  string
	}{
		{TypeJA4, "", `"" is not a ja4 fingerprint: want one of tqd at ""`},
		{TypeJA4, "x13d1516h2_8daaf6152771_e5627efa2ab1", "want one of tqd"},
		{TypeJA4, "t13d1516h2_8DAAF6152771_e5627efa2ab1", "want 12 hex digits"},
		{TypeJA4, "t13d15a6h2_8daaf6152771_e5627efa2ab1", "want two digits"},
		{TypeJA4, "t13d1516h28daaf6152771_e5627efa2ab1", "want _"},
		{TypeJA4S, "t130200_130_234ea6891581", "want 4 hex digits"},
		{TypeJA4T, "65535__1460_6", "want numbers joined by -"},
		{TypeJA4SSH, "36s36_c51s80_c69s0", "want c"},
		{0, "x", "type(0) is not a fingerprint type"},
		{200, "x", "type(200) is not a fingerprint type"},
	} {
		_, err := Parse(c.kind, c.value)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Parse(%v, %q): %v, want %s", c.kind, c.value, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(byte(TypeJA4), chromeValue)
	f.Add(byte(TypeJA4SSH), "c36s36_c51s80_c69s0")
	f.Add(byte(TypeJA4D), "disco1500in_61-57-60_1-3-6")
	f.Fuzz(func(t *testing.T, kind byte, s string) {
		fuzzguard.Watch(t)
		parts, err := Parse(Type(kind), s)
		if err != nil {
			return
		}
		// Put together, the parts are s less its separators.
		rest := s
		for _, p := range parts {
			_, after, ok := strings.Cut(rest, p.Value)
			if !ok {
				t.Fatalf("%q: part %v is not in what is left, %q", s, p, rest)
			}
			rest = after
		}
		if rest != "" {
			t.Fatalf("%q: %q is in no part", s, rest)
		}
	})
}
