package window

// classSize are the sizes of blocks, in elements.
var classSize = [...]int{16, 32, 64, 128, Exact}

// chunkElements is how many elements are allocated at a time.
const chunkElements = 4096

// arena lends blocks of elements. A block is known by its number: that of its
// chunk times chunkElements and its place there, and is never 0.
type arena struct {
	chunks [][]element
	next   int // first element of the newest chunk that was never lent
	free   [len(classSize)][]uint32
}

// take lends a block; what is in it is left from before.
func (a *arena) take(class uint8) uint32 {
	if free := a.free[class]; len(free) > 0 {
		a.free[class] = free[:len(free)-1]
		return free[len(free)-1]
	}
	size := classSize[class]
	if len(a.chunks) == 0 || a.next+size > chunkElements {
		a.chunks = append(a.chunks, make([]element, chunkElements))
		a.next = 0
		if len(a.chunks) == 1 {
			a.next = classSize[0] // so that no block is 0
		}
	}
	at := uint32((len(a.chunks)-1)*chunkElements + a.next)
	a.next += size
	return at
}

func (a *arena) release(at uint32, class uint8) {
	a.free[class] = append(a.free[class], at)
}

func (a *arena) block(at uint32, class uint8) []element {
	first := at % chunkElements
	return a.chunks[at/chunkElements][first : int(first)+classSize[class]]
}
