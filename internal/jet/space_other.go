//go:build !linux && !darwin

package jet

// freeBytes says that the free space is not known.
func freeBytes(string) (n int64, known bool) { return 0, false }
