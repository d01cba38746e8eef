package tracker

// opens says of what hashes connections may have been opened: those that were
// noted since the last reset, and one in some of all others. It spares a second
// look into the index for a flow that was not there when its batch was looked up.
type opens struct {
	bits  [opensBits / 64]uint64
	dirty bool
}

// opensBits is large enough that a batch which opens 1,500 connections answers
// wrongly one time in twenty, and small enough to stay in the nearest cache.
const opensBits = 16384

func (o *opens) place(hash uint64) (word uint64, bit uint64) {
	at := hash >> 16 % opensBits // neither the bits of the tag nor those of the bucket
	return at / 64, 1 << (at % 64)
}

func (o *opens) note(hash uint64) {
	w, b := o.place(hash)
	o.bits[w] |= b
	o.dirty = true
}

func (o *opens) may(hash uint64) bool {
	w, b := o.place(hash)
	return o.bits[w]&b != 0
}

func (o *opens) reset() {
	if o.dirty {
		*o = opens{}
	}
}
