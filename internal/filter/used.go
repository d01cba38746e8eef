package filter

// Used returns the words that a line of text uses, in its order, each as often
// as it is there. It refuses what Parse refuses of words, not of their values.
func Used(text string) ([]string, error) {
	clauses, err := parseText(text)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(clauses))
	for i := range clauses {
		names[i] = clauses[i].word.name
	}
	return names, nil
}
