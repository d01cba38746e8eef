package filter

import (
	"strings"
	"unicode/utf8"
)

// clause is one word of the language with its values, not yet understood.
type clause struct {
	word   *word
	negate bool
	values []value
	place  place
}

// value is one value as it was written, quotes removed.
type value struct {
	text   string
	quoted bool // a * in it means itself
	// Of a quoted value: a * stands before or behind the quotes.
	starBefore, starBehind bool
	place                  place
}

// parseText splits a line into clauses.
func parseText(text string) ([]clause, error) {
	p := textParser{text: text}
	if len(text) > MaxTextLen {
		return nil, place{field: "filter"}.errorf("", "has %d bytes, at most %d", len(text), MaxTextLen)
	}
	if !utf8.ValidString(text) {
		return nil, place{field: "filter"}.errorf("", "is not valid UTF-8")
	}
	var clauses []clause
	for {
		p.skipBlanks()
		if p.pos == len(text) {
			return clauses, nil
		}
		c, err := p.clause()
		if err != nil {
			return nil, err
		}
		clauses = append(clauses, c)
	}
}

type textParser struct {
	text string
	pos  int // in bytes
}

// here returns the place of byte i.
func (p *textParser) here(i int) place {
	return place{field: "filter", column: utf8.RuneCountInString(p.text[:i]) + 1}
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (p *textParser) skipBlanks() {
	for p.pos < len(p.text) && blank(p.text[p.pos]) {
		p.pos++
	}
}

// clause reads one [-]name:value[,value…].
func (p *textParser) clause() (c clause, err error) {
	if p.text[p.pos] == '-' {
		c.negate = true
		p.pos++
	}
	start := p.pos
	for p.pos < len(p.text) && p.text[p.pos] != ':' && !blank(p.text[p.pos]) {
		p.pos++
	}
	name, at := p.text[start:p.pos], p.here(start)
	c.place = at
	if name == "" {
		return c, at.errorf(p.text[start:min(start+1, len(p.text))], "is not a filter word")
	}
	c.word = wordNamed(name)
	if c.word == nil {
		e := at.errorf(name, "is not a filter word")
		e.Suggestion = suggestWord(name)
		return c, e
	}
	if p.pos == len(p.text) || p.text[p.pos] != ':' {
		return c, at.errorf(name, "has no value: write %s:%s", name, c.word.example)
	}
	p.pos++
	for {
		v, err := p.value(c.word)
		if err != nil {
			return c, err
		}
		c.values = append(c.values, v)
		if p.pos == len(p.text) || blank(p.text[p.pos]) {
			return c, nil
		}
		p.pos++ // a comma: value stops nowhere else
	}
}

// value reads up to a comma, a blank or the end.
func (p *textParser) value(w *word) (value, error) {
	start := p.pos
	rest := p.text[start:]
	if strings.HasPrefix(rest, `"`) || w.stars && strings.HasPrefix(rest, `*"`) {
		return p.quotedValue(w)
	}
	for p.pos < len(p.text) && p.text[p.pos] != ',' && !blank(p.text[p.pos]) {
		if p.text[p.pos] == '"' {
			return value{}, p.here(p.pos).errorf(`"`, "starts a quoted value in the middle of one")
		}
		p.pos++
	}
	if p.pos == start {
		return value{}, p.here(start).errorf(w.name, "has an empty value")
	}
	return value{text: p.text[start:p.pos], place: p.here(start)}, nil
}

// quotedValue reads a value in quotes, in which \" and \\ stand for " and \,
// with a * before or behind it.
func (p *textParser) quotedValue(w *word) (value, error) {
	v := value{quoted: true, place: p.here(p.pos)}
	if p.text[p.pos] == '*' {
		v.starBefore = true
		p.pos++
	}
	opening := p.pos
	var b strings.Builder
	for p.pos++; p.pos < len(p.text); p.pos++ {
		switch c := p.text[p.pos]; c {
		case '"':
			v.text = b.String()
			p.pos++
			err := p.afterQuote(w, &v)
			return v, err
		case '\\':
			p.pos++
			if p.pos == len(p.text) || p.text[p.pos] != '"' && p.text[p.pos] != '\\' {
				return v, p.here(p.pos-1).errorf(`\`, `stands before neither " nor \`)
			}
			b.WriteByte(p.text[p.pos])
		default:
			b.WriteByte(c)
		}
	}
	return v, p.here(opening).errorf(`"`, "has no closing quote")
}

// afterQuote reads the star behind a closing quote, and sees that the value ends.
func (p *textParser) afterQuote(w *word, v *value) error {
	if w.stars && !v.starBefore && p.pos < len(p.text) && p.text[p.pos] == '*' {
		v.starBehind = true
		p.pos++
	}
	if p.pos == len(p.text) || p.text[p.pos] == ',' || blank(p.text[p.pos]) {
		return nil
	}
	_, size := utf8.DecodeRuneInString(p.text[p.pos:])
	return p.here(p.pos).errorf(p.text[p.pos:p.pos+size], "comes right after a quoted value")
}

// quote writes a value so that it is read as the same text again.
func quote(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\r\n,\"*\\") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
