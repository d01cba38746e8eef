package disk

import (
	"errors"
	"os"
)

// SyncFolder makes the names in a folder survive a power cut: of files that were
// made, renamed or removed there before. What is in them it leaves as it is.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
