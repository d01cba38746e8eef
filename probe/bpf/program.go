package bpf

import (
	"bufio"
	"fmt"
	"io"

	"golang.org/x/net/bpf"

	"github.com/whorl-net/whorl/probe/capture"
)

// Parse reads a program as tcpdump -ddd prints it: the number of instructions,
// then one line "code jt jf k" each. Errors name the line.
func Parse(r io.Reader) ([]bpf.Instruction, error) {
	sc := bufio.NewScanner(io.LimitReader(r, 1<<20))
	want, line := -1, 0
	var raw []bpf.RawInstruction
	for sc.Scan() {
		line++
		text := sc.Text()
		if text == "" {
			continue
		}
		if want < 0 {
			if n, err := fmt.Sscanf(text, "%d\n", &want); n != 1 || err != nil || want < 1 || want > maxInstructions {
				return nil, fmt.Errorf("line %d: %q is not a number of instructions from 1 to %d, as tcpdump -ddd prints it", line, text, maxInstructions)
			}
			continue
		}
		var in bpf.RawInstruction
		if n, err := fmt.Sscanf(text, "%d %d %d %d\n", &in.Op, &in.Jt, &in.Jf, &in.K); n != 4 || err != nil {
			return nil, fmt.Errorf("line %d: %q is not an instruction of four numbers, as tcpdump -ddd prints it", line, text)
		}
		if raw = append(raw, in); len(raw) > want {
			return nil, fmt.Errorf("line %d: more than the %d instructions that the first line announces", line, want)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("after line %d: %w", line, err)
	}
	if want < 0 {
		return nil, fmt.Errorf("line 1: no number of instructions, as tcpdump -ddd prints it")
	}
	if len(raw) < want {
		return nil, fmt.Errorf("after line %d: %d of the %d instructions that the first line announces", line, len(raw), want)
	}
	prog, ok := bpf.Disassemble(raw)
	if !ok {
		for i, in := range prog {
			if _, bad := in.(bpf.RawInstruction); bad {
				return nil, fmt.Errorf("instruction %d is none that classic BPF has", i+1)
			}
		}
	}
	return prog, nil
}

// Filter runs a program over packets of files, one program per link type.
// Not safe for concurrent use.
type Filter struct {
	text string
	// fixed is a program from outside: it fits whatever it was made for.
	fixed *bpf.VM
	vms   map[capture.LinkType]*bpf.VM
	last  capture.LinkType
	vm    *bpf.VM
	err   error // of the first link type that the filter does not fit
}

// Err says why Match could not look into packets of some link type; nil when
// it could look into all.
func (f *Filter) Err() error {
	if f == nil {
		return nil
	}
	return f.err
}

// NewFilter compiles filter, for now for Ethernet: other link types follow
// when they come. A nil Filter accepts everything, and is what an empty filter
// gives.
func NewFilter(filter string) (*Filter, error) {
	prog, err := Compile(filter, capture.Ethernet, false)
	if err != nil || prog == nil {
		return nil, err
	}
	return &Filter{text: filter, vms: map[capture.LinkType]*bpf.VM{}}, nil
}

// NewProgramFilter wraps a program from Parse.
func NewProgramFilter(prog []bpf.Instruction) (*Filter, error) {
	vm, err := bpf.NewVM(prog)
	if err != nil {
		return nil, err
	}
	return &Filter{fixed: vm}, nil
}

// Match reports whether the filter accepts p. Of a link type that it does not
// fit it accepts nothing; Err then says so.
func (f *Filter) Match(p *capture.Packet) bool {
	if f == nil {
		return true
	}
	vm := f.fixed
	if vm == nil {
		if f.vm == nil || p.LinkType != f.last {
			f.vm, f.last = f.machine(p.LinkType), p.LinkType
		}
		if vm = f.vm; vm == nil {
			return false
		}
	}
	n, err := vm.Run(p.Data)
	return err == nil && n > 0
}

func (f *Filter) machine(link capture.LinkType) *bpf.VM {
	if vm, ok := f.vms[link]; ok {
		return vm
	}
	var vm *bpf.VM
	prog, err := Compile(f.text, link, false)
	if err == nil {
		vm, err = bpf.NewVM(prog)
	}
	if f.err == nil {
		f.err = err
	}
	if len(f.vms) < 64 { // link types are few; a hostile file may claim many
		f.vms[link] = vm
	}
	return vm
}
