// Package disk holds what has to be known of file systems to keep a promise about
// them: that something is safe.
//
// A Beat finds out, behind a sync that went well, whether to believe it.
// SyncFolder makes the names in a folder safe. The package knows nothing of what
// is in the files, and starts nothing.
package disk
