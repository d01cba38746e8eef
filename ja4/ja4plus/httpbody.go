package ja4plus

import "bytes"

// bodyStatus says whether a body has ended.
type bodyStatus uint8

const (
	bodyMore bodyStatus = iota
	bodyEnded
	bodyInvalid
	bodyTooLarge
)

// bodySkip steps over the body of one HTTP/1.1 request, by length or by chunks
// (RFC 9112 sections 6 and 7), without holding any of it. The zero bodySkip is
// an empty body.
type bodySkip struct {
	left    uint64 // bytes of the body or of the present chunk
	line    int    // bytes of the present chunk-size line or of all trailers
	digits  uint8  // of the present chunk size
	chunked bool
	broken  bool // nobody can tell where it ends
	phase   chunkPhase
}

type chunkPhase uint8

const (
	chunkSize      chunkPhase = iota
	chunkExtension            // behind the size, to the end of the line
	chunkData
	chunkDataEnd // the line end behind the data
	trailerStart // at the beginning of a trailer line
	trailerCR    // behind a CR there
	trailerLine
)

// skip takes the next bytes and returns how many of them belong to the body.
func (b *bodySkip) skip(p []byte) (n int, status bodyStatus) {
	if b.broken {
		return 0, bodyInvalid
	}
	if !b.chunked {
		n = b.data(p)
		if b.left > 0 {
			return n, bodyMore
		}
		return n, bodyEnded
	}
	for n < len(p) {
		if b.phase == chunkData {
			n += b.data(p[n:])
			if b.left == 0 {
				b.phase = chunkDataEnd
			}
			continue
		}
		if b.phase == chunkExtension || b.phase == trailerLine {
			used := len(p) - n
			if i := bytes.IndexByte(p[n:], '\n'); i >= 0 {
				used = i
			}
			n, b.line = n+used, b.line+used
		}
		if b.line > MaxHTTPHeaderBytes {
			return n, bodyTooLarge
		}
		if n == len(p) {
			break
		}
		c := p[n]
		n, b.line = n+1, b.line+1
		if status := b.step(c); status != bodyMore {
			return n, status
		}
	}
	return n, bodyMore
}

// data takes what p has of the present body or chunk.
func (b *bodySkip) data(p []byte) int {
	n := uint64(len(p))
	n = min(n, b.left)
	b.left -= n
	return int(n)
}

// step takes one byte outside of the data. Line ends are CRLF or LF.
func (b *bodySkip) step(c byte) bodyStatus {
	switch b.phase {
	case chunkSize:
		if v, ok := hexDigit(c); ok {
			if b.digits == 15 { // 2^60 bytes are no body
				return bodyInvalid
			}
			b.left, b.digits = b.left<<4|uint64(v), b.digits+1
			return bodyMore
		}
		switch {
		case b.digits == 0:
			return bodyInvalid
		case c == '\n':
			b.endSize()
		case c == ';' || blank(c):
			b.phase = chunkExtension
		default:
			return bodyInvalid
		}
	case chunkExtension: // c is the line end
		b.endSize()
	case chunkDataEnd:
		switch c {
		case '\n':
			b.phase, b.line, b.digits = chunkSize, 0, 0
		case '\r': // any number of them: harmless, and bounded like a line
		default:
			return bodyInvalid
		}
	case trailerStart:
		switch c {
		case '\n':
			return bodyEnded
		case '\r':
			b.phase = trailerCR
		default:
			b.phase = trailerLine
		}
	case trailerCR:
		if c == '\n' {
			return bodyEnded
		}
		b.phase = trailerLine
	case trailerLine: // c is the line end
		b.phase = trailerStart
	}
	return bodyMore
}

// endSize takes the end of a chunk-size line.
func (b *bodySkip) endSize() {
	if b.left == 0 {
		b.phase = trailerStart
		return
	}
	b.phase = chunkData
}

func hexDigit(c byte) (v uint8, ok bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}
