package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	xbpf "golang.org/x/net/bpf"

	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/bpf"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/live"
)

// program is the filter of --bpf-file, nil without one.
func (f *captureFlags) program() ([]xbpf.Instruction, error) {
	if f.BPFFile == "" {
		return nil, nil
	}
	file, err := os.Open(f.BPFFile)
	if err != nil {
		return nil, failf(orForbidden(exitUsage, err), "--bpf-file: %v", err)
	}
	defer file.Close()
	prog, err := bpf.Parse(file)
	if err != nil {
		return nil, failf(exitUsage, "--bpf-file %s: %v", f.BPFFile, err)
	}
	return prog, nil
}

// sources are open captures.
type sources struct {
	all   []capture.Source
	rings []*live.Ring
	// secrets are those of --keylog and of the files; nil when there can be none.
	secrets *cleartext.KeyLog
	keyFile *probe.KeyFile // nil without --keylog
	about   string         // what is captured, for people
}

func (s *sources) close() {
	for _, src := range s.all {
		src.Close()
	}
}

// openSecrets returns where secrets go, with those of --keylog in it if it is
// given.
func openSecrets(keylog string) (*cleartext.KeyLog, *probe.KeyFile, error) {
	secrets := cleartext.NewKeyLog(0)
	if keylog == "" {
		return secrets, nil, nil
	}
	file, err := probe.OpenKeyFile(keylog, secrets)
	if err != nil {
		return nil, nil, failf(orForbidden(exitUsage, err), "--keylog: %v", err)
	}
	return secrets, file, nil
}

// counters are those of all rings together.
func (s *sources) counters() (received, kernel, iface uint64) {
	for _, r := range s.rings {
		st := r.Stats()
		received += st.Received
		kernel += st.DroppedKernel
		iface += st.DroppedInterface
	}
	return received, kernel, iface
}

// open opens the files or the interfaces. bar is for files.
func (f *captureFlags) open(bar *progress) (*sources, error) {
	prog, err := f.program()
	if err != nil {
		return nil, err
	}
	s := &sources{}
	if !f.live() || f.Keylog != "" {
		if s.secrets, s.keyFile, err = openSecrets(f.Keylog); err != nil {
			return nil, err
		}
	}
	if f.live() {
		err = f.openLive(s, prog)
	} else {
		err = f.openFiles(s, prog, bar)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (f *captureFlags) openFiles(s *sources, prog []xbpf.Instruction, bar *progress) error {
	for _, name := range f.Read {
		filter, err := f.fileFilter(prog)
		if err != nil {
			return err
		}
		file, err := capture.Open(name)
		if err != nil {
			return err
		}
		probe.TakeSecrets(file, s.secrets)
		source := capture.Source(file)
		if piped(name) {
			source = capture.NewStream(file)
		}
		s.all = append(s.all, &fileSource{file: file, source: source, filter: filter, snaplen: int(f.Snaplen), bar: bar})
	}
	return nil
}

// piped reports whether a file may make its reader wait: standard input and
// whatever else is no regular file.
func piped(name string) bool {
	var info os.FileInfo
	var err error
	if name == "-" {
		info, err = os.Stdin.Stat()
	} else {
		info, err = os.Stat(name)
	}
	return err == nil && !info.Mode().IsRegular()
}

// fileFilter is made for each file: a filter keeps state about link types.
func (f *captureFlags) fileFilter(prog []xbpf.Instruction) (*bpf.Filter, error) {
	if prog == nil {
		return bpf.NewFilter(f.words())
	}
	filter, err := bpf.NewProgramFilter(prog)
	if err != nil {
		return nil, failf(exitUsage, "--bpf-file %s: %v", f.BPFFile, err)
	}
	return filter, nil
}

func (f *captureFlags) openLive(s *sources, prog []xbpf.Instruction) error {
	names, err := interfaceNames(f.Interface)
	if err != nil {
		return err
	}
	for _, name := range names {
		cfg := live.Config{Interface: name, RingBytes: int(f.Ring), Filter: prog}
		if f.Fanout > 1 {
			cfg.Fanout = live.NewFanout()
		}
		if prog == nil && f.words() != "" {
			link, err := live.LinkType(name)
			if err != nil {
				return err
			}
			if cfg.Filter, err = bpf.Compile(f.words(), link, true); err != nil {
				return err
			}
		}
		cfg.Filter = cut(cfg.Filter, f.Snaplen)
		for range f.Fanout {
			ring, err := live.Open(cfg)
			if err != nil {
				return err
			}
			s.rings = append(s.rings, ring)
			s.all = append(s.all, ring)
		}
	}
	filter := "no filter"
	if f.words() != "" || prog != nil {
		filter = "filtered"
	}
	queues := ""
	if f.Fanout > 1 {
		queues = fmt.Sprintf(" in %d queues", f.Fanout)
	}
	s.about = fmt.Sprintf("capturing on %s (TPACKET_V3, %s ring%s, %s), network %s",
		strings.Join(f.Interface, ", "), binarySize(f.Ring), queues, filter, f.Network)
	return nil
}

// cut makes a program keep at most n bytes of a packet; nil accepts everything.
// A program that computes how much it keeps is left as it is.
func cut(prog []xbpf.Instruction, n uint32) []xbpf.Instruction {
	if n >= capture.MaxCaptured {
		return prog
	}
	if prog == nil {
		return []xbpf.Instruction{xbpf.RetConstant{Val: n}}
	}
	prog = slices.Clone(prog)
	for i := range prog {
		if ret, ok := prog[i].(xbpf.RetConstant); ok {
			prog[i] = xbpf.RetConstant{Val: min(ret.Val, n)}
		}
	}
	return prog
}

// interfaceNames are those to open: "any" stands for all that are up now.
func interfaceNames(given []string) ([]string, error) {
	var names []string
	for _, name := range given {
		if name != "any" {
			names = append(names, name)
			continue
		}
		all, err := live.Interfaces()
		if err != nil {
			return nil, err
		}
		for _, i := range all {
			if i.Up {
				names = append(names, i.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// binarySize is a size for people: "32 MiB".
func binarySize(s size) string {
	text := s.String()
	i := strings.IndexFunc(text, func(r rune) bool { return r > '9' })
	if i < 0 {
		return text + " B"
	}
	return text[:i] + " " + text[i:]
}

// listInterfaces prints what -i may name.
func listInterfaces(c *console) error {
	all, err := live.Interfaces()
	if err != nil {
		return err
	}
	type row = live.Interface
	kind := output.Kind[row]{Columns: []output.Column[row]{
		{Name: "INTERFACE", Cell: func(i row) string { return i.Name }},
		{Name: "STATE", Cell: func(i row) string {
			if i.Up {
				return "up"
			}
			return "down"
		}},
		{Name: "ADDRESSES", Cell: func(i row) string { return strings.Join(i.Addrs, ",") }},
	}}
	format := output.Compact
	if c.outTerminal {
		format = output.Table
	}
	w := output.NewWriter(c.out, kind, output.Options{Format: format, Color: c.color, Hold: len(all)})
	for _, i := range all {
		if err := w.Write(i); err != nil {
			return err
		}
	}
	return w.Close()
}
