//go:build linux || darwin

package jet

import "syscall"

// freeBytes returns how much the file system of dir takes, as seen by this
// user; known is false where nobody can tell.
func freeBytes(dir string) (n int64, known bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
