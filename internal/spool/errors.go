package spool

import "fmt"

// InUseError says that another process has the spool open.
type InUseError struct {
	Dir string
	// PID is the process, 0 when that is not known.
	PID int
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("spool %s: in use by another process: one probe, one spool", e.Dir)
	}
	return fmt.Sprintf("spool %s: in use by process %d: one probe, one spool", e.Dir, e.PID)
}

// VersionError says that a file was written by another version of the format.
type VersionError struct {
	File string
	Got  uint32
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s: format %d, this program reads format %d: use the program that wrote it, or move the spool away",
		e.File, e.Got, formatVersion)
}

// DamageError says that a file without which nothing can be read is damaged.
type DamageError struct{ File, Problem string }

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: damaged: %s: move the spool away to start anew", e.File, e.Problem)
}

// NoSpoolError says that a directory holds no spool but something else.
type NoSpoolError struct {
	Dir string
	// File is one of the files there.
	File string
}

func (e *NoSpoolError) Error() string {
	return fmt.Sprintf("spool %s: is no spool: it holds %q", e.Dir, e.File)
}

// OwnerError says that the spool holds batches of something else.
type OwnerError struct {
	Dir string
	// What is "probe", "network" or "kind"; Has and Want are its values.
	What, Has, Want string
}

func (e *OwnerError) Error() string {
	return fmt.Sprintf("spool %s: it holds batches of %s %s, not of %s: send those first, or give another directory", e.Dir, e.What, e.Has, e.Want)
}

// DroppedError says that a range cannot be read from its segment any more.
type DroppedError struct {
	File   string
	Offset int64
	Err    error // nil: damaged
}

func (e *DroppedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s at byte %d: %v", e.File, e.Offset, e.Err)
	}
	return fmt.Sprintf("%s at byte %d: damaged", e.File, e.Offset)
}

// Unwrap returns Err.
func (e *DroppedError) Unwrap() error { return e.Err }
