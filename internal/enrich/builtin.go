package enrich

import (
	_ "embed"
	"fmt"
	"sync"
)

// builtinSource names the built-in table in matches.
const builtinSource = "builtin"

//go:embed data/builtin.yaml
var builtinData []byte

// Builtin returns the table that comes with the program. It is read once; do not
// change it.
var Builtin = sync.OnceValues(func() (*Table, error) {
	t, err := ParseTable(builtinSource, builtinData, false)
	if err != nil {
		return nil, fmt.Errorf("built-in table: %w", err)
	}
	return t, nil
})
