// Package archtest holds the import rules of the project: which folder may use
// which. They are the architecture; a folder that is missing here fails too,
// so that a new folder is a decision.
package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/whorl-net/whorl/"

// allowed says for each folder (the longest matching prefix counts) which
// folders of the project its code may import, tests left aside.
var allowed = map[string][]string{
	"ja4":                 {"ja4/internal"},
	"ja4/internal":        {},
	"ja4/ja4plus":         {"ja4", "ja4/internal"},
	"ja4/cleartext":       {"ja4", "ja4/internal"},
	"flow":                {"ja4"},
	"tracker":             {"flow", "ja4"},
	"proto":               {},
	"probe":               {"flow", "ja4", "probe"},
	"internal/suggest":    {},
	"internal/units":      {},
	"internal/pattern":    {"ja4"},
	"internal/wire":       {"flow", "ja4", "tracker", "proto", "internal/suggest"},
	"internal/filter":     {"flow", "ja4", "tracker", "proto", "internal/wire", "internal/suggest", "internal/pattern"},
	"internal/log":        {"flow", "ja4", "internal/jet"},
	"internal/feed":       {"flow", "ja4", "tracker", "internal/wire", "internal/jet"},
	"internal/jet":        {"internal/disk"},
	"internal/disk":       {},
	"internal/enrich":     {"flow", "ja4", "tracker", "internal/suggest", "internal/pattern"},
	"internal/hunt":       {"flow", "ja4", "tracker", "internal/wire", "internal/feed", "internal/enrich"},
	"internal/rpc":        {},
	"internal/config":     {"internal/suggest"},
	"internal/selftest":   {"ja4", "probe"},
	"internal/output":     {"flow", "ja4", "proto", "internal/suggest", "internal/units"},
	"internal/analyst":    {"flow", "ja4", "tracker", "internal/filter", "internal/suggest", "internal/units"},
	"internal/archtest":   {},
	"internal/metrics":    {"proto"},
	"internal/planted":    {},
	"internal/datadir":    {"internal/disk"},
	"internal/checkpoint": {"internal/disk"},
	"internal/fuzzguard":  {},
	"internal/spool":      {"internal/disk"},
	"service":             {"flow", "ja4", "tracker", "proto", "internal/wire", "internal/filter", "internal/log", "internal/feed", "internal/enrich", "internal/analyst", "internal/hunt", "internal/pattern", "internal/rpc", "internal/suggest", "internal/planted", "internal/datadir", "internal/checkpoint", "internal/jet"},
	"client":              {"flow", "ja4", "proto", "internal/wire", "internal/rpc", "internal/spool"},
	"cmd":                 {"*"},
	"test":                {"*"},
	"bench":               {"*"},
	"examples":            {"client", "flow", "ja4", "ja4/ja4plus", "proto", "tracker"},
}

// only says which outside modules may be imported under which folders alone.
var only = map[string][]string{
	"github.com/google/gopacket":           {"probe", "test", "bench"},
	"github.com/google/gopacket/layers":    {"test"}, // it fills 6 MiB before main
	"google.golang.org/grpc":               {"proto", "service", "client", "internal/rpc", "internal/wire", "cmd", "test", "bench", "examples"},
	"google.golang.org/protobuf":           {"proto", "service", "client", "internal/rpc", "internal/wire", "internal/filter", "internal/output", "internal/metrics", "cmd", "test", "bench", "examples"},
	"github.com/prometheus":                {"internal/metrics"},
	"github.com/coreos/go-systemd":         {"cmd"},
	"github.com/grpc-ecosystem":            {"internal/rpc", "service"},
	"github.com/alecthomas/kong":           {"cmd", "internal/config"},
	"github.com/zeebo/xxh3":                {"tracker", "internal/wire"},
	"golang.org/x/sys":                     {"probe", "cmd"},
	"golang.org/x/net/bpf":                 {"probe", "cmd"},
	"github.com/nats-io":                   {"internal/jet"},
	"golang.org/x/net/http2":               {"ja4/ja4plus"},
	"golang.org/x/crypto/chacha20poly1305": {"ja4/cleartext"},
}

// rule returns the longest folder of the table that holds dir.
func rule(dir string) (folder string, ok bool) {
	for f := range allowed {
		if (dir == f || strings.HasPrefix(dir, f+"/")) && len(f) > len(folder) {
			folder, ok = f, true
		}
	}
	return folder, ok
}

func under(dir string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool {
		return f == "*" || dir == f || strings.HasPrefix(dir, f+"/")
	})
}

// Imports run downhill: no package imports one that the table does not allow,
// and every folder has a line in it.
func TestImportsRunDownhill(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(rel))
		folder, ok := rule(dir)
		if !ok {
			t.Errorf("%s: folder %s has no line in the table of import rules", rel, dir)
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		for _, im := range f.Imports {
			name, err := strconv.Unquote(im.Path.Value)
			if err != nil {
				return err
			}
			if target, ours := strings.CutPrefix(name, module); ours {
				if !under(target, []string{folder}) && !under(target, allowed[folder]) {
					t.Errorf("%s imports %s: %s may import only %v", rel, target, folder, allowed[folder])
				}
				continue
			}
			for outside, folders := range only {
				if (name == outside || strings.HasPrefix(name, outside+"/")) && !under(dir, folders) {
					t.Errorf("%s imports %s, which only %v may", rel, name, folders)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Fatalf("%d files seen: the walk does not reach the project", files)
	}
}

// Package ja4 is BSD alone: neither it nor what it imports may reach a method
// under the FoxIO License.
func TestJA4StandsAlone(t *testing.T) {
	for _, dir := range []string{"ja4", "ja4/internal"} {
		if under("ja4/ja4plus", allowed[dir]) {
			t.Errorf("%s may import ja4/ja4plus", dir)
		}
	}
}
