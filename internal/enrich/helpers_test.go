package enrich

import (
	"fmt"

	"github.com/whorl-net/whorl/internal/pattern"
)

// parsePatternLoosely takes patterns that are no fingerprints.
func parsePatternLoosely(text string) (pattern.Pattern, error) {
	p, ok := pattern.Parse(text)
	if !ok {
		return p, fmt.Errorf("%q is no pattern", text)
	}
	return p, nil
}
