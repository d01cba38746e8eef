// Package units puts quantities into words, alike wherever they are read.
package units

import (
	"strings"
	"time"
)

// Duration is d without the zeros behind it: "5m", not "5m0s".
func Duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
