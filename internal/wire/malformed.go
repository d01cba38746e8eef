package wire

import "fmt"

// MalformedError says which part of a message is wrong. The message as a whole
// is refused.
type MalformedError struct {
	// Field is the path in the message, such as "packets.flow[17]".
	Field string
	// Problem goes on after the field, such as "refers to flow 9 of 5".
	Problem string
}

// Error returns "field: problem".
func (e *MalformedError) Error() string { return e.Field + ": " + e.Problem }

func malformed(field, format string, args ...any) error {
	return &MalformedError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// at returns the path of element i of a repeated field.
func at(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

// Problems of encoding, as opposed to content.
const (
	badEncoding = "is not valid protobuf"
	badUTF8     = "is not valid UTF-8"
)
