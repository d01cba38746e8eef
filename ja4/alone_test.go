package ja4

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Package ja4 and all that it imports are the standard library and its own
// internal packages: whoever imports JA4 gets no method under another licence
// and no other module.
func TestImportedAlone(t *testing.T) {
	const internal = "github.com/whorl-net/whorl/ja4/internal/"
	files := 0
	check := func(path string) {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		files++
		for _, im := range f.Imports {
			name, _ := strconv.Unquote(im.Path.Value)
			first, _, _ := strings.Cut(name, "/")
			if strings.Contains(first, ".") && !strings.HasPrefix(name, internal) {
				t.Errorf("%s imports %s", path, name)
			}
		}
	}
	own, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir("internal", func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			own = append(own, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range own {
		if !strings.HasSuffix(path, "_test.go") {
			check(path)
		}
	}
	if files < 10 {
		t.Errorf("%d files seen, want all", files)
	}
}
