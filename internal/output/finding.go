package output

// Verdict is what a check of doctor found.
type Verdict string

// The verdicts.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn"
	Fail Verdict = "fail"
)

// Finding is the outcome of one check.
type Finding struct {
	Check  string
	Result Verdict
	Detail string
	// Fix says what to do, "" when there is nothing to do.
	Fix string
}

// Findings is the Kind of doctor.
func Findings() Kind[Finding] {
	return Kind[Finding]{
		Columns: []Column[Finding]{
			{Name: "CHECK", Cell: func(f Finding) string { return f.Check }},
			{Name: "RESULT", Cell: func(f Finding) string { return string(f.Result) }, Style: func(f Finding) Style {
				switch f.Result {
				case OK:
					return StyleGood
				case Warn:
					return StyleWarn
				}
				return StyleBad
			}},
			{Name: "DETAIL", Cell: func(f Finding) string { return f.Detail }},
			{Name: "FIX", Cell: func(f Finding) string { return f.Fix }},
		},
		Schema: fieldList("check", "result", "detail", "fix"),
		JSON: func(dst []byte, f Finding, sel *Selection) []byte {
			dst = append(dst, '{')
			for _, m := range [][2]string{{"check", f.Check}, {"result", string(f.Result)}, {"detail", f.Detail}, {"fix", f.Fix}} {
				if _, ok := sel.has(m[0]); ok && m[1] != "" {
					dst = appendString(appendKey(dst, m[0]), m[1])
				}
			}
			return append(dst, '}')
		},
	}
}
