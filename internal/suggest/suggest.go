// Package suggest guesses which known word somebody meant who typed another.
package suggest

// maxWordLen bounds the words that are compared, in bytes: the time grows with
// the square of it, and outsiders choose the word.
const maxWordLen = 64

// Nearest returns the candidate that is most like word, or "" when none is like
// it: at most a third of the longer one may have to be typed again. The first
// of equally near ones wins.
func Nearest(word string, candidates []string) string {
	if word == "" || len(word) > maxWordLen {
		return ""
	}
	best, least := "", 0
	for _, c := range candidates {
		if c == "" || len(c) > maxWordLen {
			continue
		}
		d := distance(word, c)
		if d <= max(len(word), len(c))/3 && (best == "" || d < least) {
			best, least = c, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour to get from a to b (optimal string alignment), regardless of case.
func distance(a, b string) int {
	var rows [3][maxWordLen + 1]int
	before, last, row := &rows[0], &rows[1], &rows[2]
	for k := range len(b) + 1 {
		last[k] = k
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for k := 1; k <= len(b); k++ {
			cost := 1
			if lower(a[i-1]) == lower(b[k-1]) {
				cost = 0
			}
			row[k] = min(last[k]+1, row[k-1]+1, last[k-1]+cost)
			if i > 1 && k > 1 && lower(a[i-1]) == lower(b[k-2]) && lower(a[i-2]) == lower(b[k-1]) {
				row[k] = min(row[k], before[k-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
