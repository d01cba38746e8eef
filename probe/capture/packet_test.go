package capture

import "testing"

// A link type is named by tcpdump's name, or by its number.
func TestLinkTypesHaveNames(t *testing.T) {
	for l, want := range map[LinkType][2]string{
		Ethernet: {"EN10MB", "1 (EN10MB)"}, SLL2: {"LINUX_SLL2", "276 (LINUX_SLL2)"}, Radiotap: {"IEEE802_11_RADIO", "127 (IEEE802_11_RADIO)"},
		239: {"NFLOG", "239 (NFLOG)"}, 146: {"146", "146"}, 147: {"USER0", "147 (USER0)"}, 162: {"USER15", "162 (USER15)"},
		1 << 20: {"1048576", "1048576"},
	} {
		if l.String() != want[0] || l.Label() != want[1] {
			t.Errorf("%d: %s, %s, want %v", uint32(l), l, l.Label(), want)
		}
	}
}
