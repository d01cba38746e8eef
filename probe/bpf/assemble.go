package bpf

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// label names a place in the program before it is known.
type label int

// assembler collects instructions with labels. Conditional jumps of classic
// BPF reach 255 instructions; link inserts long jumps where that is too short.
type assembler struct {
	code   []instruction
	places []int // label → index in code
}

type instruction struct {
	op bpf.Instruction // nil for a branch or jump
	// A branch goes to yes or no; a jump, with always set, to yes.
	always  bool
	cond    bpf.JumpTest
	val     uint32
	yes, no label
	long    bool // a branch that needs long jumps
}

func (a *assembler) label() label {
	a.places = append(a.places, -1)
	return label(len(a.places) - 1)
}

func (a *assembler) place(l label)          { a.places[l] = len(a.code) }
func (a *assembler) emit(i bpf.Instruction) { a.code = append(a.code, instruction{op: i}) }
func (a *assembler) jump(l label)           { a.code = append(a.code, instruction{always: true, yes: l}) }
func (a *assembler) branch(c bpf.JumpTest, val uint32, yes, no label) {
	a.code = append(a.code, instruction{cond: c, val: val, yes: yes, no: no})
}

// link fixes the offsets. All jumps go forward, so lengthening a branch only
// lengthens others: the loop ends.
func (a *assembler) link() ([]bpf.Instruction, error) {
	at := make([]uint32, len(a.code)+1) // index in code → index in the program
	for changed := true; changed; {
		n := uint32(0)
		for i, in := range a.code {
			at[i] = n
			n++
			if in.long {
				n += 2
			}
		}
		at[len(a.code)] = n
		changed = false
		for i := range a.code {
			in := &a.code[i]
			if in.op != nil || in.always || in.long {
				continue
			}
			from := at[i] + 1
			if at[a.places[in.yes]]-from > 255 || at[a.places[in.no]]-from > 255 {
				in.long, changed = true, true
			}
		}
	}
	if n := at[len(a.code)]; n > maxInstructions {
		return nil, fmt.Errorf("the filter needs %d instructions, the kernel takes %d", n, maxInstructions)
	}
	var out []bpf.Instruction
	for i, in := range a.code {
		from := at[i] + 1
		switch {
		case in.op != nil:
			out = append(out, in.op)
		case in.always:
			out = append(out, bpf.Jump{Skip: at[a.places[in.yes]] - from})
		case in.long:
			out = append(out,
				bpf.JumpIf{Cond: in.cond, Val: in.val, SkipTrue: 0, SkipFalse: 1},
				bpf.Jump{Skip: at[a.places[in.yes]] - from - 1},
				bpf.Jump{Skip: at[a.places[in.no]] - from - 2})
		default:
			out = append(out, bpf.JumpIf{Cond: in.cond, Val: in.val,
				SkipTrue: uint8(at[a.places[in.yes]] - from), SkipFalse: uint8(at[a.places[in.no]] - from)})
		}
	}
	return out, nil
}
