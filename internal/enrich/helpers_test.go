package enrich

import (
	"fmt"

	"github.com/whorl-net/whorl/internal/pattern"
)

// parsePatternLoosely takes patterns that are no fingerprints.
func parsePatternLoosely(text string) (pattern.Pattern, error) {
	p, err := pattern.Parse(text)
	if err != nil {
		return p, fmt.Errorf("%q %w", text, err)
	}
	return p, nil
}
